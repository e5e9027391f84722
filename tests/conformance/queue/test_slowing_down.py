"""After the provider refused a request: one pause for everybody, half the rate, and evenly back to all of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from promptmill.pacing import Pace
from promptmill.queue import Settlement
from promptmill.results import Status
from tests.support.queues import CLASS, ids

TEN_A_SECOND = Pace(rate=600, burst=1)
A_SECOND = timedelta(seconds=1)


async def busy(bench, jobs=1_000):
    await bench.configure(requests=TEN_A_SECOND)
    await bench.submit(*(f"j{number}" for number in range(jobs)))


async def sent_within(bench, seconds):
    """How many requests are granted to workers that come as they are told."""
    sent, end = 0, bench.clock() + seconds * 1_000
    while True:
        claims = await bench.claim()
        for claim in claims.jobs:
            await bench.queue.settle([Settlement(claim, Status.SUCCEEDED)])
        sent += len(claims.jobs)
        if bench.clock() + claims.wait / timedelta(milliseconds=1) >= end:
            bench.clock.now = end
            return sent
        bench.clock.advance(claims.wait)


async def share(bench):
    stored = await bench.redis.hget(f"promptmill:budget:{CLASS}", "ramp_share")
    return None if stored is None else float(stored)


async def test_requests_go_at_twice_the_distance_after_a_refusal(bench):
    await busy(bench)
    await bench.queue.block(CLASS, A_SECOND, "rate_limited")
    assert (await bench.claim()).wait == A_SECOND
    bench.clock.advance(1_000)
    claims = await bench.claim()
    assert (ids(claims), claims.wait) == (["j0"], timedelta(milliseconds=200))
    bench.clock.advance(200)
    assert ids(await bench.claim()) == ["j1"]


async def test_half_a_minute_brings_back_the_whole_rate(bench):
    await busy(bench)
    await bench.queue.block(CLASS, A_SECOND, "rate_limited")
    bench.clock.advance(1_000)
    assert await sent_within(bench, 30) == pytest.approx(0.75 * 300, abs=2)
    assert await sent_within(bench, 10) == pytest.approx(100, abs=1)


async def test_use_that_rose_too_fast_comes_back_by_a_tenth_a_minute(bench):
    await busy(bench)
    await bench.queue.block(CLASS, A_SECOND, "ramp_limited")
    bench.clock.advance(1_000)
    assert await sent_within(bench, 60) == pytest.approx(0.55 * 600, abs=3)


async def test_a_ramp_is_not_made_steeper_by_a_refusal_of_another_kind(bench):
    await busy(bench)
    await bench.queue.block(CLASS, A_SECOND, "ramp_limited")
    bench.clock.advance(2_000)
    await bench.queue.block(CLASS, A_SECOND, "rate_limited")
    bench.clock.advance(1_000)
    assert await sent_within(bench, 30) == pytest.approx((0.25 + 0.025) * 300, abs=3)


async def test_refusals_of_what_was_under_way_slow_down_once(bench):
    await bench.configure()
    await bench.submit("a", "b", "c")
    for claim in (await bench.claim()).jobs:
        bench.clock.advance(300)
        await bench.queue.block(CLASS, A_SECOND, "rate_limited", refused=claim)
        assert await share(bench) == 0.5
    bench.clock.advance(1_000)
    await bench.submit("d")
    assert ids(await bench.claim()) == ["d"]


async def test_a_refusal_of_what_was_sent_since_slows_down_further(bench):
    await busy(bench)
    for expected in (0.5, 0.25, 0.125, 0.0625, 0.0625):
        claim = await bench.claim_one()
        await bench.queue.block(CLASS, A_SECOND, "rate_limited", refused=claim)
        assert await share(bench) == pytest.approx(expected, abs=0.01)
        await bench.queue.settle([Settlement(claim, Status.FAILED)])
        bench.clock.advance(3_000 if expected < 0.1 else 1_000)


async def test_a_parked_budget_goes_on_at_its_rate(bench):
    await busy(bench)
    await bench.queue.block(CLASS, A_SECOND, "spend_limit_reached")
    bench.clock.advance(1_000)
    assert await share(bench) is None
    assert await sent_within(bench, 10) == pytest.approx(100, abs=1)


async def test_who_lifts_a_block_lifts_the_slow_down_with_it(bench):
    await busy(bench)
    await bench.queue.block(CLASS, A_SECOND, "rate_limited")
    await bench.queue.block(CLASS, timedelta(0), "")
    assert await sent_within(bench, 10) == pytest.approx(100, abs=1)


async def test_nobody_wakes_together_after_a_pause(bench):
    """Eight workers were refused at once: one request goes when the pause ends, and the next one a slot later."""
    await busy(bench)
    await bench.queue.block(CLASS, timedelta(seconds=7), "rate_limited")
    assert [len((await bench.claim(worker=f"w{number}")).jobs) for number in range(8)] == [0] * 8
    bench.clock.advance(7_000)
    sent = [len((await bench.claim(worker=f"w{number}")).jobs) for number in range(8)]
    assert sum(sent) == 1
    bench.clock.advance(200)
    sent = [len((await bench.claim(worker=f"w{number}")).jobs) for number in range(8)]
    assert sum(sent) == 1
