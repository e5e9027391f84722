"""Random schedules of everything that is done to a queue, with the invariants checked after every step.

`Schedules` is what producers, workers and the clock do; `model.py` is what a reader of the design would expect of it.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from redis.asyncio import Redis

from promptmill.errors import LeaseLost
from promptmill.jobs import Lane
from promptmill.pacing import Cost
from promptmill.queue import Claim, Claims, Disposition, Renewal, Settlement, Snooze, Submission, Submitted, keys
from promptmill.results import Status
from tests.conformance.queue.model import (
    BROKEN_RECORDS,
    CLASSES,
    LEASE_MS,
    PACES,
    Expected,
    Model,
    Spent,
    check_places,
)
from tests.support.queues import CLASS, LEASE, Bench, make_submission

WORKERS = ("w1", "w2", "w3")
RUNS = (None, "run-1", "run-2")

picks = st.integers(0, 10_000)
waits_ms = st.integers(0, 20_000)
costs = st.builds(Cost, st.just(1), st.integers(0, 150), st.integers(0, 60))
"""Some are larger than the burst."""


class Schedules(RuleBasedStateMachine):
    """Workers, producers, strangers and the clock, in any order. `connect` makes the client of a Redis."""

    connect: Callable[[], Redis]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.bench = Bench.on(type(self).connect())
        self.model = Model()
        self.claims: list[Claim] = []
        """Every claim that was ever made: most are stale, and whoever holds one must be refused."""
        self.names = 0

    @property
    def jobs(self) -> dict[str, Expected]:
        return self.model.jobs

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(what)

    @initialize()
    def start(self) -> None:
        self.do(self.bench.redis.flushall())
        for model_class in CLASSES:
            self.do(self.configure_full(model_class))

    async def configure_full(self, model_class: str) -> None:
        await self.bench.configure(model_class, **PACES[0])
        self.model.spent[model_class] = Spent(PACES[0])

    def teardown(self) -> None:
        try:
            self.do(self.drain())
            self.do(self.nothing_lingers())
        finally:
            self.do(self.bench.redis.aclose())
            self.runner.close()

    # what producers do -----------------------------------------------------------------------------------------------

    @rule(
        lane=st.sampled_from(Lane),
        model_class=st.sampled_from(CLASSES),
        cost=costs,
        not_before=st.none() | st.integers(-1_000, 20_000),
        lifetime=st.none() | st.integers(1, 20_000),
        run=st.sampled_from(RUNS),
        tags=st.fixed_dictionaries({}, optional={"tenant": st.sampled_from("ab"), "kind": st.sampled_from("xy")}),
    )
    def submit(  # noqa: PLR0917
        self,
        lane: Lane,
        model_class: str,
        cost: Cost,
        not_before: int | None,
        lifetime: int | None,
        run: str | None,
        tags: dict[str, str],
    ) -> None:
        starts = not_before or 0
        fields = {
            "lane": lane,
            "not_before": None if not_before is None else self.bench.clock.time(not_before),
            "deadline": None if lifetime is None else self.bench.clock.time(starts + lifetime),
            "run": run,
            "tags": tags,
        }
        submission = make_submission(self.new_id(), budget=model_class, cost=cost, **fields)
        self.submit_one(submission)

    def submit_one(self, submission: Submission) -> None:
        assert self.do(self.bench.queue.submit([submission])) == [Submitted.QUEUED]
        self.model.submitted(submission, now=self.bench.clock())

    @precondition(lambda self: self.jobs)
    @rule(pick=picks)
    def submit_again(self, pick: int) -> None:
        job_id = self.any_job(pick).job_id
        if "\udcff" in job_id:
            return  # no producer of ours makes such an id
        submission = make_submission(job_id, lane="interactive", budget="opus-5")
        assert self.do(self.bench.queue.submit([submission])) == [Submitted.THERE_ALREADY]

    @precondition(lambda self: self.model.ended)
    @rule(pick=picks, redriven=st.booleans(), cost=costs)
    def submit_what_has_ended(self, *, pick: int, redriven: bool, cost: Cost) -> None:
        """Redriven, as `producers.cli.redrive` does it: the kept result goes, requests count on."""
        job_id = list(self.model.ended)[pick % len(self.model.ended)]
        ended = self.model.ended[job_id]
        submission = make_submission(job_id, cost=cost)
        if redriven:
            self.do(self.bench.redis.delete(keys.RESULT + job_id))
            object.__setattr__(submission, "requests_before", ended.number)
        elif ended.kept:
            assert self.do(self.bench.queue.submit([submission])) == [Submitted.ENDED_ALREADY]
            return
        del self.model.ended[job_id]
        self.submit_one(submission)

    @rule(later_ms=waits_ms, plain=st.booleans())
    def enqueue_as_arq_does(self, *, later_ms: int, plain: bool) -> None:
        job_id, at = self.new_id() + ("" if plain else "\udcff"), self.bench.clock() + later_ms
        key = job_id.encode("utf-8", "surrogateescape")
        self.do(self.bench.redis.set(b"arq:job:" + key, b"whatever", px=10_000_000))
        self.do(self.bench.redis.zadd("promptmill:queue", {key: at}))
        self.model.jobs[job_id] = Expected(job_id, None, at)

    @precondition(lambda self: self.jobs)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        job = self.any_job(pick)
        answers = self.do(self.bench.queue.cancel([job.job_id, "nobody"]))
        assert answers == {job.job_id: "STOPPING" if job.holder else "CANCELLED", "nobody": "UNKNOWN"}
        job.cancelled = True

    @precondition(lambda self: self.jobs)
    @rule(pick=picks)
    def abort_as_arq_does(self, pick: int) -> None:
        """`arq.jobs.Job.abort`, and the worker that obeys it."""
        job, key = self.any_job(pick), self.key(self.any_job(pick))
        if (self.do(self.bench.redis.zscore("promptmill:queue", key)) or 0) > self.bench.clock():
            self.do(self.bench.redis.zadd("promptmill:queue", {key: 1}))
            if job.holder and not job.cancelled:
                job.held_until = math.ceil(self.bench.clock() + 60_000)
            elif job.holder:
                self.do(self.bench.queue.renew([self.claim_of(job)], LEASE))
                self.model.renewed(self.bench.clock())
                job.held_until = math.ceil(self.bench.clock() + LEASE_MS)
        self.cancel(pick)

    # what workers do -------------------------------------------------------------------------------------------------

    @rule(worker=st.sampled_from(WORKERS), most=st.integers(1, 4))
    def claim(self, worker: str, most: int) -> None:
        self.do(self.claim_as(worker, most))

    @rule(worker=st.sampled_from(WORKERS), by_ms=st.sampled_from([100, 1_000, 5_000, 12_000, 20_000]))
    def somebody_claims_later(self, worker: str, by_ms: int) -> None:
        self.bench.clock.advance(by_ms)
        self.do(self.claim_as(worker, 3))

    async def claim_as(self, worker: str, most: int) -> Claims:
        claims = await self.bench.claim(worker=worker, most=most)
        assert len(claims.jobs) <= most
        assert set(claims.unconfigured) <= {name for name, spent in self.model.spent.items() if spent is None}
        now, claimed = self.bench.clock(), {claim.job_id for claim in claims.jobs}
        self.model.leases_ran_out(now, claimed)
        for claim in claims.jobs:
            self.model.claimed(claim, now=now, until=math.ceil(now + LEASE_MS))
            self.claims.append(claim)
        for model_class in claims.unconfigured:
            await self.configure_anew(model_class, 0)
        return claims

    async def configure_anew(self, model_class: str, which: int) -> None:
        is_new = await self.bench.queue.configure(model_class, PACES[which])
        spent = self.model.spent.get(model_class)
        assert is_new == (spent is None)
        self.model.spent[model_class] = Spent(PACES[which], empty_at=self.bench.clock() if is_new else None)

    @rule(
        worker=st.sampled_from(WORKERS), model_class=st.sampled_from(CLASSES), which=st.sampled_from(range(len(PACES)))
    )
    def a_worker_is_replaced(self, worker: str, model_class: str, which: int) -> None:
        """One leaves; the next one comes with limits of its own."""
        self.do(self.bench.queue.leave(worker))
        assert self.do(self.bench.redis.zscore("promptmill:idle", worker)) is None
        self.do(self.configure_anew(model_class, which))

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        claim = self.any_claim(pick)
        (answer,) = self.do(self.bench.queue.renew([claim], LEASE))
        self.model.renewed(self.bench.clock())
        job = self.model.held(claim)
        if job is None:
            assert answer is Renewal.LOST
        else:
            assert answer is (Renewal.CANCELLED if job.cancelled else Renewal.OK)
            job.held_until = math.ceil(self.bench.clock() + LEASE_MS)

    @rule(for_ms=st.sampled_from([0, 4_000, 6_000, 6_001, 12_000, 20_000]))
    def a_worker_without_jobs_lives(self, for_ms: int) -> None:
        """And renews nothing, three times within a lease: others that say nothing meanwhile are dead."""
        for by in (*[4_000] * (for_ms // 4_000), for_ms % 4_000):
            self.bench.clock.advance(by)
            assert self.do(self.bench.queue.renew([], LEASE)) == []
            self.model.renewed(self.bench.clock())

    @precondition(lambda self: self.claims)
    @rule(pick=picks, status=st.sampled_from(Status), used=st.none() | costs, keep=st.booleans())
    def settle(self, *, pick: int, status: Status, used: Cost | None, keep: bool) -> None:
        claim = self.any_claim(pick)
        job = self.model.held(claim)
        run = job.run if job else "run-1"
        settlement = Settlement(claim, status, b"result" if keep else b"", timedelta(hours=1), run=run, used=used)
        assert self.do(self.bench.queue.settle([settlement, settlement])) == [job is not None, False]
        if job:
            self.model.settled(claim, status, used, kept=keep, now=self.bench.clock())

    @precondition(lambda self: self.claims)
    @rule(
        pick=picks,
        wait_ms=waits_ms,
        uses_attempt=st.booleans(),
        sent=st.booleans(),
        used=st.none() | costs,
        route=st.none() | st.tuples(st.integers(0, 2), st.sampled_from(CLASSES), st.none() | costs),
    )
    def snooze(
        self,
        *,
        pick: int,
        wait_ms: int,
        uses_attempt: bool,
        sent: bool,
        used: Cost | None,
        route: tuple[int, str, Cost | None] | None,
    ) -> None:
        claim = self.any_claim(pick)
        job = self.model.held(claim)
        if job and job.budget is None:
            route = None  # only an adopted job can change its route
        to, budget, cost = route or (None, None, None)
        snooze = Snooze(
            claim,
            timedelta(milliseconds=wait_ms),
            uses_attempt=uses_attempt,
            sent=sent,
            used=used,
            route=to,
            budget=budget,
            cost=cost,
        )
        if job is None:
            with pytest.raises(LeaseLost):
                self.do(self.bench.queue.snooze(snooze))
        else:
            self.do(self.bench.queue.snooze(snooze))
            self.model.snoozed(snooze, now=self.bench.clock())

    @precondition(lambda self: any(claim.disposition is Disposition.FOREIGN for claim in self.claims))
    @rule(pick=picks, not_before=st.none() | st.integers(-1_000, 20_000), cost=costs, run=st.sampled_from(RUNS))
    def adopt(self, pick: int, not_before: int | None, cost: Cost, run: str | None) -> None:
        foreign = [claim for claim in self.claims if claim.disposition is Disposition.FOREIGN]
        claim = foreign[-1 - pick % min(len(foreign), 4)]
        at = None if not_before is None else self.bench.clock.time(not_before)
        submission = make_submission(claim.job_id.replace("\udcff", ""), cost=cost, not_before=at, run=run)
        if self.model.held(claim) is None:
            with pytest.raises(LeaseLost):
                self.do(self.bench.queue.adopt(claim, submission))
        else:
            self.do(self.bench.queue.adopt(claim, submission))
            self.model.adopted(claim, submission, now=self.bench.clock())

    # what happens to all of them -------------------------------------------------------------------------------------

    @rule(by_ms=st.integers(1, 30_000) | st.floats(0.001, 10))
    def time_passes(self, by_ms: float) -> None:
        self.bench.clock.advance(by_ms)

    @rule(
        model_class=st.sampled_from(CLASSES),
        for_ms=st.integers(0, 3_000),
        reason=st.sampled_from(["bad_key", "rate_limited"]),
    )
    def block(self, model_class: str, for_ms: int, reason: str) -> None:
        refused = self.claims[-1] if self.claims else None
        self.do(self.bench.queue.block(model_class, timedelta(milliseconds=for_ms), reason, refused=refused))
        blocked = self.model.blocked_until
        until = math.ceil(self.bench.clock() + for_ms)
        blocked[model_class] = max(blocked[model_class], until) if for_ms else 0

    # what strangers do to keys ---------------------------------------------------------------------------------------

    @rule(what=st.sampled_from(["record", "payload", "job", "lane", "budget", "list"]), pick=picks)
    def a_stranger_damages_something(self, what: str, pick: int) -> None:
        """One rule for all of it: otherwise most schedules would consist of damage."""
        if self.jobs or what in {"budget", "list"}:
            getattr(self, f"damage_a_{what}")(pick)

    def damage_a_record(self, pick: int) -> None:
        job, record = self.any_job(pick), BROKEN_RECORDS[pick % len(BROKEN_RECORDS)]
        if record is None:
            self.do(self.bench.redis.hdel("promptmill:jobs", self.key(job)))
        else:
            self.do(self.bench.redis.hset("promptmill:jobs", self.key(job), record))
        self.model.record_lost(job, now=self.bench.clock())

    def damage_a_payload(self, pick: int) -> None:
        job = self.any_job(pick)
        self.do(self.bench.redis.delete(b"arq:job:" + self.key(job)))
        job.payload = False

    def damage_a_job(self, pick: int) -> None:
        """All of it is deleted but its place in a lane, where nobody would look."""
        job = self.any_job(pick)
        key = self.key(job)
        self.do(self.bench.redis.delete(b"arq:job:" + key))
        self.do(self.bench.redis.hdel("promptmill:jobs", key))
        self.do(self.bench.redis.zrem("promptmill:queue", key))
        self.model.deleted(job)

    def damage_a_lane(self, pick: int) -> None:
        """Or the list of those that are to be ended; as Redis evicts keys where it is allowed to."""
        lanes = [key for key in self.do(self.bench.dump()) if key.startswith(("promptmill:lane:", "promptmill:due"))]
        if lanes:
            key = lanes[pick % len(lanes)]
            self.model.evicted(self.do(self.bench.redis.zrange(key, 0, -1)))
            self.do(self.bench.redis.delete(key))

    def damage_a_budget(self, pick: int) -> None:
        model_class = CLASSES[pick % len(CLASSES)]
        self.do(self.bench.redis.delete(f"promptmill:budget:{model_class}"))
        self.model.spent[model_class] = None
        self.model.blocked_until[model_class] = 0

    def damage_a_list(self, pick: int) -> None:
        what = ("budgets", "idle", f"tenants:{CLASS}:2", f"learned:{CLASS}", "heard")[pick % 5]
        self.do(self.bench.redis.delete(f"promptmill:{what}"))
        if what == "budgets":
            self.model.evicted([self.key(job) for job in self.jobs.values()])
        if what == "heard":
            self.model.heard_at, self.model.spared_until = None, 0

    # what must be true after each step -------------------------------------------------------------------------------

    @invariant()
    def every_job_is_in_exactly_one_place_and_nothing_else_lingers(self) -> None:
        """I1, and I3: its record counts what happened to it."""
        check_places(self.do(self.bench.dump()), self.model)

    @invariant()
    def every_job_ends_once(self) -> None:
        """I2."""
        for job_id, times in self.model.settlements.items():
            assert times == self.model.births[job_id] - (job_id in self.jobs) - self.model.deletions[job_id]

    @invariant()
    def the_idle_are_workers_that_come_back(self) -> None:
        now = self.bench.clock()
        for worker, at in self.do(self.bench.redis.zrange("promptmill:idle", 0, -1, withscores=True)):
            assert worker.decode() in WORKERS
            assert at <= now + 15_001

    async def drain(self) -> None:
        """None is lost: workers that follow their alarms, and nobody's call, bring every job to its end."""
        now = self.bench.clock()
        alarms = dict.fromkeys(WORKERS, now)
        for _ in range(40 * (10 + len(self.jobs))):
            if not self.jobs:
                break
            worker = min(alarms, key=alarms.__getitem__)
            self.bench.clock.now = max(self.bench.clock(), alarms[worker])
            claims = await self.claim_as(worker, 2)
            for claim in claims.jobs:
                await self.finish(claim)
            wait = timedelta(0) if claims.wait is None or claims.unconfigured else claims.wait
            alarms[worker] = self.bench.clock() + wait / timedelta(milliseconds=1)
        assert not self.jobs, f"never claimed: {self.jobs}"
        assert self.bench.clock() - now < 600_000, "it took ten minutes"

    async def finish(self, claim: Claim) -> None:
        if claim.disposition is Disposition.FOREIGN and claim.payload is not None:
            submission = make_submission(claim.job_id.replace("\udcff", ""))
            await self.bench.queue.adopt(claim, submission)
            self.model.adopted(claim, submission, now=self.bench.clock())
        else:
            assert await self.bench.queue.settle([Settlement(claim, Status.SUCCEEDED)]) == [True]
            self.model.settled(claim, Status.SUCCEEDED, None, kept=False, now=self.bench.clock(), counted=False)

    async def nothing_lingers(self) -> None:
        """One more look at every lane clears away what was left of jobs that somebody deleted."""
        for model_class in CLASSES:
            if self.model.spent[model_class] is None:
                await self.configure_anew(model_class, 0)
            await self.bench.redis.sadd("promptmill:budgets", model_class)
        for _ in range(3):
            await self.claim_as("w1", 1)
        left = Counter(key.split(":")[1] for key in await self.bench.dump() if not key.startswith("arq:result:"))
        assert left.keys() <= {"budget", "budgets", "heard", "idle", "learned", "run", "tenants"}

    # choosing --------------------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        self.names += 1
        return f"j{self.names}"

    def any_job(self, pick: int) -> Expected:
        return list(self.jobs.values())[pick % len(self.jobs)]

    def any_claim(self, pick: int) -> Claim:
        """One of the newest, mostly of jobs that have not ended: of the others all are stale."""
        living = [claim for claim in self.claims if claim.job_id in self.jobs]
        claims = living if living and pick % 4 else self.claims
        return claims[-1 - pick % min(len(claims), 6)]

    def claim_of(self, job: Expected) -> Claim:
        return next(claim for claim in reversed(self.claims) if claim.token == job.holder)

    @staticmethod
    def key(job: Expected) -> bytes:
        return job.job_id.encode("utf-8", "surrogateescape")
