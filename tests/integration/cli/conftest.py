from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner, Result

from producers.cli.options import load_settings
from producers.cli.root import promptmill
from promptmill.embedded import EmbeddedValkey
from promptmill.jobs import Job
from promptmill.pacing import paces
from promptmill.queue import Queue, connect, prepare
from promptmill.settings import Settings
from promptmill.store import ResultStore
from tests.integration.cli.api import running_api


@pytest.fixture(autouse=True)
def _a_machine_of_its_own(tmp_path, monkeypatch):
    """No setting, key or data of whoever runs the tests is seen or touched."""
    for name in os.environ:
        if name.startswith(("PROMPTMILL_", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("PROMPTMILL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)


class Machine:
    """A data directory with a queue and a store, and the command line in front of them."""

    def __init__(self, settings: Settings, valkey: EmbeddedValkey) -> None:
        self.settings = settings
        self.valkey = valkey

    def run(self, *args: str) -> Result:
        """Run a command in this process."""
        return CliRunner().invoke(promptmill, list(args), catch_exceptions=False)

    def on_queue(self, work: Callable[[Queue], Awaitable[Any]]) -> Any:
        """Do something to the queue."""

        async def connected() -> Any:
            redis = connect(self.valkey.url)
            try:
                return await work(Queue(redis))
            finally:
                await redis.aclose()

        return asyncio.run(connected())

    def on_store(self, work: Callable[[ResultStore], Awaitable[Any]]) -> Any:
        """Do something to the store."""

        async def opened() -> Any:
            async with await ResultStore.open(self.settings.store) as store:
                return await work(store)

        return asyncio.run(opened())

    def submit(self, *jobs: Job) -> None:
        """Queue jobs."""
        self.on_queue(lambda queue: queue.submit([prepare(job, self.settings) for job in jobs]))

    def configure(self, model_class: str) -> None:
        """Set a budget as a worker would."""
        pace = paces(
            self.settings.limits(model_class),
            headroom=self.settings.headroom,
            request_burst=self.settings.request_burst,
            token_burst=self.settings.token_burst,
        )
        self.on_queue(lambda queue: queue.configure(model_class, pace))


def job(job_id: str, **fields: Any) -> Job:
    request = {
        "model": fields.pop("model", "claude-haiku-5-5"),
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "Hello"}],
    }
    return Job(id=job_id, request=request, **fields)


@pytest.fixture
def make_job() -> Callable[..., Job]:
    return job


@pytest.fixture
def machine() -> Any:
    settings = load_settings()
    with EmbeddedValkey(settings.data_dir) as valkey:
        yield Machine(settings, valkey)


@pytest.fixture
def moment() -> datetime:
    return datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def api() -> Any:
    with running_api() as api:
        yield api
