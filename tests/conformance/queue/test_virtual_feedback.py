"""What answers say of the provider's buckets, in simulated hours: wrong limits, and others who use the same account."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction

import pytest
from redis.asyncio import Redis

from promptmill.jobs import Job, Lane
from promptmill.queue import Queue
from promptmill.settings import Settings
from promptmill.testing.simulator.bucket import ForeignDrain
from promptmill.testing.simulator.budget import Budget as Provider
from promptmill.testing.simulator.budget import Dimension
from promptmill.testing.simulator.config import Limits
from tests.support.virtual_fleet import Answer, VirtualFleet, open_budget, text_job

CLASS = "haiku-5-5"
ENOUGH = 2_000
MINUTE_NS = 60 * 10**9
STEADY = ForeignDrain(Fraction("0.2"))
WAVE = ForeignDrain(Fraction("0.4"), MINUTE_NS)


@pytest.fixture
async def redis(url_of: Callable[[str], str]) -> AsyncIterator[Redis]:
    client = Redis.from_url(url_of("valkey"))
    await client.flushall()
    yield client
    await client.aclose()


def rpm(limit: int, depth_s: float) -> Limits:
    return Limits(rpm=limit, itpm=10**9, otpm=10**9, depth=timedelta(seconds=depth_s))


@dataclass
class Account:
    """A fleet that works, for what it believes to be `setting` requests a minute, on an account of others too."""

    fleet: VirtualFleet
    provider: Provider
    redis: Redis

    @classmethod
    async def open(
        cls,
        redis: Redis,
        limits: Limits,
        *,
        setting: int | None = None,
        others: ForeignDrain | None = None,
        streamed: bool = False,
        pinned: bool = False,
    ) -> Account:
        clock = [1.8e12]
        settings = Settings.load(environ={}, rpm=setting or limits.rpm, itpm=limits.itpm, otpm=limits.otpm)
        queue = Queue(redis, clock=lambda: clock[0])
        await open_budget(queue, settings, pinned=pinned, warm_up=settings.warm_up)
        provider = Provider(limits, charge_max_tokens=False, foreign=others, now_ns=0)
        fleet = VirtualFleet(queue, clock, provider, settings, answer=lambda _job: Answer(41, 100, 1_000, streamed))
        numbers = itertools.count()

        def keep_enough_waiting() -> list[Job]:
            waiting = len(fleet.jobs) - fleet.tally.granted
            return [text_job(next(numbers), max_tokens=200) for _ in range(ENOUGH - waiting)]

        await fleet.run(0, producer=keep_enough_waiting)
        return cls(fleet, provider, redis)

    async def use(self, minutes: float) -> tuple[float, float]:
        """Go on for a time; the shares of the limit that we and others got in it."""
        bucket = self.provider.buckets[Dimension.REQUESTS]
        ours, theirs, limit = bucket.granted, bucket.taken_by_others, bucket.per_minute
        await self.fleet.run(minutes)
        return (bucket.granted - ours) / (limit * minutes), (bucket.taken_by_others - theirs) / (limit * minutes)

    async def rate(self) -> float:
        return float(await self.redis.hget(f"promptmill:budget:{CLASS}", "requests_rate") or 0)

    async def others(self) -> float | None:
        """The estimate of what others take."""
        stored = await self.redis.hget(f"promptmill:budget:{CLASS}", "requests_others")
        return None if stored is None else float(stored)

    @property
    def refused(self) -> int:
        return len(self.fleet.tally.refused)


@pytest.mark.parametrize(("depth_s", "least"), [(60, 0.999), (2, 0.99), (1, 0.99)])
async def test_a_bucket_known_to_be_deep_is_used_to_the_last_percent(
    redis: Redis, depth_s: float, least: float
) -> None:
    account = await Account.open(redis, rpm(600, depth_s))
    await account.use(10 / 60)
    ours, _ = await account.use(5)
    print(f"\n{depth_s} s deep: {ours:.1%} used, {account.refused} refused, {await account.others()} by others")
    assert account.refused == 0
    assert ours >= least
    assert await account.others() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(
    ("depth_s", "others", "how"),
    [(60, STEADY, "whole"), (60, WAVE, "whole"), (10, WAVE, "whole"), (2, WAVE, "whole"), (2, STEADY, "streamed")],
    ids=["steady", "wave", "wave, 10 s deep", "wave, 2 s deep", "steady, 2 s deep, streamed"],
)
async def test_others_get_their_share_and_nothing_is_wasted(
    redis: Redis, depth_s: float, others: ForeignDrain, how: str
) -> None:
    account = await Account.open(redis, rpm(600, depth_s), others=others, streamed=how == "streamed")
    ours, theirs = await account.use(10)
    print(f"\n{depth_s} s deep: {ours:.1%} + {theirs:.1%} by others, {account.refused} refused")
    assert ours + theirs >= 0.97
    assert theirs == pytest.approx(0.2, abs=0.005)
    assert account.refused <= 3


async def test_what_others_take_is_known(redis: Redis) -> None:
    account = await Account.open(redis, rpm(600, 60), others=STEADY)
    await account.use(5)
    assert await account.others() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("setting", [1_200, 300])
@pytest.mark.parametrize("depth_s", [60, 2])
async def test_a_wrong_setting_is_put_right_by_the_first_answers(redis: Redis, depth_s: float, setting: int) -> None:
    account = await Account.open(redis, rpm(600, depth_s), setting=setting)
    await account.use(0.5)
    assert await account.rate() == pytest.approx(597)
    ours, _ = await account.use(2)
    print(f"\n{setting} set instead of 600, {depth_s} s deep: {ours:.1%} used, {account.refused} refused")
    assert ours > 0.985
    assert account.refused <= 5


@pytest.mark.parametrize("depth_s", [60, 2])
async def test_a_limit_that_is_halved_while_requests_are_under_way_is_obeyed(redis: Redis, depth_s: float) -> None:
    account = await Account.open(redis, rpm(600, depth_s))
    await account.use(2)
    account.provider.change(
        rpm(300, depth_s), charge_max_tokens=False, foreign=None, now_ns=int((account.fleet.clock[0] - 1.8e12) * 1e6)
    )
    await account.use(0.5)
    assert await account.rate() == pytest.approx(298.5)
    ours, _ = await account.use(2)
    print(f"\nhalved, {depth_s} s deep: {ours:.1%} used, {account.refused} refused")
    assert ours > 0.985
    assert account.refused <= 5


async def test_a_pinned_limit_stays_whatever_the_provider_says(redis: Redis) -> None:
    account = await Account.open(redis, rpm(600, 60), setting=300, pinned=True)
    ours, _ = await account.use(2)
    assert 0.45 < ours <= 0.5


async def test_a_shallow_bucket_does_not_swing_when_others_come_and_go(redis: Redis) -> None:
    account = await Account.open(redis, rpm(600, 2), others=STEADY, streamed=True)
    await account.use(1)
    shares = [(await account.use(10 / 60))[0] for _ in range(12)]
    print("\n", [f"{share:.0%}" for share in shares])
    assert min(shares) > 0.78
    assert max(shares) < 0.82


def _by_its_length(job: Job) -> Answer:
    return Answer(math.ceil(len(job.request["messages"][0]["content"]) / 2.5), 50, 1_000)


async def test_nobody_waits_at_a_screen_for_the_debt_of_a_long_overnight_prompt(redis: Redis) -> None:
    clock, minutes = [1.8e12], 5
    settings = Settings.load(environ={}, rpm=1_000, itpm=500_000, otpm=10**9)
    limits = Limits(rpm=1_000, itpm=500_000, otpm=10**9, depth=timedelta(seconds=60))
    provider = Provider(limits, charge_max_tokens=False, foreign=None, now_ns=0)
    queue = Queue(redis, clock=lambda: clock[0])
    await open_budget(queue, settings, warm_up=settings.warm_up)
    fleet = VirtualFleet(queue, clock, provider, settings, answer=_by_its_length)
    numbers, chance = itertools.count(), random.Random(3)
    await fleet.submit(
        [text_job(next(numbers), max_tokens=100, characters=125_000, lane=Lane.OVERNIGHT) for _ in range(80)]
    )
    at = clock[0] + 15_000
    while at < clock[0] + minutes * 60_000:
        fleet.at(at, "submit", text_job(next(numbers), max_tokens=100, characters=1_000, lane=Lane.INTERACTIVE))
        fleet.at(at + 1, "claim", "w0", None)  # whom the submission wakes
        at += chance.expovariate(1 / 2_000)
    tally = await fleet.run(minutes)
    waits = sorted(fleet.waits(Lane.INTERACTIVE))
    used = provider.buckets[Dimension.INPUT_TOKENS].granted / (500_000 * minutes)
    print(f"\n{len(waits)} waits: longest {waits[-1]:.0f} ms; {used:.1%} used; {len(tally.refused)} refused")
    assert tally.refused == []
    assert waits[-1] < 100
    assert used > 0.97


async def test_a_bucket_of_one_request_is_used_as_far_as_jitter_lets_it(redis: Redis) -> None:
    """50 a minute, 1.2 s apart, and 40 ms that requests gain or lose on their way: 99 % would be 12 ms of room."""
    account = await Account.open(redis, rpm(50, 1.2))
    await account.use(1)
    before = account.refused
    ours, _ = await account.use(10)
    print(f"\none request deep: {ours:.1%} used, {account.refused - before} refused")
    assert account.refused == before
    assert ours >= 0.94
