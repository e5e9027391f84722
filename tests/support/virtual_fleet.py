"""Hours of a fleet in seconds: the real claim script on a clock of ours, against the simulator's exact token buckets.

No worker runs and nothing waits: an event list moves the clock from one thing to the next. What is real is what decides
about pacing: the scripts, on a real server, and the provider's buckets.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from promptmill.jobs import Job, Lane
from promptmill.pacing import Charge, Cost, Reading, paces
from promptmill.queue import Claim, Claims, Queue, Settlement, Snooze, prepare
from promptmill.results import Status
from promptmill.settings import Settings
from promptmill.testing.simulator.budget import Budget as Provider
from tests.support.queues import CLASS
from worker.provider.readings import read_limits

LEASE = timedelta(hours=1)
"""Leases are tested elsewhere: here nobody dies."""
OBSERVE_EVERY_MS = 100


async def open_budget(queue: Queue, settings: Settings, **how: Any) -> None:
    """Tell Redis the limits of Haiku 5.5 as a worker with these settings does."""
    pace = paces(
        settings.limits(CLASS),
        headroom=settings.headroom,
        request_burst=settings.request_burst,
        token_burst=settings.token_burst,
    )
    await queue.configure(CLASS, pace, **how)


@dataclass
class Answer:
    """What one request will take, known to the simulated provider alone."""

    input_tokens: int
    output_tokens: int
    generation_ms: float
    streamed: bool = False
    """Whether its headers come before it is generated, or with its end."""


@dataclass
class Tally:
    """What happened."""

    granted: int = 0
    refused: list[float] = field(default_factory=list)
    """When each 429 was answered (ms)."""
    claims: int = 0


class VirtualFleet:
    """Workers that claim, send after a delay, and settle; `run` moves the clock."""

    def __init__(
        self,
        queue: Queue,
        clock: list[float],
        provider: Provider,
        settings: Settings,
        *,
        answer: Callable[[Job], Answer],
        workers: int = 8,
        slots: int = 200,
        network_ms: tuple[float, float] = (40, 80),
        seed: int = 1,
        hears: bool = True,
    ) -> None:
        self.queue = queue
        self.clock = clock
        self.provider = provider
        self.settings = settings
        self.answer = answer
        self.network_ms = network_ms
        self.random = random.Random(seed)
        self.hears = hears
        """Whether the workers read the headers of answers."""
        self.tally = Tally()
        self.jobs: dict[str, Job] = {}
        self.answered: list[str] = []
        self.submitted_at: dict[str, float] = {}
        self.claimed_at: dict[str, float] = {}
        """When each job was first leased (ms)."""
        self.under_way: set[str] = set()
        self.free = {f"w{number}": slots for number in range(workers)}
        self._events: list[tuple[float, int, str, tuple]] = []
        self._order = itertools.count()
        self._alarm_of: dict[str, int] = {}
        self._start_ms = clock[0]
        self._heard: dict[str, tuple[str, Charge, dict[str, Reading]]] = {}
        """What each worker has heard and not yet passed on."""
        self._silent_until: dict[str, float] = {}

    def at(self, when: float, what: str, *args: object) -> int:
        """Put something on the list; its number."""
        number = next(self._order)
        heapq.heappush(self._events, (when, number, what, args))
        return number

    async def submit(self, jobs: list[Job]) -> None:
        """Queue jobs now."""
        for job in jobs:
            self.jobs[job.id] = job
            self.submitted_at[job.id] = self.clock[0]
        await self.queue.submit([prepare(job, self.settings) for job in jobs])

    def waits(self, lane: Lane) -> list[float]:
        """How long each job of a lane was in the queue before it was leased (ms)."""
        return [at - self.submitted_at[name] for name, at in self.claimed_at.items() if self.jobs[name].lane is lane]

    async def run(self, minutes: float, *, producer: Callable[[], list[Job]] | None = None) -> Tally:
        """Let `minutes` pass. `producer` is asked for more jobs once a (virtual) second."""
        end = self.clock[0] + minutes * 60_000
        for worker in self.free:
            self.at(self.clock[0], "claim", worker, None)
        if producer is not None:
            self.at(self.clock[0], "produce", producer)
        while self._events and self._events[0][0] <= end:
            when, number, what, args = heapq.heappop(self._events)
            if what == "claim" and args[1] is not None and self._alarm_of.get(args[0]) != number:
                continue  # the worker has claimed since: this alarm was put off
            self.clock[0] = max(self.clock[0], when)
            await getattr(self, f"_{what}")(*args)
        self.clock[0] = end
        return self.tally

    def _ns(self) -> int:
        return int((self.clock[0] - self._start_ms) * 1e6)

    async def _produce(self, producer: Callable[[], list[Job]]) -> None:
        if jobs := producer():
            await self.submit(jobs)
        self.at(self.clock[0] + 1000, "produce", producer)

    async def _submit(self, job: Job) -> None:
        await self.submit([job])

    async def _claim(self, worker: str, _alarm: object) -> None:
        if self.free[worker] <= 0:
            return
        self.tally.claims += 1
        claims = await self.queue.claim(
            worker=worker, lease=LEASE, most=self._most(worker), token_prefix=f"{worker}.{self.tally.claims}"
        )
        for claim in claims.jobs:
            self.free[worker] -= 1
            self.under_way.add(claim.job_id)
            self.claimed_at.setdefault(claim.job_id, self.clock[0])
            self.at(self.clock[0] + self.random.uniform(*self.network_ms), "arrive", worker, claim)
        wait = self._until_next(worker, claims)
        if wait is not None:
            # Event loops and networks are late by a little.
            late = self.random.uniform(0.2, 2.0)
            when = self.clock[0] + wait.total_seconds() * 1000 + late
            self._alarm_of[worker] = self.at(when, "claim", worker, True)

    def _most(self, worker: str) -> int:
        return self.free[worker]

    def _until_next(self, worker: str, claims: Claims) -> timedelta | None:
        del worker
        return claims.wait

    async def _arrive(self, worker: str, claim: Claim) -> None:
        job = self.jobs[claim.job_id]
        answer = self.answer(job)
        now = self._ns()
        maximum = int(job.request["max_tokens"])
        refusal = self.provider.admit(input_tokens=answer.input_tokens, max_tokens=maximum, now_ns=now)
        if self.hears:
            headers = dict(self.provider.headers(now_ns=now, utc=datetime.fromtimestamp(self.clock[0] / 1000, UTC)))
            wait = 0 if refusal is not None or answer.streamed else answer.generation_ms
            back = self.clock[0] + wait + self.random.uniform(*self.network_ms)
            self.at(back, "hear", worker, claim, read_limits(headers))
        if refusal is not None:
            self.tally.refused.append(self.clock[0] - self._start_ms)
            await self._refused(worker, claim, refusal.retry_after)
            return
        self.tally.granted += 1
        end = now + int(answer.generation_ms * 1e6)
        self.provider.generate(answer.output_tokens, max_tokens=maximum, start_ns=now, end_ns=end)
        self.at(self.clock[0] + answer.generation_ms, "settle", worker, claim, answer)

    async def _hear(self, worker: str, claim: Claim, readings: dict[str, Reading]) -> None:
        assert claim.charge is not None
        heard = self._heard.get(worker)
        if heard is None:
            self.at(max(self.clock[0], self._silent_until.get(worker, 0)), "tell", worker)
        if heard is None or claim.charge.at > heard[1].at:
            self._heard[worker] = (claim.budget, claim.charge, readings)

    async def _tell(self, worker: str) -> None:
        """As worker.observer: the newest alone, and at most one call in OBSERVE_EVERY_MS."""
        self._silent_until[worker] = self.clock[0] + OBSERVE_EVERY_MS
        await self.queue.observe(*self._heard.pop(worker))

    async def _refused(self, worker: str, claim: Claim, retry_after: int) -> None:
        await self.queue.block(claim.budget, timedelta(seconds=retry_after), "rate_limited", refused=claim)
        await self.queue.snooze(Snooze(claim, used=Cost(1, 0, 0)))
        await self._slot_free(worker)

    async def _settle(self, worker: str, claim: Claim, answer: Answer) -> None:
        self.answered.append(claim.job_id)
        self.under_way.discard(claim.job_id)
        used = Cost(1, answer.input_tokens, answer.output_tokens)
        run = self.jobs[claim.job_id].run
        await self.queue.settle([Settlement(claim, Status.SUCCEEDED, run=run, used=used)])
        await self._slot_free(worker)

    async def _refuse(self, model_class: str, wait: timedelta) -> None:
        """As if the provider had refused a request."""
        await self.queue.block(model_class, wait, "rate_limited")

    async def _slot_free(self, worker: str) -> None:
        was_full = self.free[worker] == 0
        self.free[worker] += 1
        if was_full:
            self.at(self.clock[0], "claim", worker, None)


def text_job(number: int, *, max_tokens: int, characters: int = 100, **fields: Any) -> Job:
    """A job whose prompt has about that many characters."""
    text = f"{number} ".ljust(characters, "x")
    request = {
        "model": "claude-haiku-5-5",
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": text}],
    }
    return Job(id=f"job-{number}", request=request, **fields)
