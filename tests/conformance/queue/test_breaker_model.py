"""promptmill.breaker and lua/_breaker.lua are the same rules: compared step by step on random schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promptmill.breaker import Breaker, Suspect, restart
from promptmill.pacing import Budget, Cost, Pace, Ramp
from promptmill.queue import Claim, Effect, Reply, Report, Settled, Settlement, Snooze, Standing
from promptmill.results import Status
from tests.support.queues import CLASS, Bench

RATE = 6_000.0
SHARE = 0.2
PATIENCE = timedelta(hours=1)
EVERY = {
    "overloaded": timedelta(seconds=30),
    "connection_failed": timedelta(seconds=30),
    "bad_key": timedelta(seconds=20),
    "spend": timedelta(minutes=15),
}
PARKS = {"bad_key", "spend"}
UNREACHED = {"connection_failed"}
REPLIES = {"refused": Reply.ANSWERED, "invalid_request": Reply.TAKEN}
"""Without a result, and yet no failure of the provider."""
JOBS = 4
FOR_EVER = timedelta(days=10_000)
TOLERANCE_MS = 0.01
"""What is stored has microseconds at best."""


@dataclass(frozen=True)
class ClaimAll:
    """Somebody leases whatever may go."""

    later_ms: float
    worker: str = "w0"


@dataclass(frozen=True)
class Ends:
    """One of the running requests is answered, or comes to nothing, some times in a row."""

    how: str
    pick: int
    later_ms: float
    retry_after_ms: int = 0
    times: int = 1


@dataclass(frozen=True)
class Probe:
    """The next probe goes as soon as it may, and this is what it comes to."""

    how: str
    worker: str = "w0"


@dataclass(frozen=True)
class Resume:
    """The owner lets all go on."""


gaps = st.one_of(st.floats(0, 100), st.floats(500, 40_000), st.just(4_000_000.0))
workers = st.sampled_from(["w0", "w1"])
steps = st.one_of(
    st.builds(ClaimAll, gaps, workers),
    st.builds(ClaimAll, gaps, workers),
    st.builds(Ends, st.just("answered"), st.integers(0, 9), gaps),
    st.builds(
        Ends,
        st.sampled_from(["overloaded", *EVERY, *REPLIES]),
        st.integers(0, 9),
        gaps,
        st.sampled_from([0, 0, 45_000]),
    ),
    st.builds(Ends, st.just("overloaded"), st.integers(0, 9), st.floats(100, 3_000), st.just(0), st.just(25)),
    st.builds(Ends, st.just("overloaded"), st.integers(0, 9), st.just(190_001.5), st.just(0), st.just(25)),
    st.builds(Probe, st.sampled_from(["answered", "answered", *EVERY]), workers),
    st.builds(Probe, st.sampled_from(["answered", *EVERY, *REPLIES]), workers),
    st.builds(Resume),
)


def worker_of(claim: Claim) -> str:
    return claim.token.split(".")[0]


class Comparison:
    """Does each step with the scripts and with the model, and compares the two."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.model = Breaker()
        self.ramp = Ramp()
        self.jobs = {f"j{n}": Suspect(0) for n in range(JOBS)}
        self.running: list[Claim] = []
        self.month_end = datetime.fromtimestamp(bench.clock() / 1000 + 2_000, UTC).replace(microsecond=0)
        self.replaced = JOBS

    async def run(self, schedule: list[ClaimAll | Ends | Probe | Resume]) -> None:
        await self.bench.redis.flushall()
        await self.bench.configure(requests=Pace(RATE, 1_000))
        await self.bench.submit(*self.jobs)
        for step in schedule:
            match step:
                case ClaimAll():
                    self.bench.clock.advance(step.later_ms)
                    await self.claim(step.worker)
                case Ends():
                    for _ in range(step.times):
                        self.bench.clock.advance(step.later_ms)
                        await self.end(step)
                        if step.times > 1:
                            await self.claim()
                case Probe():
                    self.bench.clock.now = max(self.bench.clock.now, self.model.probe_at) + 1
                    await self.claim(step.worker)
                    await self.end(Ends(step.how, -1, 0))
                case Resume():
                    await self.bench.queue.resume(CLASS)
                    self.model = replace(self.model.closed(), failures=0, failing_since=0, failed_at=0)
                    self.ramp = Ramp()
            await self.compare()

    async def claim(self, worker: str = "w0") -> None:
        now = self.bench.clock()
        claims = (await self.bench.claim(worker=worker, most=10, lease=FOR_EVER)).jobs
        ready = len(self.jobs) - len(self.running)
        if not self.model.is_open:
            assert len(claims) == ready
        elif abs(self.model.probe_at - now) > TOLERANCE_MS:
            assert len(claims) == (1 if ready and self.model.probe_at <= now else 0)
        assert {claim.probe for claim in claims} <= {self.model.is_open}
        for claim in claims:
            self.jobs[claim.job_id] = replace(self.jobs[claim.job_id], sent=math.floor(now), seen=self.model.answered)
            if self.model.is_open:
                self.model = self.model.probe(now)
        self.running += claims

    async def end(self, step: Ends) -> None:
        if self.running:
            claim = self.running.pop(step.pick % len(self.running))
            if step.how == "answered":
                await self.answered(claim)
            elif step.how in REPLIES:
                await self.replied(claim, REPLIES[step.how])
            else:
                await self.failed(claim, step)

    def close(self, after: Breaker, now: float) -> Settled:
        """Take over a breaker that may be closed by what was heard."""
        closes = self.model.is_open and not after.is_open
        if closes:
            self.ramp = restart(Budget({}, ramp=self.ramp), now)
        self.model = after
        return Settled.GOES_ON if closes else Settled.DONE

    async def answered(self, claim: Claim) -> None:
        now = self.bench.clock()
        (settled,) = await self.bench.queue.settle([Settlement(claim, Status.SUCCEEDED, used=Cost(1, 10, 20))])
        job = self.jobs.pop(claim.job_id)
        assert settled is self.close(self.model.answer(job, now, worker=worker_of(claim)), now)
        name = f"j{self.replaced}"
        self.replaced += 1
        self.jobs[name] = Suspect(0)
        await self.bench.submit(name)

    async def report(self, claim: Claim, step: Ends, effect: Effect) -> Standing:
        return await self.bench.queue.report(
            Report(
                claim,
                step.how,
                effect,
                retry_share=SHARE,
                probe_every=EVERY.get(step.how, timedelta(0)),
                outage_patience=PATIENCE,
                may_use_attempt=step.how == "overloaded",
                ends_at=self.month_end if step.how == "spend" else None,
                retry_after=timedelta(milliseconds=step.retry_after_ms),
            )
        )

    async def replied(self, claim: Claim, reply: Reply) -> None:
        """The job goes back, say to be asked anew."""
        now, job = self.bench.clock(), self.jobs[claim.job_id]
        settled = await self.bench.queue.snooze(Snooze(claim, reply=reply))
        answers = reply is Reply.ANSWERED
        after = self.model.answer(job, now, worker=worker_of(claim)) if answers else self.model.take(job, now)
        assert settled is self.close(after, now)

    async def failed(self, claim: Claim, step: Ends) -> None:
        now = self.bench.clock()
        job, was_closed, is_news = self.jobs[claim.job_id], not self.model.is_open, False
        wait, parks = 0.0, step.how in PARKS
        if step.how in UNREACHED and self.model.is_cut_off(worker_of(claim), now):
            standing = await self.report(claim, step, Effect.UNREACHED)
            assert standing == Standing(to_blame=False, is_out=self.model.is_open, is_cut_off=True)
            await self.bench.queue.snooze(Snooze(claim))
            return
        if not parks:
            self.model, blamed, opens = self.model.fail(job, now, outage_patience=PATIENCE / timedelta(milliseconds=1))
        else:
            blamed, opens = False, self.model.refuse(job)
        if opens:
            self.model, is_news = self.model.open(
                step.how,
                now,
                parks=parks,
                every=EVERY[step.how] / timedelta(milliseconds=1),
                until=self.month_end.timestamp() * 1000 if step.how == "spend" else 0,
                wait=step.retry_after_ms,
            )
        elif was_closed and not parks:
            self.model, wait = self.model.retry(now, rate=RATE, share=SHARE)
        trips = Effect.UNREACHED if step.how in UNREACHED else Effect.TRIPS
        standing = await self.report(claim, step, Effect.PARKS if parks else trips)
        expected = Standing(blamed, self.model.is_open, is_news)
        assert replace(standing, wait=expected.wait) == expected
        assert standing.wait / timedelta(milliseconds=1) == pytest.approx(wait, rel=0, abs=TOLERANCE_MS)
        failed_at = max(job.sent, math.floor(now))
        if not parks:
            may_be = step.how == "overloaded"
            self.jobs[claim.job_id] = replace(job, failed_at=failed_at, blamed=job.blamed or (blamed and may_be))
        await self.bench.queue.snooze(Snooze(claim, uses_attempt=standing.to_blame))

    async def compare(self) -> None:
        """And go on from what is stored, so that each step is compared by itself."""
        stored = {
            name.decode(): value.decode()
            for name, value in (await self.bench.redis.hgetall(f"promptmill:budget:{CLASS}")).items()
        }
        model = self.model
        assert (stored.get("open_reason", ""), stored.get("open_effect") == "parks") == (model.reason, model.parked)
        assert ("open_since" in stored) == model.is_open
        assert stored.get("answered_by", "") == model.answered_by
        numbers = (
            "answered",
            "answered_at",
            "others_at",
            "failures",
            "failing_since",
            "failed_at",
            "probe_at",
            "probe_every",
            "open_until",
        )
        found = {
            **{name: float(stored.get(name, 0)) for name in (*numbers, "retry_tat", "retry_step")},
            "open_since": float(stored["open_since"]) if "open_since" in stored else None,
            "answer_ms": float(stored["answer_ms"]) if "answer_ms" in stored else None,
        }
        expected = {name: getattr(model, name) for name in found}
        assert found == {
            name: value if value is None else pytest.approx(value, rel=0, abs=TOLERANCE_MS)
            for name, value in expected.items()
        }
        ramp = [
            float(stored.get(f"ramp_{name}", default)) for name, default in (("from", 0), ("share", 1), ("growth", 0))
        ]
        assert ramp == pytest.approx([self.ramp.begins, self.ramp.share, self.ramp.growth], rel=0, abs=1e-6)
        self.model = replace(model, **{**found, "failures": int(found["failures"] or 0)})
        self.ramp = Ramp(*ramp)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=st.lists(steps, min_size=5, max_size=25))
async def test_the_model_and_the_scripts_agree_after_every_step(redis, schedule):
    await Comparison(Bench.on(redis)).run(schedule)
