from __future__ import annotations

import fakeredis
import pytest

from producers import Client, Settings
from promptmill.queue import Queue
from tests.unit.producers.tiny_worker import TinyWorker


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Settings.load(environ={})


@pytest.fixture
async def redis():
    async with fakeredis.FakeAsyncRedis() as redis:
        yield redis


@pytest.fixture
async def client(settings, redis):
    async with Client(settings, redis=redis) as client:
        yield client


@pytest.fixture
def worker(redis):
    return TinyWorker(Queue(redis))
