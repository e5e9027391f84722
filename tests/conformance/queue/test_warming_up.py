"""A budget that has rested comes to its rate evenly: use that jumps looks like an accident to the provider."""

from __future__ import annotations

from datetime import timedelta

import pytest

from promptmill.pacing import Cost, Pace
from promptmill.queue import Settlement
from promptmill.results import Status
from tests.support.queues import CLASS, PLENTY, START, ids

A_SECOND = timedelta(seconds=1)
RESTED = timedelta(seconds=60)


async def configure(bench, warm_up=timedelta(seconds=8), **paces):
    await bench.queue.configure(CLASS, {**PLENTY, "requests": Pace(600, 1), **paces}, warm_up=warm_up)
    await bench.redis.hset(f"promptmill:budget:{CLASS}", mapping={f"{d}_tat": START for d in PLENTY})


async def distances(bench, requests):
    """How long (ms) each of so many requests, sent as soon as they may be, keeps the next one back."""
    found = []
    for number in range(requests):
        await bench.submit(f"{bench.clock()}-{number}")
        (claim,) = (await bench.claim()).jobs
        await bench.queue.settle([Settlement(claim, Status.SUCCEEDED)])
        found.append((await bench.tats())["requests"])
        bench.clock.advance(found[-1] + 0.01)
    return found


async def test_the_first_request_goes_at_once_and_the_next_at_a_quarter_of_the_rate(bench):
    await configure(bench)
    first, second, third = await distances(bench, 3)
    assert first == 400
    assert first > second > third > 300


async def test_the_whole_rate_is_reached_in_time_and_kept(bench):
    await configure(bench)
    began = bench.clock()
    while bench.clock() - began < 8_000:
        await distances(bench, 1)
    assert await distances(bench, 3) == [100, 100, 100]


async def test_a_pause_of_less_than_a_minute_is_no_rest(bench):
    await configure(bench)
    bench.clock.advance(RESTED)
    await distances(bench, 90)
    last = float(await bench.redis.hget(f"promptmill:budget:{CLASS}", "charged_at"))
    bench.clock.now = last + 59_999
    assert await distances(bench, 1) == [100]
    bench.clock.now = last + 59_999 + 60_000
    assert await distances(bench, 1) == [400]


async def test_a_long_prompt_is_put_off_by_what_the_start_withholds_and_not_by_its_length(bench):
    await configure(bench, input=Pace(600_000, 10_000))
    await bench.submit("long", cost=Cost(1, 100_000, 1))
    assert ids(await bench.claim()) == ["long"]
    # 10 s at the whole rate; of the 8 s in which the rate grows from a quarter, 3 are lost.
    assert (await bench.tats())["input"] == pytest.approx(13_000)


async def test_without_a_warm_up_a_budget_goes_at_its_whole_rate(bench):
    await configure(bench, warm_up=timedelta(0))
    assert await distances(bench, 2) == [100, 100]


async def test_a_start_after_use_rose_too_fast_is_no_steeper_than_what_the_provider_bore(bench):
    await configure(bench)
    await bench.queue.block(CLASS, A_SECOND, "ramp_limited")
    bench.clock.advance(timedelta(minutes=30))
    assert await distances(bench, 1) == [400]
    bench.clock.advance(timedelta(seconds=59))
    # A quarter and, after a minute, a tenth.
    assert await distances(bench, 1) == [pytest.approx(100 / 0.35, rel=0.01)]


async def test_after_a_day_a_steep_rise_is_forgotten(bench):
    await configure(bench)
    await bench.queue.block(CLASS, A_SECOND, "ramp_limited")
    bench.clock.advance(timedelta(days=1))
    await distances(bench, 1)
    bench.clock.advance(timedelta(seconds=8))
    assert await distances(bench, 1) == [100]


async def test_a_budget_that_is_still_coming_back_from_a_refusal_does_not_start_anew(bench):
    await configure(bench)
    await bench.queue.block(CLASS, A_SECOND, "ramp_limited")
    bench.clock.advance(61_000)
    assert await distances(bench, 1) == [pytest.approx(100 / 0.6, rel=0.01)]
