"""Waiting for results on a real server that goes away and comes back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from producers import Client, QueueUnavailable, ResultNotFound, Submitted
from promptmill.queue import keys
from tests.unit.producers.signs import listened_for, listeners, until


class Gate:
    """A way to the server that can be cut, while the server itself goes on."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(self._socket)
        self._writers += [writer, inner_writer]
        await asyncio.gather(self._copy(reader, inner_writer), self._copy(inner_reader, writer))

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


async def test_a_wait_survives_a_restart_of_redis(client, server, redis, worker):
    handle = await client.submit("hello")
    waiting = asyncio.create_task(handle.result(60))
    await listened_for(redis, handle.job_id)

    await server.restart()
    await listened_for(redis, handle.job_id)
    assert not waiting.done()
    await worker.drain()

    assert (await waiting).text == "HELLO"


async def test_a_result_that_came_while_the_client_was_cut_off_is_found(settings, server, redis, worker):
    gate = Gate(server.socket)
    await gate.open()
    async with Client(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{gate.port}"})) as client:
        handles = await client.submit_many([f"prompt {n}" for n in range(50)])
        waiting = asyncio.gather(*[handle.result(60) for handle in handles])
        await listened_for(redis, handles[-1].job_id)

        await gate.cut()
        await worker.drain()
        assert not waiting.done()
        await gate.open()

        assert [result.text for result in await waiting] == [f"PROMPT {n}" for n in range(50)]
    await gate.cut()


async def test_a_connection_that_the_server_closes_is_made_again(client, redis, worker):
    handle = await client.submit("hello")
    waiting = asyncio.create_task(handle.result(60))
    await listened_for(redis, handle.job_id)

    assert await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
    await worker.drain()

    assert (await waiting).text == "HELLO"


async def test_a_job_that_redis_forgot_is_said_to_be_unknown(client, redis):
    handle = await client.submit("hello")
    waiting = asyncio.create_task(handle.result(60))
    await listened_for(redis, handle.job_id)

    await redis.flushall()
    await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

    with pytest.raises(ResultNotFound):
        await waiting


async def test_while_redis_is_away_submitting_fails_and_waiting_goes_on(client, server, redis, worker):
    handle = await client.submit("hello", id="kept")
    waiting = asyncio.create_task(handle.result(60))
    await listened_for(redis, handle.job_id)
    await asyncio.to_thread(server.kill)

    with pytest.raises(QueueUnavailable, match="Redis does not answer"):
        await client.submit("now")
    with pytest.raises(TimeoutError):
        await client.result("kept", 0.05)
    assert not waiting.done()

    await asyncio.to_thread(server.start)
    again = await client.submit("hello", id="kept")
    await worker.drain()
    assert again.submitted is Submitted.THERE_ALREADY
    assert (await waiting).text == "HELLO"


async def test_thousands_of_waits_and_submissions_use_two_connections(client, redis, worker):
    before = len(await redis.client_list())
    asking = [asyncio.create_task(client.ask(f"prompt {n}", id=f"job-{n}")) for n in range(5_000)]
    await until(lambda: listeners(redis, f"{keys.DONE_CHANNEL}job-4999"))

    # Submissions and look-ups may overlap: one connection each, and the one that listens.
    assert len(await redis.client_list()) - before <= 3
    await worker.drain()

    results = await asyncio.gather(*asking)
    assert [result.text for result in results] == [f"PROMPT {n}" for n in range(5_000)]
