"""A Redis at its `maxmemory` takes no more jobs, and everything that makes room goes on: nothing is sent twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from promptmill.errors import QueueFull
from promptmill.queue import Disposition, Effect, Renewal, Report, Settlement, Snooze
from promptmill.results import Status
from tests.support.queues import CLASS, LEASE, PLENTY, make_submission


@pytest.fixture(params=["valkey", "redis62"])
def server(request: pytest.FixtureRequest) -> str:
    """The fake one has no memory limit."""
    return request.param


@pytest.fixture
async def fill(redis) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Fills the memory when called; afterwards there is room again."""
    yield lambda: redis.config_set("maxmemory", "1")
    await redis.config_set("maxmemory", "0")


async def test_no_job_is_taken_in(bench, fill):
    await fill()
    with pytest.raises(QueueFull, match="does not take writes"):
        await bench.queue.submit([make_submission("a")])


async def test_jobs_that_run_are_renewed_settled_and_given_back(bench, fill):
    await bench.configure()
    await bench.submit("one", "two")
    one, two = (await bench.claim()).jobs
    await fill()
    assert await bench.queue.renew([one, two], LEASE) == [Renewal.OK, Renewal.OK]
    await bench.queue.block(CLASS, timedelta(seconds=1), "rate_limited")
    await bench.queue.report(Report(two, "bad_key", Effect.PARKS, 0.2, LEASE, LEASE))
    await bench.queue.snooze(Snooze(two, used=two.reserved))
    settlement = Settlement(one, Status.SUCCEEDED, b"result", timedelta(hours=1), "r", one.reserved)
    assert await bench.queue.settle([settlement]) == [True]


async def test_whatever_is_due_is_claimed(bench, fill):
    await bench.configure()
    await bench.submit("ready")
    await bench.submit("waits", not_before=bench.clock.time(1_000))
    await bench.submit("expires", deadline=bench.clock.time(1_000))
    await bench.redis.zadd("promptmill:queue", {"foreign": bench.clock()})
    await bench.submit("cancelled", lane="overnight")
    await fill()
    assert await bench.queue.cancel(["cancelled"]) == {"cancelled": "CANCELLED"}
    bench.clock.advance(1_000)
    claims = {claim.job_id: claim for claim in (await bench.claim()).jobs}
    assert {job_id: claim.disposition for job_id, claim in claims.items()} == {
        "ready": Disposition.RUN,
        "waits": Disposition.RUN,
        "expires": Disposition.EXPIRED,
        "cancelled": Disposition.CANCELLED,
        "foreign": Disposition.FOREIGN,
    }
    await bench.queue.adopt(claims["foreign"], make_submission("foreign"))


async def test_a_budget_can_be_configured(bench, fill):
    await fill()
    assert await bench.queue.configure("opus-5", PLENTY) is True
