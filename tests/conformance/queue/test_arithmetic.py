"""promptmill.pacing.Budget and lua/_budget.lua are the same arithmetic: compared step by step on random schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptmill.pacing import DIMENSIONS, GROWTH, Budget, Cost, Pace, Ramp
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


gaps = st.one_of(st.just(0.0), st.floats(0.001, 500), st.floats(500, 100_000))
steps = st.one_of(
    st.builds(Submit, costs),
    st.builds(ClaimOne, gaps),
    st.builds(ClaimOne, gaps),
    st.builds(Report, st.none() | st.floats(0, 3), gaps, st.booleans()),
    st.builds(Block, st.integers(1, 10_000), st.sampled_from([*GROWTH, "spend_limit"]), st.booleans()),
)


class Comparison:
    """Does each step with the scripts and with the model, and compares the two."""

    def __init__(self, bench: Bench, limits: dict[str, Pace]) -> None:
        self.bench = bench
        self.limits = limits
        self.model = Budget.empty(limits, bench.clock())
        self.lane: list[Cost] = []
        self.running: list[tuple[Claim, Cost]] = []
        self.submitted = 0
        self.claimed_at: dict[str, float] = {}

    async def run(self, schedule: list[Submit | ClaimOne | Report | Block]) -> None:
        await self.bench.redis.flushall()
        await self.bench.queue.configure(CLASS, self.limits)
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
            await self.compare()

    async def submit(self, cost: Cost) -> None:
        self.submitted += 1
        self.lane.append(cost)
        await self.bench.submit(f"j{self.submitted}", cost=cost)

    async def claim(self) -> None:
        now = self.bench.clock()
        claims = (await self.bench.claim(most=1, lease=FOR_EVER)).jobs
        if not self.lane:
            assert claims == ()
            return
        at = self.model.admissible_at(self.lane[0], now)
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

    async def compare(self) -> None:
        """And go on from what is stored, so that each step is compared by itself."""
        budget = f"promptmill:budget:{CLASS}"
        stored = {d: float(await self.bench.redis.hget(budget, f"{d}_tat")) for d in DIMENSIONS}
        assert stored == {d: pytest.approx(self.model.tats[d], rel=0, abs=TOLERANCE_MS) for d in DIMENSIONS}
        names = ("blocked_until", "slowed_at", "ramp_from", "ramp_share", "ramp_growth")
        blocked_until, slowed_at, *ramp = map(
            float, (value or 0 for value in await self.bench.redis.hmget(budget, names))
        )
        model = self.model
        assert (blocked_until, slowed_at) == (model.blocked_until, model.slowed_at)
        if ramp != [0, 0, 0]:
            assert ramp == pytest.approx([model.ramp.begins, model.ramp.share, model.ramp.growth], rel=0, abs=1e-6)
            model = replace(model, ramp=Ramp(*ramp))
        else:
            assert model.ramp == Ramp()
        self.model = replace(model, tats=stored)


@settings(max_examples=cases(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limits=st.fixed_dictionaries(dict.fromkeys(DIMENSIONS, paces)),
    schedule=st.lists(steps, min_size=5, max_size=25),
    begins=st.floats(0, 1),
)
async def test_the_model_and_the_scripts_agree_after_every_step(redis, limits, schedule, begins):
    bench = Bench.on(redis)
    bench.clock.now = START + begins
    await Comparison(bench, limits).run(schedule)
