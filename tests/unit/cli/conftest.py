from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _a_machine_of_its_own(tmp_path, monkeypatch):
    """No setting, key or data of whoever runs the tests is seen or touched."""
    for name in os.environ:
        if name.startswith(("PROMPTMILL_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.chdir(tmp_path)
