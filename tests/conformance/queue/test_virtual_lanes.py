"""Hours of a busy account: who waits at a screen goes first, and nobody below starves."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from promptmill.jobs import Job, Lane
from promptmill.queue import Queue
from promptmill.settings import Settings
from promptmill.testing.simulator.budget import Budget as Provider
from promptmill.testing.simulator.config import Limits
from tests.support.virtual_fleet import Answer, VirtualFleet, open_budget, text_job

RPM = 600
SLOT_MS = 60_000 / (RPM * 0.99)


@pytest.fixture
async def redis(url_of: Callable[[str], str]) -> AsyncIterator[Redis]:
    client = Redis.from_url(url_of("valkey"))
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def fleet(redis: Redis) -> VirtualFleet:
    clock = [1.8e12]
    settings = Settings.load(environ={}, rpm=RPM, itpm=10**9, otpm=10**9)
    queue = Queue(redis, clock=lambda: clock[0])
    await open_budget(queue, settings)
    limits = Limits(rpm=RPM, itpm=10**9, otpm=10**9, depth=timedelta(seconds=1))
    provider = Provider(limits, charge_max_tokens=False, foreign=None, now_ns=0)
    return VirtualFleet(queue, clock, provider, settings, answer=lambda _job: Answer(41, 100, 1_000))


def _jobs(lane: Lane, numbers: itertools.count[int], count: int) -> list[Job]:
    return [text_job(next(numbers), max_tokens=200, lane=lane) for _ in range(count)]


async def test_interactive_jobs_hardly_wait_behind_a_hundred_thousand_overnight_ones(fleet: VirtualFleet) -> None:
    minutes, numbers, chance = 5.0, itertools.count(), random.Random(2)
    await fleet.submit(_jobs(Lane.OVERNIGHT, numbers, 100_000))
    at, arriving = fleet.clock[0] + 1_000, 0
    while at < fleet.clock[0] + minutes * 60_000:
        fleet.at(at, "submit", *_jobs(Lane.INTERACTIVE, numbers, 1))
        at, arriving = at + chance.uniform(1.1, 6) * SLOT_MS, arriving + 1
    tally = await fleet.run(minutes)
    waits = sorted(fleet.waits(Lane.INTERACTIVE))
    slots = waits[int(0.99 * len(waits))] / SLOT_MS
    overnight = len(fleet.waits(Lane.OVERNIGHT))
    print(f"\n{arriving} interactive: P99 {slots:.2f} slots; {overnight} overnight in the slots between them")
    assert tally.refused == []
    assert len(waits) >= arriving - 1
    assert slots <= 1.5
    assert overnight + len(waits) > 0.995 * minutes * RPM * 0.99


async def test_lower_lanes_get_their_shares_however_many_interactive_jobs_wait(fleet: VirtualFleet) -> None:
    numbers = itertools.count()
    for lane in Lane:
        await fleet.submit(_jobs(lane, numbers, 8_000))
    await fleet.run(10)
    claimed = Counter(fleet.jobs[job_id].lane for job_id in fleet.claimed_at)
    shares = {lane: count / claimed.total() for lane, count in claimed.items()}
    print(f"\n{ {lane.value: f'{share:.2%}' for lane, share in shares.items()} }")
    assert shares[Lane.STANDARD] == pytest.approx(0.05, rel=0.03)
    assert shares[Lane.OVERNIGHT] == pytest.approx(0.02, rel=0.03)


async def test_a_night_at_full_speed_is_no_debt_in_the_morning(fleet: VirtualFleet) -> None:
    numbers = itertools.count()
    await fleet.submit(_jobs(Lane.OVERNIGHT, numbers, 20_000))
    await fleet.run(10)
    at_night = len(fleet.waits(Lane.OVERNIGHT))
    await fleet.submit(_jobs(Lane.INTERACTIVE, numbers, 8_000))
    await fleet.run(10)
    in_the_morning = len(fleet.waits(Lane.OVERNIGHT)) - at_night
    assert in_the_morning == pytest.approx(0.02 * 10 * RPM * 0.99, rel=0.05)


async def test_fifty_thousand_jobs_of_one_tenant_do_not_delay_ten_of_another(fleet: VirtualFleet) -> None:
    await fleet.submit([text_job(number, max_tokens=200, tags={"tenant": "large"}) for number in range(50_000)])
    await fleet.run(1)
    small = [text_job(100_000 + number, max_tokens=200, tags={"tenant": "small"}) for number in range(10)]
    await fleet.submit(small)
    await fleet.run(1)
    waited = max(fleet.claimed_at[job.id] - fleet.submitted_at[job.id] for job in small)
    assert waited <= 20.5 * SLOT_MS  # every other slot
