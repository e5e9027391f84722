"""Random schedules of everything that is done to jobs, with the invariants checked after every step.

The model is what a reader of the design would expect of one job at a time; it knows no lanes, no budgets and no Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
import pytest
from fakeredis import FakeServer
from fakeredis.aioredis import FakeRedis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis.asyncio import Redis

from promptmill.errors import LeaseLost
from promptmill.jobs import Lane
from promptmill.pacing import MS_PER_MINUTE, Cost, Pace
from promptmill.queue import Claim, Claims, Disposition, Renewal, Settlement, Snooze, Submitted
from promptmill.results import Status
from tests.support.queues import CLASS, LEASE, Bench, make_submission

CLASSES = (CLASS, "sonnet-5")
REQUESTS = Pace(rate=600, burst=3)
RUN_COST = Cost(1, 10, 20)
LEASE_MS = LEASE / timedelta(milliseconds=1)

picks = st.integers(0, 10_000)
waits_ms = st.integers(0, 20_000)


@dataclass
class Expected:
    """What must be true of one job that has not ended."""

    job_id: str
    budget: str | None
    """None: an arq client put it in, and nobody has adopted it yet."""
    due_at: float
    """Nobody may be sent for it before."""
    deadline: float | None = None
    cancelled: bool = False
    holder: str | None = None
    """The token of whoever has it."""
    held_until: float = 0
    attempts: int = 0
    number: int = 0
    lost: int = 0


@dataclass
class History:
    """What must be true of all of it."""

    settled: dict[str, int] = field(default_factory=dict)
    sent_at: dict[str, list[float]] = field(default_factory=lambda: {model_class: [] for model_class in CLASSES})


class Schedules(RuleBasedStateMachine):
    """Workers, producers and the clock, in any order. `connect` makes the client of a Redis that is emptied first."""

    connect: Callable[[], Redis]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.bench = Bench.on(type(self).connect())
        self.jobs: dict[str, Expected] = {}
        self.claims: list[Claim] = []
        """Every claim that was ever made: most are stale, and whoever holds one must be refused."""
        self.history = History()
        self.names = 0
        self.do(self.start())

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(what)

    async def start(self) -> None:
        await self.bench.redis.flushall()
        for model_class in CLASSES:
            await self.bench.configure(model_class, requests=REQUESTS)

    def teardown(self) -> None:
        try:
            self.do(self.drain())
        finally:
            self.do(self.bench.redis.aclose())
            self.runner.close()

    # what producers do -----------------------------------------------------------------------------------------------

    @rule(
        lane=st.sampled_from(Lane),
        model_class=st.sampled_from(CLASSES),
        not_before=st.none() | st.integers(-1_000, 20_000),
        lifetime=st.none() | st.integers(1, 20_000),
    )
    def submit(self, lane: Lane, model_class: str, not_before: int | None, lifetime: int | None) -> None:
        job_id, starts = self.new_id(), not_before or 0
        fields = {
            "lane": lane,
            "not_before": None if not_before is None else self.bench.clock.time(not_before),
            "deadline": None if lifetime is None else self.bench.clock.time(starts + lifetime),
        }
        submission = make_submission(job_id, budget=model_class, cost=RUN_COST, **fields)
        assert self.do(self.bench.queue.submit([submission])) == [Submitted.QUEUED]
        now = self.bench.clock()
        self.jobs[job_id] = Expected(
            job_id, model_class, now + starts, None if lifetime is None else now + starts + lifetime
        )

    @precondition(lambda self: self.jobs)
    @rule(pick=picks)
    def submit_again(self, pick: int) -> None:
        answers = self.do(self.bench.queue.submit([make_submission(self.any_job(pick).job_id)]))
        assert answers == [Submitted.THERE_ALREADY]

    @rule(later_ms=waits_ms)
    def enqueue_as_arq_does(self, later_ms: int) -> None:
        job_id, at = self.new_id(), self.bench.clock() + later_ms
        self.do(self.bench.redis.set(f"arq:job:{job_id}", b"whatever", px=10_000_000))
        self.do(self.bench.redis.zadd("promptmill:queue", {job_id: at}))
        self.jobs[job_id] = Expected(job_id, None, at)

    @precondition(lambda self: self.jobs)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        job = self.any_job(pick)
        answers = self.do(self.bench.queue.cancel([job.job_id, "nobody"]))
        assert answers == {job.job_id: "STOPPING" if job.holder else "CANCELLED", "nobody": "UNKNOWN"}
        job.cancelled = True

    # what workers do -------------------------------------------------------------------------------------------------

    @rule(worker=st.sampled_from(["w1", "w2"]), most=st.integers(1, 4))
    def claim(self, worker: str, most: int) -> None:
        claims = self.do(self.bench.claim(worker=worker, most=most))
        assert len(claims.jobs) <= most
        self.expect(claims)

    def expect(self, claims: Claims) -> None:
        now, claimed = self.bench.clock(), {claim.job_id for claim in claims.jobs}
        for job in self.jobs.values():
            # Every lease that ran out is gone with the next claim, but that of a stranger's job only with its own.
            to_be_adopted = job.budget is None and not job.cancelled
            if job.holder and job.held_until <= now and (job.job_id in claimed or not to_be_adopted):
                job.holder = None
                job.lost += 1
        for claim in claims.jobs:
            job = self.jobs[claim.job_id]
            assert job.holder is None, "leased twice"
            job.number += 1
            assert claim.disposition is self.right_disposition(job, now)
            assert (claim.number, claim.attempts, claim.lost) == (job.number, job.attempts, job.lost)
            job.holder, job.held_until = claim.token, now + LEASE_MS
            self.claims.append(claim)
            if claim.disposition is Disposition.RUN:
                assert (claim.budget, claim.reserved) == (job.budget, RUN_COST)
                self.history.sent_at[claim.budget].append(now)

    def right_disposition(self, job: Expected, now: float) -> Disposition:
        if job.cancelled:
            return Disposition.CANCELLED
        assert job.due_at <= now or (job.deadline and job.deadline <= now), "claimed before its time"
        if job.budget is None:
            return Disposition.FOREIGN
        return Disposition.EXPIRED if job.deadline and job.deadline <= now else Disposition.RUN

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        claim = self.any_claim(pick)
        (answer,) = self.do(self.bench.queue.renew([claim], LEASE))
        job = self.held(claim)
        if job is None:
            assert answer is Renewal.LOST
        else:
            assert answer is (Renewal.CANCELLED if job.cancelled else Renewal.OK)
            job.held_until = self.bench.clock() + LEASE_MS

    @precondition(lambda self: self.claims)
    @rule(pick=picks, used=st.none() | st.integers(0, 20), keep=st.booleans())
    def settle(self, *, pick: int, used: int | None, keep: bool) -> None:
        claim = self.any_claim(pick)
        settlement = Settlement(
            claim,
            Status.SUCCEEDED,
            b"result" if keep else b"",
            timedelta(hours=1),
            used=None if used is None else Cost(1, used, used),
        )
        (settled,) = self.do(self.bench.queue.settle([settlement]))
        assert settled == (self.held(claim) is not None)
        if settled:
            del self.jobs[claim.job_id]
            self.history.settled[claim.job_id] = self.history.settled.get(claim.job_id, 0) + 1

    @precondition(lambda self: self.claims)
    @rule(
        pick=picks,
        wait_ms=waits_ms,
        uses_attempt=st.booleans(),
        sent=st.booleans(),
        budget=st.none() | st.sampled_from(CLASSES),
    )
    def snooze(self, *, pick: int, wait_ms: int, uses_attempt: bool, sent: bool, budget: str | None) -> None:
        claim = self.any_claim(pick)
        job = self.held(claim)
        if job and job.budget is None:
            budget = None  # only an adopted job can change its route
        snooze = Snooze(claim, timedelta(milliseconds=wait_ms), uses_attempt=uses_attempt, sent=sent, budget=budget)
        if job is None:
            with pytest.raises(LeaseLost):
                self.do(self.bench.queue.snooze(snooze))
            return
        self.do(self.bench.queue.snooze(snooze))
        job.holder = None
        job.due_at = self.bench.clock() + wait_ms
        job.attempts += uses_attempt
        job.number -= not sent
        job.budget = budget or job.budget

    @precondition(lambda self: self.claims)
    @rule(pick=picks, not_before=st.none() | st.integers(-1_000, 20_000))
    def adopt(self, pick: int, not_before: int | None) -> None:
        claim = self.any_claim(pick)
        if claim.disposition is not Disposition.FOREIGN:
            return
        at = None if not_before is None else self.bench.clock.time(not_before)
        job = self.held(claim)
        submission = make_submission(claim.job_id, cost=RUN_COST, not_before=at)
        if job is None:
            with pytest.raises(LeaseLost):
                self.do(self.bench.queue.adopt(claim, submission))
            return
        self.do(self.bench.queue.adopt(claim, submission))
        job.holder, job.budget, job.number = None, CLASS, 0
        job.due_at = self.bench.clock() + max(0, not_before or 0)

    # what happens to all of them -------------------------------------------------------------------------------------

    @rule(by_ms=st.integers(1, 30_000))
    def time_passes(self, by_ms: int) -> None:
        self.bench.clock.advance(by_ms)

    @rule(model_class=st.sampled_from(CLASSES), for_ms=st.integers(0, 3_000))
    def block(self, model_class: str, for_ms: int) -> None:
        self.do(self.bench.queue.block(model_class, timedelta(milliseconds=for_ms), "rate_limited"))

    # what must be true after each step -------------------------------------------------------------------------------

    @invariant()
    def every_job_is_in_exactly_one_place_and_nothing_else_lingers(self) -> None:
        """I1."""
        found = self.do(self.bench.dump())
        queue = {job_id.decode(): score for job_id, score in value(found, "promptmill:queue", [])}
        records = {
            job_id.decode(): orjson.loads(record) for job_id, record in value(found, "promptmill:jobs", {}).items()
        }
        assert queue.keys() == self.jobs.keys()
        assert {key.removeprefix("arq:job:") for key in found if key.startswith("arq:job:")} == self.jobs.keys()
        places: dict[str, list[str]] = {job_id: [] for job_id in self.jobs}
        for key in found:
            if key.startswith("promptmill:lane:") or key == "promptmill:due":
                for job_id, _ in value(found, key, []):
                    places[job_id.decode()].append(key)
        for job_id, job in self.jobs.items():
            record = records.pop(job_id, None)
            if record is None:
                assert job.budget is None
                assert places[job_id] == []
                continue
            state, lane, budget, *_ = record
            ends = record[12] if len(record) > 12 else 0
            assert budget == (job.budget or "")
            if state == "r":
                assert places[job_id] == ["promptmill:due" if ends else f"promptmill:lane:{budget}:{lane}"]
                assert queue[job_id] == (1 if ends or job.deadline is None else job.deadline)
            else:
                assert state == ("l" if job.holder else "w")
                assert places[job_id] == []
                assert queue[job_id] > 1
        assert records == {}

    @invariant()
    def every_job_ends_once(self) -> None:
        """I2."""
        assert set(self.history.settled.values()) <= {1}

    @invariant()
    def requests_keep_to_the_rate_and_the_burst(self) -> None:
        """I4: in every window."""
        for sent_at in self.history.sent_at.values():
            for first, begins in enumerate(sent_at):
                for last, ends in enumerate(sent_at[first:], start=1):
                    assert last <= REQUESTS.rate * (ends - begins) / MS_PER_MINUTE + REQUESTS.burst + 1e-6

    async def drain(self) -> None:
        """None is lost: workers that settle whatever they claim come to an end."""
        for _ in range(20 + 3 * len(self.jobs)):
            if not self.jobs:
                return
            self.bench.clock.advance(40_000)
            for claim in (await self.bench.claim(most=50)).jobs:
                del self.jobs[claim.job_id]
                assert await self.bench.queue.settle([Settlement(claim, Status.SUCCEEDED)]) == [True]
        raise AssertionError(f"never claimed: {self.jobs}")

    # choosing --------------------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        self.names += 1
        return f"j{self.names}"

    def any_job(self, pick: int) -> Expected:
        return list(self.jobs.values())[pick % len(self.jobs)]

    def any_claim(self, pick: int) -> Claim:
        """The newer the likelier: of the old ones most are stale."""
        return self.claims[-1 - pick % min(len(self.claims), 6)]

    def held(self, claim: Claim) -> Expected | None:
        job = self.jobs.get(claim.job_id)
        return job if job and job.holder == claim.token else None


def value(found: dict[str, Any], key: str, default: Any) -> Any:
    return found[key][0] if key in found else default


def schedules_on(connect: Callable[[], Redis]) -> type[Schedules]:
    return type("SchedulesHere", (Schedules,), {"connect": staticmethod(connect)})


def test_the_invariants_hold_on_fakeredis_whatever_happens():
    machine = schedules_on(lambda: FakeRedis(server=FakeServer()))
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=40))


@pytest.mark.parametrize("kind", ["valkey", "redis62"])
def test_the_invariants_hold_on_a_real_server_whatever_happens(url_of, kind):
    machine = schedules_on(lambda: Redis.from_url(url_of(kind)))
    run_state_machine_as_test(machine, settings=settings(max_examples=20, stateful_step_count=40))
