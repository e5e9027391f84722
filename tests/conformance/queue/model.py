"""What a reader of the design would expect of a queue: a few plain values for each job, no Redis and no scripts."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from promptmill.pacing import DIMENSIONS, MS_PER_MINUTE, Cost, Pace
from promptmill.queue import Claim, Disposition, Snooze, Submission
from promptmill.results import Status
from tests.support.queues import CLASS, LEASE

CLASSES: Final = (CLASS, "sonnet-5")
PACES: Final = tuple(
    {"requests": Pace(rate, 3), "input": Pace(40 * rate, 100), "output": Pace(20 * rate, 50)} for rate in (600, 240)
)
LEASE_MS: Final = LEASE / timedelta(milliseconds=1)
BROKEN_RECORDS: Final = (None, b"", b"[]", b'["l",2,"haiku-5-5",1,10,"20",1]', b"\xff", b'["r",9,"haiku-5-5"]')


@dataclass
class Expected:
    """What must be true of one job that has not ended."""

    job_id: str
    budget: str | None
    """None: an arq client put it in, or its record was lost, and nobody has adopted it yet."""
    due_at: float
    """Nobody may be sent for it before."""
    deadline: float | None = None
    cost: Cost | None = None
    kind: bool = False
    """Whether what its kind was seen to take replaces the cost."""
    run: str | None = None
    cancelled: bool = False
    holder: str | None = None
    """The token of whoever has it."""
    held_until: float = 0
    attempts: int = 0
    number: int = 0
    lost: int = 0
    payload: bool = True
    damaged: bool = False
    """Somebody took its record or its place in a lane away: it may be in none until a claim has mended that."""


class Spent:
    """What was granted of one budget since its limits were set, and what came back."""

    def __init__(self, paces: dict[str, Pace], *, empty_at: float | None = None) -> None:
        """`empty_at`: when it began with nothing to spend."""
        self._paces = paces
        self._events: list[tuple[float, dict[str, float]]] = []
        if empty_at is not None:
            self._events.append((empty_at, {d: paces[d].burst for d in DIMENSIONS}))

    def grant(self, cost: Cost, now: float) -> None:
        """I4: in every window that ends now no more than r * t + b; a last one above the burst counts as the burst."""
        for d in DIMENSIONS:
            pace, total = self._paces[d], min(getattr(cost, d), self._paces[d].burst)
            for at, amounts in reversed(self._events):
                total += amounts[d]
                if amounts[d] >= 0:
                    allowed = pace.rate * (now - at) / MS_PER_MINUTE + pace.burst
                    assert total <= allowed + 0.01, f"{total} {d} granted in {now - at} ms, expected {allowed}"
        self._events.append((now, {d: getattr(cost, d) for d in DIMENSIONS}))

    def refund(self, reserved: Cost, used: Cost, now: float) -> None:
        back = {d: min(0, getattr(used, d) - getattr(reserved, d)) for d in ("input", "output")}
        self._events.append((now, {"requests": -1e-9, **back}))


@dataclass(frozen=True)
class Ended:
    number: int
    """Of its last request."""
    kept: bool


@dataclass
class Model:
    """All jobs, and what happened to them."""

    jobs: dict[str, Expected] = field(default_factory=dict)
    ended: dict[str, Ended] = field(default_factory=dict)
    births: Counter[str] = field(default_factory=Counter)
    settlements: Counter[str] = field(default_factory=Counter)
    deletions: Counter[str] = field(default_factory=Counter)
    spent: dict[str, Spent | None] = field(default_factory=dict)
    """None: Redis does not know its limits."""
    blocked_until: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    runs: dict[str, Counter[str]] = field(default_factory=dict)
    ghosts: set[str] = field(default_factory=set)
    """Ids that may stand in lanes where they do not belong: of jobs whose record was lost or that were deleted."""
    heard_at: int | None = None
    """When leases were renewed last; None where the silence since was noticed."""
    spared_until: int = 0
    """No job changes hands before."""

    def held(self, claim: Claim) -> Expected | None:
        job = self.jobs.get(claim.job_id)
        return job if job and job.holder == claim.token else None

    def submitted(self, submission: Submission, *, now: float) -> None:
        job = submission.job
        self.jobs[job.id] = Expected(
            job.id,
            submission.budget,
            max(now, _ms(job.not_before) or 0),
            _ms(job.deadline),
            submission.cost,
            kind=bool(submission.kind),
            run=job.run,
            number=submission.requests_before,
        )
        self.births[job.id] += 1
        self._count(job.run, "submitted")

    def renewed(self, now: float) -> None:
        self.notice_silence(now)
        self.heard_at = math.floor(now)

    def notice_silence(self, now: float) -> None:
        """I6: where nobody was heard from for long, whoever lives gets half a lease to say so, once."""
        if self.heard_at is not None and now - self.heard_at > LEASE_MS / 2:
            self.heard_at, self.spared_until = None, math.ceil(now + LEASE_MS / 2)

    def leases_ran_out(self, now: float, claimed: set[str]) -> None:
        self.notice_silence(now)
        for job in self.jobs.values():
            if job.holder and job.held_until <= now < self.spared_until:
                job.held_until = self.spared_until
            # Every lease that ran out is gone with the next claim, but that of a stranger's job only with its own.
            to_be_adopted = job.budget is None and not job.cancelled
            if job.holder and job.held_until <= now and (job.job_id in claimed or not to_be_adopted):
                job.holder = None
                job.lost += 1

    def claimed(self, claim: Claim, *, now: float, until: float) -> None:
        job = self.jobs[claim.job_id]
        assert job.holder is None, "leased twice"
        job.number += 1
        assert claim.disposition is self._disposition(job, now)
        assert (claim.number, claim.attempts, claim.lost) == (job.number, job.attempts, job.lost)
        assert (claim.payload is not None) == job.payload
        job.holder, job.held_until, job.damaged = claim.token, until, False
        if claim.disposition is not Disposition.RUN:
            assert (claim.reserved.input, claim.reserved.output) == (0, 0)
            return
        assert claim.budget == job.budget
        assert job.cost is not None
        if not job.kind:
            assert claim.reserved == job.cost
        assert now >= self.blocked_until[claim.budget], "claimed from a budget that rests"
        spent = self.spent[claim.budget]
        assert spent is not None, "claimed from a budget without limits"
        spent.grant(claim.reserved, now)

    def _disposition(self, job: Expected, now: float) -> Disposition:
        if job.cancelled:
            return Disposition.CANCELLED
        assert job.due_at <= now or (job.deadline and job.deadline <= now), "claimed before its time"
        if job.budget is None:
            return Disposition.FOREIGN
        return Disposition.EXPIRED if job.deadline and job.deadline <= now else Disposition.RUN

    def settled(
        self, claim: Claim, status: Status, used: Cost | None, *, kept: bool, now: float, counted: bool = True
    ) -> None:
        job = self.jobs.pop(claim.job_id)
        self._correct(claim, used, now)
        self.settlements[job.job_id] += 1
        if "\udcff" not in job.job_id:  # a stranger's id is in no queue of ours
            self.ended[job.job_id] = Ended(job.number, kept)
        self.births.setdefault(job.job_id, 1)
        if counted:
            self._count(job.run, status.value)

    def snoozed(self, snooze: Snooze, *, now: float) -> None:
        job = self.jobs[snooze.claim.job_id]
        self._correct(snooze.claim, snooze.used, now)
        job.holder = None
        job.due_at = now + snooze.wait.total_seconds() * 1000
        job.attempts += snooze.uses_attempt
        job.number -= not snooze.sent
        job.budget = snooze.budget or job.budget
        if snooze.cost is not None:
            job.cost = snooze.cost

    def adopted(self, claim: Claim, submission: Submission, *, now: float) -> None:
        job = self.jobs[claim.job_id]
        job.holder, job.budget, job.number, job.payload = None, submission.budget, 0, True
        job.cost, job.run, job.deadline = submission.cost, submission.job.run, None
        job.due_at = max(now, _ms(submission.job.not_before) or 0)
        self._count(job.run, "submitted")

    def record_lost(self, job: Expected, *, now: float) -> None:
        """Nothing is known of it but that it is queued: whoever claims it next adopts it from its payload.

        That is at once where it is found in a lane, its own or one where it was left behind before.
        """
        waits_until = min(job.due_at, job.deadline or job.due_at)
        due_at = job.held_until if job.holder else waits_until
        if job.cancelled or job.job_id in self.ghosts:
            due_at = now
        self.jobs[job.job_id] = Expected(job.job_id, None, due_at, run=job.run, payload=job.payload, damaged=True)
        self.ghosts.add(job.job_id)

    def deleted(self, job: Expected) -> None:
        del self.jobs[job.job_id]
        self.births.setdefault(job.job_id, 1)
        self.deletions[job.job_id] += 1
        self.ghosts.add(job.job_id)

    def evicted(self, lane: list[bytes]) -> None:
        """Jobs that were in a lane are in none, until somebody finds nothing to claim."""
        for name in lane:
            if job := self.jobs.get(_text(name)):
                job.damaged = True

    def _correct(self, claim: Claim, used: Cost | None, now: float) -> None:
        spent = self.spent.get(claim.budget)
        if claim.disposition is Disposition.RUN and used is not None and spent is not None:
            spent.refund(claim.reserved, used, now)

    def _count(self, run: str | None, what: str) -> None:
        if run is not None:
            self.runs.setdefault(run, Counter())[what] += 1


def check_places(found: dict[str, Any], model: Model) -> None:
    """I1: each job is in the queue, has its record and its payload, and is in the one lane where it belongs.

    I3: the record counts what happened to it.
    """
    queue = {_text(key): score for key, score in _value(found, "promptmill:queue", [])}
    records = {_text(key): record for key, record in _value(found, "promptmill:jobs", {}).items()}
    places: dict[str, list[str]] = {job_id: [] for job_id in model.jobs}
    for key in found:
        if key.startswith("promptmill:lane:") or key == "promptmill:due":
            for name, _ in _value(found, key, []):
                if _text(name) in model.jobs:
                    places[_text(name)].append(key)
                else:
                    assert _text(name) in model.ghosts, f"{name} lingers in {key}"
    assert queue.keys() == model.jobs.keys()
    assert records.keys() <= model.jobs.keys()
    payloads = {key.removeprefix("arq:job:").replace("\\xff", "\udcff") for key in found if key.startswith("arq:job:")}
    assert payloads == {job.job_id for job in model.jobs.values() if job.payload}
    for job_id, job in model.jobs.items():
        if not job.damaged:
            _check_record(records.get(job_id), job, places[job_id], queue[job_id], ghost=job_id in model.ghosts)
    for model_class, until in model.blocked_until.items():
        assert float(_value(found, f"promptmill:budget:{model_class}", {}).get(b"blocked_until", 0)) == until
    for run, counted in model.runs.items():
        kept = {name.decode(): int(number) for name, number in _value(found, f"promptmill:run:{run}", {}).items()}
        assert {name: kept.get(name, 0) for name in counted} == counted


def _check_record(raw: bytes | None, job: Expected, places: list[str], score: float, *, ghost: bool) -> None:
    if raw is None:
        assert job.budget is None
        assert places == [] or ghost
        return
    values = orjson.loads(raw)
    state, lane, budget, *_ = values
    claims, attempts, lost = [*values[7:10], 0, 0, 0][:3]
    ends, token = [*values[12:14], *[0] * 14][:2]
    assert budget == (job.budget or "")
    assert (attempts, lost) == (job.attempts, job.lost), f"{values} of {job}"
    assert claims == job.number
    if state == "r":
        belongs = "promptmill:due" if ends else f"promptmill:lane:{budget}:{lane}"
        assert places == [belongs] or (ghost and belongs in places)
        assert score == (1 if ends or job.deadline is None else job.deadline)
        assert (token, job.holder) == (0, None)
    else:
        assert state == ("l" if job.holder else "w")
        assert token == (job.holder or 0)
        assert places == [] or ghost
        assert score > 1


def _ms(time: datetime | None) -> int | None:
    return None if time is None else round(time.timestamp() * 1000)


def _value(found: dict[str, Any], key: str, default: Any) -> Any:
    return found[key][0] if key in found else default


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
