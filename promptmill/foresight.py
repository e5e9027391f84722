"""How long it will take: the time left for a lane and for a job, from backlog, expected cost and budget. Pure.

The measure is budget time: the milliseconds that what a request costs takes to come back at the full rate, in the
dimension where that takes longest. Lanes share it as the claim script shares it out.

What is not known is None, never a guess: nobody has set the limits, no worker is there, the provider is out, the
budget is parked until its owner mends something, the lane is paused or held by a cap on spending. It is taken for
granted that nothing more comes in above a lane, and that nobody else begins or ceases to use the account.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Self

from promptmill.jobs import Lane
from promptmill.pacing import GROWTH, MS_PER_MINUTE, Budget, Pace, Ramp

SHARES: Final[Mapping[Lane, float]] = {Lane.STANDARD: 0.05, Lane.OVERNIGHT: 0.02}
"""What each lower lane is owed of a budget's time while others go before it: as in lua/_budget.lua."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a number of requests are expected to cost together."""

    requests: float = 0
    input: float = 0
    output: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.requests + other.requests, self.input + other.input, self.output + other.output)

    def __sub__(self, other: Work) -> Work:
        return Work(
            max(0.0, self.requests - other.requests),
            max(0.0, self.input - other.input),
            max(0.0, self.output - other.output),
        )

    def __mul__(self, factor: float) -> Work:
        return Work(self.requests * factor, self.input * factor, self.output * factor)

    @property
    def mean(self) -> Work:
        """What one of the requests is expected to cost."""
        return self * (1 / self.requests) if self.requests else self

    def budget_ms(self, paces: Mapping[str, Pace]) -> float:
        """Return how long it takes to come back, in the dimension where that takes longest."""
        return max(
            self.requests * paces["requests"].ms_per_unit,
            self.input * paces["input"].ms_per_unit,
            self.output * paces["output"].ms_per_unit,
        )


NOTHING: Final = Work()


@dataclass(frozen=True, slots=True)
class Learned:
    """What prompts of one kind really take: see lua/_learned.lua."""

    output: float
    """Mean tokens of an answer."""
    ratio: float
    """Of real to estimated input tokens."""

    @classmethod
    def read(cls, entry: str) -> Self | None:
        """Return what an entry of the hash says; None where somebody else wrote it."""
        try:
            _, output, ratio = map(float, entry.split(" "))
        except ValueError:
            return None
        return cls(output, ratio)

    def corrected(self, estimate: Work, *, longest: float) -> Work:
        """Return what requests that were estimated so, with answers up to `longest` tokens, are expected to cost."""
        answer = min(longest, math.ceil(self.output))
        return Work(estimate.requests, math.ceil(estimate.input * self.ratio), estimate.requests * answer)


@dataclass(frozen=True, slots=True)
class LaneBacklog:
    """One lane of one model class."""

    ready: Work = NOTHING
    running: Work = NOTHING
    """Requests under way, at what was reserved for them."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What stood in the queue for one model class at one moment; of long queues it is estimated from a sample."""

    now: float
    """ms since the epoch, on Redis' clock."""
    budget: Budget | None
    """None: no worker has set its limits yet."""
    reason: str | None = None
    """Why the budget is, or last was, blocked."""
    free_slots: bool = True
    """Whether a worker waits for something to do."""
    is_out: bool = False
    """Whether the provider answers nobody, or refuses the account: probes find out when that is over."""
    parked_lanes: frozenset[Lane] = frozenset()
    """Those that are paused, or where a cap on spending is reached."""
    lanes: Mapping[Lane, LaneBacklog] = field(default_factory=lambda: dict.fromkeys(Lane, LaneBacklog()))
    learned: Mapping[str, Learned] = field(default_factory=dict)
    """By kind of prompt."""
    mean_age_ms: float | None = None
    """Of the requests under way, since they were claimed; None where there are none."""
    job_is_queued: bool = False
    """Whether the job that was asked for has not ended."""
    job_age_ms: float | None = None
    """If it is running: for how long."""

    @property
    def running(self) -> float:
        """Requests under way, in all lanes."""
        return sum(lane.running.requests for lane in self.lanes.values())

    @property
    def call_ms(self) -> float | None:
        """How long a call takes, about: who looks in at a random moment finds calls half done on average."""
        return None if self.mean_age_ms is None else 2 * self.mean_age_ms

    @property
    def parked_until(self) -> float | None:
        """When somebody will look whether it may go on (ms); None where the budget is not parked.

        A pause that the provider asked for is over when it is over; every other block lasts until its cause is gone.
        """
        if self.budget is None or self.budget.blocked_until <= self.now or self.reason in GROWTH:
            return None
        return self.budget.blocked_until

    @property
    def moves(self) -> bool:
        """Whether requests are being sent, or will be as soon as there is budget."""
        stands = self.budget is None or self.is_out or self.parked_until is not None
        return not stands and (self.free_slots or self.running > 0)

    def with_ready(self, lane: Lane, ready: Work) -> Backlog:
        """Return the backlog as it would be with `ready` in `lane`."""
        return replace(self, lanes={**self.lanes, lane: replace(self.lanes[lane], ready=ready)})


