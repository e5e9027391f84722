"""Redis goes away and comes back while a worker has calls under way."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from promptmill.errors import QueueUnavailable
from promptmill.queue import keys
from promptmill.results import Status
from promptmill.store import ResultStore
from tests.support.engines import Ends, engines
from tests.support.processes import valkey
from tests.support.providers import Held, answering
from tests.support.workers import make_job

LEASE = timedelta(milliseconds=300)


class Server:
    """A Valkey that keeps its data, and can be stopped and started again at the same address."""

    def __init__(self, url, server) -> None:
        self.url = url
        self._server = server

    async def stop(self) -> None:
        self._server._desired_port = self._server.port
        await asyncio.to_thread(self._server.stop)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)


@pytest.fixture
def server(tmp_path):
    with valkey(tmp_path / "valkey") as (url, server):
        yield Server(url, server)


@pytest.fixture
async def mill(server, tmp_path):
    async with engines(server.url, tmp_path) as made:
        yield made


@pytest.fixture
def recorded(monkeypatch):
    """Set when results have been committed."""
    event = asyncio.Event()
    record = ResultStore.record

    async def tell(store, entries):
        await record(store, entries)
        event.set()

    monkeypatch.setattr(ResultStore, "record", tell)
    return event


async def test_a_restart_under_way_costs_no_request_and_loses_no_job(mill, server):
    held = Held()
    mill.api.script = [held]
    async with mill.worker() as worker:
        await mill.submit(make_job("under-way"), make_job("waits", not_before=datetime.now(UTC) + timedelta(hours=1)))
        await mill.api.arrival()
        await server.stop()
        held.release()
        worker.engine._wake.set()
        await worker.says("redis_away")
        await server.start()
        async with Ends().listening(mill.redis) as ends:
            await mill.submit(make_job("new"))
            await ends.of("new")
            await worker.finished()
    assert mill.api.jobs == ["under-way", "new"]
    assert await mill.redis.zrange(keys.QUEUE, 0, -1) == [b"waits"]
    for job_id in mill.api.jobs:
        assert (await mill.store.result(job_id)).status is Status.SUCCEEDED


async def test_an_answer_that_comes_while_redis_is_away_is_committed_at_once(mill, server, recorded):
    """Its lease stands by this process' own clock: the row need not wait for Redis (I6)."""
    held = Held()
    mill.api.script = [held]
    async with mill.worker() as worker:
        await mill.submit(make_job())
        await mill.api.arrival()
        await server.stop()
        held.release()
        await recorded.wait()
        assert (await mill.store.result("job-1")).ok
        await server.start()
        await worker.finished()
    assert mill.api.jobs == ["job-1"]
    assert await mill.redis.zcard(keys.QUEUE) == 0


async def test_back_after_longer_than_a_lease_a_worker_renews_before_it_claims(mill):
    """Its jobs have come due: it would take over its own calls, and pay for them twice."""
    mill.api.script = [Held()]
    async with mill.worker() as worker:
        await mill.submit(make_job())
        await mill.api.arrival()
        order = []
        queue = worker.engine._queue
        claim, renew = queue.claim, queue.renew

        async def claims(**how):
            order.append("claim")
            return await claim(**how)

        async def renews(*args):
            order.append("renew")
            return await renew(*args)

        queue.claim, queue.renew = claims, renews
        worker.engine._redis_is_away = True
        worker.engine._wake.set()
        await worker.idle()
    assert order[:2] == ["renew", "claim"]


async def test_a_worker_that_is_stopped_while_redis_is_away_ends(mill, server):
    """What it could not settle is committed; the jobs come due by themselves."""
    held = Held()
    mill.api.script = [held]
    async with mill.worker(lease=LEASE) as worker:
        await mill.submit(make_job("answered"), make_job("not-yet"))
        await mill.api.arrival(2)
        await server.stop()
        worker.engine.handle_sig(15)
        worker.engine.handle_sig(15)
        await worker.ended()
    await server.start()
    mill.api.script = [answering()]
    async with mill.worker(lease=LEASE, burst=True, idle=False) as next_one:
        await next_one.ended()
    assert {(await mill.store.result(job_id)).status for job_id in ("answered", "not-yet")} == {Status.SUCCEEDED}


async def test_a_worker_that_finds_no_redis_at_its_start_says_so(mill, server):
    await server.stop()
    async with mill.worker(dies=True, idle=False) as worker:
        with pytest.raises(QueueUnavailable):
            await worker.ended()
    await server.start()
