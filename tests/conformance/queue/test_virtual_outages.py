"""Outages of hours in seconds: a fleet on a clock of ours, real scripts on a real server, a provider that goes away.

What a worker does after a failure is done with its own functions: classify is spared, since the outcome is given.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from promptmill.pacing import Cost
from promptmill.queue import Claim, Claims, Queue, Settlement, Snooze
from promptmill.results import Status
from promptmill.settings import Settings
from promptmill.testing.simulator.budget import Budget as Provider
from promptmill.testing.simulator.config import Limits
from tests.support.virtual_fleet import Answer, VirtualFleet, open_budget, text_job
from worker.decisions import GoBack, decide, report_on
from worker.outcomes import POLICIES
from worker.uplink import Uplink

CLASS = "haiku-5-5"
RPM = 600
PACED = RPM * 0.99 / 60
"""Requests a second."""
INTERVAL = timedelta(seconds=30)
DEPTH = timedelta(seconds=2)


@pytest.fixture
async def redis(url_of: Callable[[str], str]) -> AsyncIterator[Redis]:
    client = Redis.from_url(url_of("valkey"))
    await client.flushall()
    yield client
    await client.aclose()


@dataclass
class Outage:
    """From when until when (minutes), what requests come to, after how long, and how many of them do."""

    begins: float
    ends: float
    outcome: str
    after_ms: float = 60
    share: float = 1
    jobs: frozenset[str] | None = None
    """Whom it concerns; None: all."""
    workers: frozenset[str] | None = None
    """Likewise: a host without a network."""

    def concerns(self, worker: str, job_id: str) -> bool:
        return (self.jobs is None or job_id in self.jobs) and (self.workers is None or worker in self.workers)


class FleetInTrouble(VirtualFleet):
    """A fleet whose provider fails at times."""

    outages: tuple[Outage, ...] = ()

    def begin(self, *outages: Outage) -> None:
        self.outages = outages
        self.failed: list[tuple[float, Claim]] = []
        self.opened: list[float] = []
        self.attempts = 0
        self.dead: list[str] = []
        self.granted_at: list[float] = []
        self.uplinks = {worker: Uplink(longest_rest=INTERVAL, now=self.now) for worker in self.free}

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock[0] / 1000, UTC)

    def _most(self, worker: str) -> int:
        return self.uplinks[worker].allows(self.free[worker])

    def _until_next(self, worker: str, claims: Claims) -> timedelta | None:
        """As worker.engine."""
        uplink = self.uplinks[worker]
        if not uplink.is_cut_off or (claims.wait is not None and not claims.jobs):
            return claims.wait
        if claims.jobs:
            uplink.let_one()
        return uplink.left()

    def _note(self, worker: str, claim: Claim, *, cut_off: bool) -> None:
        uplink, sent_at = self.uplinks[worker], datetime.fromtimestamp(claim.charge.at / 1000, UTC)
        was_cut_off = uplink.is_cut_off
        uplink.note(cut_off=cut_off, started_at=sent_at)
        if was_cut_off and not uplink.is_cut_off:
            self.at(self.clock[0], "claim", worker, None)

    async def _settle(self, worker: str, claim: Claim, answer: Answer) -> None:
        self._note(worker, claim, cut_off=False)
        await super()._settle(worker, claim, answer)

    def minutes(self) -> float:
        return (self.clock[0] - self._start_ms) / 60_000

    async def _arrive(self, worker: str, claim: Claim) -> None:
        for outage in self.outages:
            concerned = outage.concerns(worker, claim.job_id)
            if outage.begins <= self.minutes() < outage.ends and concerned and self.random.random() < outage.share:
                self.at(self.clock[0] + outage.after_ms, "fail", worker, claim, outage.outcome)
                return
        self.granted_at.append(self.minutes())
        await super()._arrive(worker, claim)

    async def _fail(self, worker: str, claim: Claim, outcome: str) -> None:
        self.failed.append((self.minutes(), claim))
        policy, job, settings = POLICIES[outcome], self.jobs[claim.job_id], self.settings
        report = report_on(policy, claim, retry_after=None, settings=settings, now=self.now())
        assert report is not None
        standing = await self.queue.report(report)
        if standing.is_news:
            self.opened.append(self.minutes())
        self._note(worker, claim, cut_off=standing.is_cut_off)
        decision = decide(
            policy,
            retry_after=None,
            standing=standing,
            claim=claim,
            job=job,
            settings=settings,
            chance=self.random.random,
        )
        if isinstance(decision, GoBack):
            self.attempts += decision.uses_attempt
            snooze = Snooze(claim, decision.wait, uses_attempt=decision.uses_attempt, used=Cost(1, 0, 0))
            await self.queue.snooze(snooze)
        else:
            self.dead.append(claim.job_id)
            await self.queue.settle([Settlement(claim, Status.FAILED, used=Cost(1, 0, 0))])
        await self._slot_free(worker)

    def probes(self) -> list[float]:
        return [at for at, claim in self.failed if claim.probe]

    def rate(self, begins: float, ends: float) -> float:
        """Requests a second that were granted between two minutes, as a share of the paced rate."""
        return sum(begins <= at < ends for at in self.granted_at) / ((ends - begins) * 60) / PACED


async def a_fleet(
    redis: Redis,
    *outages: Outage,
    jobs: int,
    workers: int = 3,
    slots: int = 100,
    answers_take_s: tuple[float, float] = (0.5, 4),
    **how: object,
) -> FleetInTrouble:
    """Workers with that many jobs waiting, on a provider with shallow buckets."""
    clock = [1.8e12]
    settings = Settings.load(environ={}, rpm=RPM, itpm=10**8, otpm=10**8, probe_interval=INTERVAL, **how)
    queue = Queue(redis, clock=lambda: clock[0])
    await open_budget(queue, settings)
    limits = Limits(rpm=RPM, itpm=10**8, otpm=10**8, depth=DEPTH)
    provider = Provider(limits, charge_max_tokens=False, foreign=None, now_ns=0)
    generation = random.Random(3)
    fleet = FleetInTrouble(
        queue,
        clock,
        provider,
        settings,
        answer=lambda _job: Answer(41, 100, 1_000 * generation.uniform(*answers_take_s)),
        workers=workers,
        slots=slots,
    )
    fleet.begin(*outages)
    await fleet.submit([text_job(number, max_tokens=200) for number in range(jobs)])
    return fleet


OUTAGES = {
    "529": ("overloaded", 60),
    "500 with HTML": ("server_error", 60),
    "connection refused": ("connection_failed", 2),
    "hangs": ("timed_out", 120_000),
    "a key that was revoked": ("bad_key", 60),
}


@pytest.mark.parametrize("name", OUTAGES)
async def test_an_outage_of_four_hours_loses_nothing_and_costs_one_request_an_interval(redis: Redis, name: str) -> None:
    outcome, after_ms = OUTAGES[name]
    hours, began = 4, 2.0
    ends = began + hours * 60
    fleet = await a_fleet(redis, Outage(began, ends, outcome, after_ms), jobs=3_000)
    await fleet.run(ends + 6)
    (opened,) = fleet.opened
    in_vain = len(fleet.failed)
    print(
        f"\n{name}: out after {(opened - began) * 60:.1f} s and {in_vain - len(fleet.probes())} requests; "
        f"{len(fleet.probes())} probes in {hours} h; {fleet.attempts} attempts used up, {len(fleet.dead)} dead; "
        f"at {fleet.rate(ends + 0.75, ends + 1):.1%} of the rate after 45 to 60 s, {len(fleet.tally.refused)} 429s; "
        f"{len(fleet.answered)} of {len(fleet.jobs)} answered, {in_vain} requests beyond one a job"
    )
    assert len(fleet.probes()) <= timedelta(hours=hours) / INTERVAL
    assert (fleet.attempts, fleet.dead, fleet.tally.refused) == (0, [], [])
    assert fleet.rate(ends + 55 / 60, ends + 65 / 60) > 0.95
    assert Counter(fleet.answered) == dict.fromkeys(fleet.jobs, 1)


@pytest.mark.parametrize("begins", [1.0, 1.1, 1.2, 1.3, 1.4])
async def test_wherever_in_an_interval_it_ends_the_rate_is_back_within_a_minute(redis: Redis, begins: float) -> None:
    ends = begins + 10
    fleet = await a_fleet(redis, Outage(begins, ends, "overloaded"), jobs=2_000)
    await fleet.run(ends + 1.5)
    assert fleet.rate(ends + 1, ends + 1.2) > 0.95
    assert fleet.tally.refused == []


async def test_a_job_that_always_fails_ends_and_nobody_else_is_kept_from_going(redis: Redis) -> None:
    bad = frozenset(f"job-{number}" for number in range(0, 2_000, 200))
    fleet = await a_fleet(redis, Outage(0, 1e9, "server_error", 60, jobs=bad), jobs=2_000)
    await fleet.run(6)
    assert sorted(fleet.dead) == sorted(bad)
    assert fleet.opened == []
    requests = Counter(claim.job_id for _, claim in fleet.failed)
    # The first failure is nobody's fault yet, nor is one that is tried again before any answer has come back.
    assert all(fleet.settings.max_attempts < number <= fleet.settings.max_attempts + 4 for number in requests.values())
    assert len(fleet.answered) == 2_000 - len(bad)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6])
async def test_a_provider_that_fails_at_random_is_not_out(redis: Redis, share: float) -> None:
    fleet = await a_fleet(redis, Outage(0, 1e9, "overloaded", 60, share=share), jobs=3_000)
    await fleet.run(60)
    minutes = max(fleet.granted_at)
    print(f"\n{share:.0%} fail: all answered after {minutes:.1f} min, {len(fleet.failed) / 3_000:.2f} in vain for each")
    assert fleet.opened == []
    assert Counter(fleet.answered) == dict.fromkeys(fleet.jobs, 1)


async def test_a_bad_hour_is_not_amplified(redis: Redis) -> None:
    """Where three of four requests fail, retries that fail again take at most their share of the rate."""
    fleet = await a_fleet(redis, Outage(0, 1e9, "overloaded", 60, share=0.7), jobs=20_000, retry_share=0.1)
    await fleet.run(20)
    again = [at for at, claim in fleet.failed if claim.number > 1 and not claim.probe]
    share = len(again) / 20 / (PACED * 60)
    print(f"\n{share:.1%} of the rate went into retries that failed again; out {len(fleet.opened)} times")
    assert share < 0.1 + 0.01


@pytest.mark.parametrize(
    ("answers_take_s", "slots"), [((0.5, 4), 100), ((30, 120), 1_000)], ids=["short answers", "long answers"]
)
async def test_a_host_without_a_network_is_its_own_trouble(
    redis: Redis, answers_take_s: tuple[float, float], slots: int
) -> None:
    """Its failures come back within milliseconds, so that it would take job after job from those that are answered."""
    begins, ends = 1.0, 6.0
    outage = Outage(begins, ends, "connection_failed", 2, workers=frozenset({"w0"}))
    fleet = await a_fleet(redis, outage, jobs=3_600, slots=slots, answers_take_s=answers_take_s)
    await fleet.run(ends + 4)
    in_vain = len(fleet.failed)
    print(
        f"\n{in_vain} requests in vain in 5 min, {fleet.rate(begins, ends):.1%} of the rate meanwhile, "
        f"out {len(fleet.opened)} times; {fleet.attempts} attempts used up"
    )
    assert (fleet.opened, fleet.attempts, fleet.dead, fleet.tally.refused) == ([], 0, [], [])
    # Nobody hears wake-ups in a virtual fleet: whenever the worker that is cut off tries, a second may be lost.
    assert fleet.rate(begins, ends) > 0.95
    assert in_vain < 30
    assert Counter(fleet.answered) == dict.fromkeys(fleet.jobs, 1)


async def test_a_host_whose_network_is_back_works_again_within_an_interval(redis: Redis) -> None:
    outage = Outage(1, 4, "connection_failed", 2, workers=frozenset({"w0"}))
    fleet = await a_fleet(redis, outage, jobs=3_000)
    await fleet.run(4)
    before = fleet.uplinks["w0"].is_cut_off
    await fleet.run(0.6)
    assert (before, fleet.uplinks["w0"].is_cut_off) == (True, False)


@pytest.mark.parametrize("workers", [1, 2, 6])
async def test_where_all_hosts_lose_the_provider_it_is_out_for_all(redis: Redis, workers: int) -> None:
    """What was under way still ends well for some: each host seems cut off by itself, for as long as that is news."""
    fleet = await a_fleet(redis, Outage(2, 12, "connection_failed", 2), jobs=3_000, workers=workers)
    await fleet.run(14)
    (opened,) = fleet.opened
    print(f"\n{workers} workers: out after {(opened - 2) * 60:.1f} s, {len(fleet.failed)} requests in vain")
    assert (opened - 2) * 60 < 20
    assert len(fleet.probes()) <= timedelta(minutes=10) / INTERVAL
    assert fleet.rate(13, 14) > 0.95