def lane_left(backlog: Backlog, lane: Lane) -> timedelta | None:
    """Return the time until the last of the jobs that are now in `lane`, or running, is answered.

    Jobs that wait for a time more than a minute away are not among them.
    """
    found = backlog.lanes[lane]
    if not found.ready.requests:
        return _left(backlog.call_ms) if found.running.requests else timedelta(0)
    admitted = admitted_ms(backlog, lane)
    return None if admitted is None else _left(admitted + (backlog.call_ms or 0))


def job_left(backlog: Backlog, lane: Lane, *, not_before: float = 0) -> timedelta | None:
    """Return the time until a job is answered; its `backlog` counts in `lane` those that go before it alone.

    `not_before` (ms) is when a job that waits comes due. A call whose usual length nobody knows counts nothing.
    """
    if backlog.job_age_ms is not None:
        left = None if backlog.call_ms is None else backlog.call_ms - backlog.job_age_ms
        return None if left is None or left < 0 else _left(left)
    one = backlog.lanes[lane].ready
    admitted = admitted_ms(backlog.with_ready(lane, one + (one.mean if one.requests else Work(requests=1))), lane)
    if admitted is None:
        return None
    return _left(max(admitted, not_before - backlog.now) + (backlog.call_ms or 0))


def admitted_ms(backlog: Backlog, lane: Lane) -> float | None:
    """Return the time until the last job that is now ready in `lane` is sent (ms), or None where nobody knows."""
    budget = backlog.budget
    if budget is None or not backlog.moves or lane in backlog.parked_lanes:
        return None
    start = max(backlog.now, budget.blocked_until)
    paces = _with_slots(backlog, budget.paces)
    ready = {each: NOTHING if each in backlog.parked_lanes else found.ready for each, found in backlog.lanes.items()}
    last = ready[lane].mean
    if lane is next(each for each in Lane if ready[each].requests or each is lane):
        ready[lane] -= last  # at the head of the queue a request needs no more than a full bucket
    debt = 0.0
    for d, pace in budget.paces.items():
        needed = min(getattr(last, d), pace.burst)
        debt = max(debt, max(budget.tats[d], start) - start + (needed - pace.burst) * pace.ms_per_unit)
    took = _until_done(lane, {each: work.budget_ms(paces) for each, work in ready.items()})
    return start - backlog.now + debt + wall_ms(budget.ramp, start + debt, took)


def wall_ms(ramp: Ramp, start: float, budget_ms: float) -> float:
    """Return how long so much of a budget's time takes from `start` (ms) on, on its way back to its rate."""
    share, growth = ramp.at(start), ramp.growth / MS_PER_MINUTE
    if share >= 1:
        return budget_ms
    until_full = (1 - share) / growth if growth else math.inf
    meanwhile = (share + 1) / 2 * until_full
    if budget_ms >= meanwhile:
        return until_full + budget_ms - meanwhile
    return 2 * budget_ms / (share + math.sqrt(share**2 + 2 * growth * budget_ms))


def passed_ms(budget: Budget, since: float, now: float) -> float:
    """Return how much of a budget's time passed in a short while: none while it is blocked."""
    return 0.0 if now < budget.blocked_until else (now - since) * budget.ramp.at(now)


def _with_slots(backlog: Backlog, paces: Mapping[str, Pace]) -> Mapping[str, Pace]:
    """Return `paces` with no more requests than workers have hands for, where each of them has its hands full."""
    if backlog.free_slots or not backlog.call_ms:
        return paces
    rate = min(paces["requests"].rate, backlog.running / backlog.call_ms * MS_PER_MINUTE)
    return {**paces, "requests": Pace(rate, paces["requests"].burst)}


def _until_done(asked: Lane, took: Mapping[Lane, float]) -> float:
    """Return the budget time until all of `asked` is done.

    The first lane that has anything gets all that those below it are not owed.
    """
    left, time = dict(took), 0.0
    while left[asked] > 0:
        waiting = [lane for lane in Lane if left[lane] > 0]
        rates = {lane: SHARES[lane] for lane in waiting[1:]}
        rates[waiting[0]] = 1 - sum(rates.values())
        through = min(waiting, key=lambda lane: left[lane] / rates[lane])
        step = left[through] / rates[through]
        left |= {lane: max(0.0, left[lane] - step * rates[lane]) for lane in waiting}
        left[through] = 0.0
        time += step
    return time


def _left(milliseconds: float | None) -> timedelta | None:
    return None if milliseconds is None else timedelta(milliseconds=max(0.0, milliseconds))
