"""promptmill.pacing and the scripts are the same arithmetic: compared step by step on random schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptmill.jobs import Lane
from promptmill.pacing import DIMENSIONS, GROWTH, Bucket, Budget, Cost, Pace, Ramp, Reading
from promptmill.queue import Claim, Settlement, Snooze
from promptmill.results import Status
from tests.support.effort import cases
from tests.support.queues import CLASS, START, Bench

TOLERANCE_MS = 0.002
"""TATs are stored to the microsecond."""
FOR_EVER = timedelta(days=10_000)

paces = st.builds(
    lambda rate, seconds: Pace(rate, max(1.0, rate * seconds / 60)),
    st.floats(min_value=0.5, max_value=5_000_000),
    st.floats(min_value=0, max_value=10),
)
costs = st.builds(Cost, st.just(1), st.integers(1, 200_000), st.integers(1, 20_000))


@dataclass(frozen=True)
class Submit:
    """Another job, at the end of the lane."""

    cost: Cost


@dataclass(frozen=True)
class ClaimOne:
    """Somebody asks for the head of the lane."""

    later_ms: float


@dataclass(frozen=True)
class Report:
    """What the oldest running job used, as a multiple of its reservation; None: nobody knows."""

    share: float | None
    later_ms: float
    snoozed: bool


@dataclass(frozen=True)
class Block:
    """Somebody lets the budget rest; for the oldest running request, or for nobody knows which."""

    for_ms: int
    reason: str
    known: bool


@dataclass(frozen=True)
class Answer:
    """A job is submitted and claimed, and the answer says something of the provider's buckets.

    By dimension: its limit as a multiple of the setting, and what is left as a share of that; None: not a word.
    """

    cost: Cost
    later_ms: float
    latency_ms: float
    says: dict[str, tuple[float | None, float | None]]


gaps = st.one_of(st.just(0.0), st.floats(0.001, 500), st.floats(500, 100_000))
steps = st.one_of(
    st.builds(Submit, costs),
    st.builds(ClaimOne, gaps),
    st.builds(ClaimOne, gaps),
    st.builds(Report, st.none() | st.floats(0, 3), gaps, st.booleans()),
    st.builds(Block, st.integers(1, 10_000), st.sampled_from([*GROWTH, "spend_limit"]), st.booleans()),
)

ample = st.builds(lambda rate: Pace(rate * 0.99, rate / 10, rate), st.floats(600, 1_000_000))
answers = st.builds(
    Answer,
    st.builds(Cost, st.just(1), st.integers(1, 200), st.integers(1, 200)),
    st.one_of(st.floats(0.001, 500), st.floats(5_000, 15_000), st.just(70_000.0)),
    st.floats(0, 2_000),
    st.fixed_dictionaries(
        dict.fromkeys(
            DIMENSIONS,
            st.tuples(st.sampled_from([None, 1, 1, 1, 0.5, 2]), st.none() | st.floats(0, 1) | st.floats(0.3, 0.4)),
        )
    ),
)


class Comparison:
    """Does each step with the scripts and with the model, and compares the two."""

    def __init__(self, bench: Bench, limits: dict[str, Pace], *, warm_up: timedelta, pinned: bool) -> None:
        self.bench = bench
        self.limits = limits
        self.about: Any = {"warm_up": warm_up, "pinned": pinned}
        self.model = Budget.empty(limits, bench.clock(), warm_up=warm_up / timedelta(milliseconds=1), pinned=pinned)
        self.lane: list[Cost] = []
        self.running: list[tuple[Claim, Cost]] = []
        self.submitted = 0
        self.claimed_at: dict[str, float] = {}

    async def run(self, schedule: list[Submit | ClaimOne | Report | Block | Answer]) -> None:
        await self.bench.redis.flushall()
        await self.bench.queue.configure(CLASS, self.limits, **self.about)
        await self.compare()
        for step in schedule:
            match step:
                case Submit():
                    await self.submit(step.cost)
                case ClaimOne():
                    self.bench.clock.advance(step.later_ms)
                    await self.claim()
                case Report():
                    self.bench.clock.advance(step.later_ms)
                    await self.report(step)
                case Block():
                    await self.block(step)
                case Answer():
                    await self.answer(step)
            await self.compare()

    async def submit(self, cost: Cost) -> None:
        self.submitted += 1
        self.lane.append(cost)
        await self.bench.submit(f"j{self.submitted}", cost=cost, lane=Lane.INTERACTIVE)

    async def claim(self) -> None:
        now = self.bench.clock()
        claims = (await self.bench.claim(most=1, lease=FOR_EVER)).jobs
        if not self.lane:
            assert claims == ()
            return
        at = self.model.admissible_at(self.lane[0], now, urgent=True)
        if abs(at - now) > TOLERANCE_MS:
            assert bool(claims) == (at <= now)
        if claims:
            cost = self.lane.pop(0)
            assert claims[0].reserved == cost
            self.model = self.model.charge(cost, now)
            self.running.append((claims[0], cost))
            self.claimed_at[claims[0].job_id] = now

    async def report(self, step: Report) -> None:
        if not self.running:
            return
        claim, reserved = self.running.pop(0)
        used = None
        if step.share is not None:
            used = Cost(1, int(reserved.input * step.share), int(reserved.output * step.share))
            self.model = self.model.reconcile(reserved, used)
        if step.snoozed:
            await self.bench.queue.snooze(Snooze(claim, wait=FOR_EVER, used=used))
        else:
            await self.bench.queue.settle([Settlement(claim, Status.SUCCEEDED, used=used)])

    async def block(self, step: Block) -> None:
        now, wait = self.bench.clock(), timedelta(milliseconds=step.for_ms)
        refused, charged_at = None, now
        if step.known and self.running:
            refused = self.running[0][0]
            charged_at = math.floor(self.claimed_at[refused.job_id])
        await self.bench.queue.block(CLASS, wait, step.reason, refused=refused)
        self.model = self.model.block(step.reason, now, math.ceil(now + step.for_ms), charged_at=charged_at)

    async def answer(self, step: Answer) -> None:
        await self.submit(step.cost)
        self.bench.clock.advance(step.later_ms)
        running = len(self.running)
        await self.claim()
        await self.compare()
        if len(self.running) == running:
            return
        charge = self.running[-1][0].charge
        assert charge is not None
        assert charge.spent == Cost(**self.model.spent)
        self.bench.clock.advance(step.latency_ms)
        readings = {}
        for d, (by, share) in step.says.items():
            limit = int(self.limits[d].limit * (by or 1))
            readings[d] = Reading(limit if by else None, None if share is None else int(limit * share))
        before = self.model
        self.model = before.observe(charge, readings, self.bench.clock())
        news = await self.bench.queue.observe(CLASS, charge, readings)
        limits = ((d, before.limit_of(d), self.model.limit_of(d)) for d in DIMENSIONS)
        assert [(new.dimension, new.limit) for new in news] == [(d, now) for d, was, now in limits if was != now]

    async def compare(self) -> None:
        """And go on from what is stored, so that each step is compared by itself."""
        hashed = await self.bench.redis.hgetall(f"promptmill:budget:{CLASS}")
        stored = {
            name.decode(): float(value) for name, value in hashed.items() if name not in (b"reason", b"answered_by")
        }
        tats = {d: stored[f"{d}_tat"] for d in DIMENSIONS}
        assert tats == {d: pytest.approx(self.model.tats[d], rel=1e-12, abs=TOLERANCE_MS) for d in DIMENSIONS}
        ramp = [stored.get(name, 0) for name in ("ramp_from", "ramp_share", "ramp_growth")]
        model = self.model
        assert stored.get("blocked_until", 0) == model.blocked_until
        assert stored.get("slowed_at", 0) == model.slowed_at
        assert stored.get("charged_at", 0) == pytest.approx(model.charged_at, rel=0, abs=TOLERANCE_MS)
        if ramp != [0, 0, 0]:
            assert ramp == pytest.approx([model.ramp.begins, model.ramp.share, model.ramp.growth], rel=0, abs=1e-6)
            model = replace(model, ramp=Ramp(*ramp))
        else:
            assert model.ramp == Ramp()
        of, buckets = {}, {}
        for d in DIMENSIONS:
            of[d] = Pace(stored[f"{d}_rate"], stored[f"{d}_burst"], stored[f"{d}_setting"])
            assert (of[d].rate, of[d].burst) == pytest.approx((model.paces[d].rate, model.paces[d].burst), rel=1e-9)
            assert stored.get(f"{d}_spent", 0) == model.spent[d]
            buckets[d] = bucket_of(stored, d)
            assert flat(buckets[d]) == pytest.approx(flat(model.buckets[d]), rel=1e-9, abs=1e-5)
        assert stored.get("seen_at", 0) == pytest.approx(model.seen_at, rel=0, abs=TOLERANCE_MS)
        self.model = replace(model, tats=tats, paces=of, buckets=buckets, seen_at=stored.get("seen_at", 0))


def flat(bucket: Bucket) -> list[float]:
    """Its numbers; what nobody knows is below all that could be known."""
    *numbers, since = (getattr(bucket, each.name) for each in fields(bucket))
    return [-1 if number is None else number for number in (*numbers, *(since or (None, None, None)))]


def bucket_of(stored: dict[str, float], d: str) -> Bucket:
    """What is stored of the provider's bucket."""
    since = [stored.get(f"{d}_since{what}") for what in ("", "_left", "_mark")]
    return Bucket(
        limit=stored.get(f"{d}_limit"),
        left=stored.get(f"{d}_left"),
        mark=stored.get(f"{d}_mark", 0),
        depth=stored.get(f"{d}_depth"),
        others=stored.get(f"{d}_others"),
        since=None if since[0] is None else tuple(since),
    )


@settings(max_examples=cases(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limits=st.fixed_dictionaries(dict.fromkeys(DIMENSIONS, paces)),
    schedule=st.lists(steps, min_size=5, max_size=40),
    begins=st.floats(0, 1),
)
async def test_the_model_and_the_scripts_agree_after_every_step(redis, limits, schedule, begins):
    bench = Bench.on(redis)
    bench.clock.now = START + begins
    await Comparison(bench, limits, warm_up=timedelta(0), pinned=False).run(schedule)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limits=st.fixed_dictionaries(dict.fromkeys(DIMENSIONS, ample)),
    schedule=st.lists(st.one_of(answers, answers, answers, steps), min_size=10, max_size=40),
    pinned=st.booleans(),
)
async def test_they_agree_about_what_answers_say_of_the_provider(redis, limits, schedule, pinned):
    bench = Bench.on(redis)
    await Comparison(bench, limits, warm_up=timedelta(seconds=5), pinned=pinned).run(schedule)
