from __future__ import annotations

import os

import pytest
from pytest_socket import _remove_restrictions, socket_allow_hosts

from tests.support.engines import engines
from tests.support.queues import running_server
from tests.support.workers import leaves_no_task

_leaves_no_task = pytest.fixture(autouse=True)(leaves_no_task)


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No setting or key of whoever runs the tests is seen, and nothing leaves this machine."""
    for name in os.environ:
        if name.startswith(("PROMPTMILL_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    socket_allow_hosts(["127.0.0.1", "localhost"], allow_unix_socket=True)
    yield
    _remove_restrictions()


@pytest.fixture(scope="session")
def valkey_url():
    with running_server("valkey") as url:
        yield url


@pytest.fixture
async def mill(valkey_url, tmp_path):
    """Everything but the workers."""
    async with engines(valkey_url, tmp_path) as made:
        yield made
