"""The provider's status page, asked while requests come to nothing: shown, believed in nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from promptmill.queue import keys
from promptmill.queue.status_page import PageSays, page_says
from worker.status_page import StatusPage

NOW = datetime(2026, 11, 22, 22, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def page(indicator: object, description: object = "Major Service Outage") -> bytes:
    return json.dumps({"page": {"id": "x"}, "status": {"indicator": indicator, "description": description}}).encode()


class Server:
    """Answers every request on a loopback port with the same bytes."""

    def __init__(self) -> None:
        self.url = ""
        self.body: bytes | None = page("major")
        self.status = "200 OK"
        self.requests: list[bytes] = []

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v2/status.json"
        async with server:
            yield self

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        if self.body is not None:
            head = f"HTTP/1.1 {self.status}\r\ncontent-length: {len(self.body)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + self.body)
        writer.close()


class Watch:
    """Looks as a worker does, at times of its own."""

    def __init__(self, mill, server: Server) -> None:
        self.mill = mill
        self.server = server
        self.now = NOW

    async def look(self, worker: str = "w1") -> PageSays | None:
        await StatusPage(self.server.url, self.mill.queue, worker=worker, now=lambda: self.now).look()
        return await page_says(self.mill.redis)

    async def next(self) -> PageSays | None:
        self.now += MINUTE
        await self.mill.redis.delete(keys.STATUS_PAGE_TURN)
        return await self.look()

    async def go_out(self, effect: str = "trips") -> None:
        await self.mill.redis.sadd(keys.BUDGETS, "haiku-5-5")
        until = (await self.mill.redis.time())[0] * 1000 + 20_000
        out = {"open_since": 1, "open_until": 0, "open_effect": effect, "probe_at": until, "probe_every": 30_000}
        await self.mill.redis.hset(keys.BUDGET + "haiku-5-5", mapping=out)

    async def probe_at(self) -> float:
        return float(await self.mill.redis.hget(keys.BUDGET + "haiku-5-5", "probe_at"))


@pytest.fixture
async def watch(mill) -> AsyncIterator[Watch]:
    async with Server().serving() as server:
        yield Watch(mill, server)


async def test_nobody_asks_while_all_is_well_or_the_account_is_refused(watch):
    assert await watch.look() is None
    await watch.go_out("parks")
    assert (await watch.look(), watch.server.requests) == (None, [])


@pytest.mark.parametrize("trouble", ["out", "failing"])
async def test_one_worker_asks_in_a_minute_and_sends_no_key(watch, trouble):
    await watch.go_out()
    if trouble == "failing":
        await watch.mill.redis.hdel(keys.BUDGET + "haiku-5-5", "open_since")
        await watch.mill.redis.hset(keys.BUDGET + "haiku-5-5", "failures", 1)
    for worker in ("w1", "w2", "w1"):
        said = await watch.look(worker)
    assert said == PageSays("major", "Major Service Outage", NOW)
    (request,) = watch.server.requests
    assert request.startswith(b"GET /api/v2/status.json ")
    assert b"authorization" not in request.lower()
    assert 50_000 < await watch.mill.redis.pttl(keys.STATUS_PAGE_TURN) <= 60_000


async def test_what_it_says_is_logged_when_it_changes_and_dated_since_then(watch):
    await watch.go_out()
    with capture_logs() as logs:
        await watch.look()
        assert (await watch.next()).since == NOW
        watch.server.body = page("minor", "Elevated errors")
        assert await watch.next() == PageSays("minor", "Elevated errors", NOW + 2 * MINUTE)
    assert logs == [
        {"event": "provider_says", "log_level": "info", "indicator": indicator, "description": description}
        for indicator, description in (("major", "Major Service Outage"), ("minor", "Elevated errors"))
    ]


async def test_when_it_tells_of_an_outage_no_more_the_next_probe_goes_at_once(watch):
    await watch.go_out()
    before = await watch.probe_at()
    await watch.look()
    await watch.next()
    assert await watch.probe_at() == before, "what it says of an outage changes nothing"
    watch.server.body = page("none", "All Systems Operational")
    await watch.next()
    hastened = await watch.probe_at()
    assert hastened < before - 10_000
    await watch.go_out()
    await watch.next()
    assert await watch.probe_at() > hastened, "once: while it goes on saying so it may be wrong"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b'{"status": "up"}',
        b'{"status": {}}',
        page(["none"]),
        page("purple"),
        None,
        b"x" * 200_000,
        "an error",
    ],
    ids=lambda body: str(body)[:20],
)
async def test_whatever_else_it_answers_means_nothing(watch, body):
    await watch.go_out()
    await watch.look()
    if body == "an error":
        watch.server.status, watch.server.body = "503 Service Unavailable", page("none")
    else:
        watch.server.body = body
    before = await watch.probe_at()
    with capture_logs() as logs:
        assert await watch.next() is None
        watch.server.status, watch.server.body = "200 OK", page("none")
        assert (await watch.next()).indicator == "none"
    assert [entry["event"] for entry in logs] == ["provider_says"]
    assert await watch.probe_at() == before, "nobody knows what it said in between"


async def test_where_nobody_answers_it_says_nothing(watch):
    await watch.go_out()
    watch.server.url = "http://127.0.0.1:1/api/v2/status.json"
    assert await watch.look() is None


def test_its_words_are_cut_and_made_harmless():
    said = PageSays.read(page("minor", "bad\x1b[31m\n" + "x" * 500), NOW)
    assert said.description.startswith("bad [31m x")
    assert len(said.description) == 100
    assert PageSays.read(page("critical", None), NOW).description == "critical"


async def test_a_stored_page_that_somebody_damaged_says_nothing(watch):
    await watch.mill.redis.set(keys.STATUS_PAGE, "garbage")
    assert await page_says(watch.mill.redis) is None
