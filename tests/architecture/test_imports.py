"""Who imports whom: the contracts in .importlinter, and what is really loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parents[2]
HEAVY = ("worker", "arq", "anthropic", "sqlalchemy", "alembic", "aiosqlite", "asyncpg", "pyarrow")


def test_the_import_contracts_are_kept(capsys):
    status = lint_imports(config_filename=str(ROOT / ".importlinter"), no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


@pytest.mark.parametrize(
    "module", ["promptmill", "promptmill.queue", "promptmill.settings", "promptmill.embedded", "producers"]
)
def test_what_a_web_app_imports_stays_light(module):
    """An app that only submits has none of these installed."""
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
