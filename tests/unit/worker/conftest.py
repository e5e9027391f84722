from __future__ import annotations

import os

import pytest
from pytest_socket import disable_socket, enable_socket

from tests.support.workers import leaves_no_task, workshop

_leaves_no_task = pytest.fixture(autouse=True)(leaves_no_task)


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No setting or key of whoever runs the tests is seen, and nothing leaves this process."""
    for name in os.environ:
        if name.startswith(("PROMPTMILL_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    disable_socket(allow_unix_socket=True)  # event loops wake themselves over one
    yield
    enable_socket()


@pytest.fixture
async def shop(tmp_path):
    async with workshop(tmp_path) as made:
        yield made
