"""Hours of a fleet of eight workers in seconds: how much of the limit is used, and that nothing is refused.

The clock is ours, the scripts and the server are real, and the provider is the simulator's exact token buckets.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from promptmill.jobs import Job
from promptmill.queue import Queue
from promptmill.settings import Settings
from promptmill.testing.simulator.budget import Budget as Provider
from promptmill.testing.simulator.budget import Dimension
from promptmill.testing.simulator.config import Limits
from tests.support.virtual_fleet import Answer, VirtualFleet, open_budget, text_job

ENOUGH = 2_000
"""Jobs that are kept waiting: the budget is what is scarce."""


@pytest.fixture
async def redis(url_of: Callable[[str], str]) -> AsyncIterator[Redis]:
    client = Redis.from_url(url_of("valkey"))
    await client.flushall()
    yield client
    await client.aclose()


async def drain(
    redis: Redis,
    limits: Limits,
    *,
    minutes: float,
    job: Callable[[int], Job],
    answer: Callable[[Job], Answer],
    expected_output_tokens: int = 500,
) -> tuple[VirtualFleet, dict[Dimension, float]]:
    """Let a fleet work; it, and the share of each limit that was used in the second half."""
    assert limits.rpm
    assert limits.itpm
    assert limits.otpm
    clock = [1.8e12]
    settings = Settings.load(
        environ={},
        rpm=limits.rpm,
        itpm=limits.itpm,
        otpm=limits.otpm,
        expected_output_tokens=expected_output_tokens,
    )
    queue = Queue(redis, clock=lambda: clock[0])
    await open_budget(queue, settings)
    provider = Provider(limits, charge_max_tokens=False, foreign=None, now_ns=0)
    fleet = VirtualFleet(queue, clock, provider, settings, answer=answer)
    numbers = itertools.count()

    def keep_enough_waiting() -> list[Job]:
        waiting = len(fleet.jobs) - fleet.tally.granted
        return [job(next(numbers)) for _ in range(ENOUGH - waiting)]

    await fleet.run(minutes / 2, producer=keep_enough_waiting)
    before = {dimension: bucket.granted for dimension, bucket in provider.buckets.items()}
    await fleet.run(minutes / 2)
    return fleet, {
        dimension: (bucket.granted - before[dimension]) / (bucket.per_minute * minutes / 2)
        for dimension, bucket in provider.buckets.items()
    }


def _short_answer(_job: Job) -> Answer:
    return Answer(input_tokens=41, output_tokens=100, generation_ms=1_000)


@pytest.mark.parametrize("depth_s", [60, 2, 1])
@pytest.mark.parametrize(("rpm", "minutes"), [(600, 6.0), (10_000, 0.5)])
async def test_evenly_spaced_requests_use_the_limit_however_shallow_the_bucket(
    redis: Redis, rpm: int, minutes: float, depth_s: int
) -> None:
    limits = Limits(rpm=rpm, itpm=10**9, otpm=10**9, depth=timedelta(seconds=depth_s))
    fleet, used = await drain(
        redis, limits, minutes=minutes, job=lambda number: text_job(number, max_tokens=200), answer=_short_answer
    )
    share = used[Dimension.REQUESTS]
    print(f"\n{rpm} a minute, {depth_s} s deep: {share:.1%} used, {len(fleet.tally.refused)} refused")
    assert fleet.tally.refused == []
    assert share >= 0.99


@pytest.mark.parametrize("depth_s", [60, 10])
async def test_heavy_tailed_answers_use_the_output_limit(redis: Redis, depth_s: int) -> None:
    chance = random.Random(5)

    def heavy_tailed(_job: Job) -> Answer:
        tokens = int(min(4_096, max(1, chance.lognormvariate(math.log(500) - 0.5, 1.0))))
        return Answer(input_tokens=41, output_tokens=tokens, generation_ms=chance.uniform(5_000, 20_000))

    limits = Limits(rpm=10_000, itpm=10**9, otpm=80_000, depth=timedelta(seconds=depth_s))
    fleet, used = await drain(
        redis, limits, minutes=30, job=lambda number: text_job(number, max_tokens=4_096), answer=heavy_tailed
    )
    print(f"\n{depth_s} s deep: {used[Dimension.OUTPUT_TOKENS]:.1%} used, {len(fleet.tally.refused)} refused")
    assert fleet.tally.refused == []
    assert used[Dimension.OUTPUT_TOKENS] > 0.97


@pytest.mark.parametrize("expected", [125, 2_000])
async def test_a_wrong_estimate_of_answers_is_put_right_within_five_minutes(redis: Redis, expected: int) -> None:
    chance = random.Random(7)

    def heavy_tailed(_job: Job) -> Answer:
        tokens = int(min(4_096, max(1, chance.lognormvariate(math.log(500) - 0.5, 1.0))))
        return Answer(input_tokens=41, output_tokens=tokens, generation_ms=chance.uniform(5_000, 20_000))

    limits = Limits(rpm=10_000, itpm=10**9, otpm=80_000, depth=timedelta(seconds=60))
    fleet, used = await drain(
        redis,
        limits,
        minutes=10,
        job=lambda number: text_job(number, max_tokens=4_096, tags={"kind": "essay"}),
        answer=heavy_tailed,
        expected_output_tokens=expected,
    )
    share = used[Dimension.OUTPUT_TOKENS]
    print(f"\n{expected} expected instead of 500: {share:.1%} used, {len(fleet.tally.refused)} refused")
    assert fleet.tally.refused == []
    assert share > 0.97


@pytest.mark.parametrize("depth_s", [60, 10])
async def test_prompts_of_very_different_size_use_the_input_limit_and_none_starves(redis: Redis, depth_s: int) -> None:
    def of_any_size(number: int) -> Job:
        tokens = math.exp(random.Random(number).uniform(math.log(50), math.log(50_000)))
        return text_job(number, max_tokens=100, characters=int(2.5 * tokens))

    def short(job: Job) -> Answer:
        return Answer(math.ceil(len(job.request["messages"][0]["content"]) / 2.5), 50, 1_000)

    limits = Limits(rpm=10_000, itpm=500_000, otpm=10**9, depth=timedelta(seconds=depth_s))
    fleet, used = await drain(redis, limits, minutes=20, job=of_any_size, answer=short)
    answered = [int(job_id.removeprefix("job-")) for job_id in fleet.answered]
    print(f"\n{depth_s} s deep: {used[Dimension.INPUT_TOKENS]:.1%} used, {len(fleet.tally.refused)} refused")
    assert fleet.tally.refused == []
    assert used[Dimension.INPUT_TOKENS] > 0.97
    # In the order of submission, but for those that were under way at the end: nobody was passed over.
    assert len(set(range(max(answered))) - set(answered)) <= len(fleet.under_way)
