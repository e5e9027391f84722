"""When a run will be done: what its open lines will take, over how fast it gets on.

What lines take is estimated from their prompts and put right by what the lines that have ended took. How fast the run
gets on is at first what its budget and its lane allow; then it is measured, in budget time: that sees workers too few,
others in the lane or above it, and a provider that is slower than its limits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from operator import mul
from typing import Final

from producers.files import Demand
from producers.runs.counters import Spent
from promptmill.foresight import NOTHING, Backlog, Work, admitted_ms, passed_ms, wall_ms
from promptmill.jobs import Lane

ENOUGH_MS: Final = 30_000.0
ENOUGH_REQUESTS: Final = 30
"""A pace is believed once it was measured for so long, and for the time of so many requests; up to then by degrees."""
PRIOR: Final = 30
"""Until so many lines have ended, estimates stand in for the rest of them: the first few mislead."""
LONGEST_GAP_MS: Final = 30_000.0
"""Between two looks. After a longer one the pace is measured anew: Redis or this machine was away."""
LONGEST_MS: Final = 365 * 86_400_000.0
"""Whoever would need longer does not move at all."""
_MOST_SAMPLES: Final = 128


class Pace:
    """How fast the lines of one model class go: budget time used, over budget time that passed.

    While the budget rests no such time passes, and less while it comes back to its rate: a pause says nothing about
    what comes after it. Measured over the later half since the first line went, so that what was is forgotten.
    """

    def __init__(self) -> None:
        self._clock = 0.0
        self._seen_at: float | None = None
        self._first: Work | None = None
        self._samples: list[tuple[float, Work]] = []
        self._spacing = 500.0

    def note(self, backlog: Backlog, sent: Work) -> None:
        """Take down all that was sent so far."""
        since, self._seen_at = self._seen_at, backlog.now
        if since is None or backlog.now - since > LONGEST_GAP_MS:
            self._first, self._samples = sent, []
        elif backlog.budget is not None:
            self._clock += passed_ms(backlog.budget, since, backlog.now)
        if self._first is None or sent.requests <= self._first.requests:
            return  # not its turn yet: workers start, or others go before it
        if len(self._samples) < 2 or self._clock >= self._samples[-2][0] + self._spacing:
            self._samples.append((self._clock, sent))
        else:
            self._samples[-1] = (self._clock, sent)
        if len(self._samples) > _MOST_SAMPLES:
            self._samples = [*self._samples[:-1:2], self._samples[-1]]
            self._spacing *= 2

    def measured(self, spend_ms: Callable[[Work], float], one: Work) -> tuple[float, float]:
        """Return the pace, and how far it is to be believed (0..1).

        `spend_ms` tells budget time from work, and `one` is what a request costs.
        """
        if len(self._samples) < 2:
            return 0.0, 0.0
        begin, (end, sent) = self._samples[0][0], self._samples[-1]
        enough = max(ENOUGH_MS, ENOUGH_REQUESTS * spend_ms(one))
        since = max(begin, min(end - enough, (begin + end) / 2))
        start, before = next(sample for sample in reversed(self._samples[:-1]) if sample[0] <= since)
        took = end - start
        return (spend_ms(sent - before) / took, min(1.0, took / enough)) if took > 0 else (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of a run that go through one lane of one budget."""

    open: Work
    queued: float
    """How many of the open ones are in Redis."""
    used: Work
    """What those that have ended took."""
    correction: Work
    """By what answers exceed their estimates, in each dimension."""


class RunForesight:
    """Looks ahead for one run; `look` is called every few seconds."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self._paces: dict[str, Pace] = {}

    def look(self, backlogs: Mapping[str, Backlog], spent: Spent, in_queue: int) -> timedelta | None:
        """Return the time left, or None where nobody can know.

        `backlogs` has every model class of the run. `spent` is what all lines that have ended used, and `in_queue` how
        many of the open ones are in Redis.
        """
        longest = 0.0
        by_class: dict[str, dict[Lane, _Lines]] = {}
        for (model_class, lane), lines in self._lines(backlogs, spent, in_queue).items():
            by_class.setdefault(model_class, {})[lane] = lines
        for model_class, run in by_class.items():
            if not any(lines.open.requests for lines in run.values()):
                continue
            left = _left_ms(self._paces.setdefault(model_class, Pace()), backlogs[model_class], run)
            if left is None:
                return None
            longest = max(longest, left)
        if self._demand.not_before is not None and longest:
            now = max(backlog.now for backlog in backlogs.values())
            longest = max(longest, self._demand.not_before.timestamp() * 1000 - now)
        return timedelta(milliseconds=longest)

    def _lines(self, backlogs: Mapping[str, Backlog], spent: Spent, in_queue: int) -> dict[tuple[str, Lane], _Lines]:
        still_open: dict[tuple[str, Lane], Work] = {}
        ended: dict[tuple[str, Lane], Work] = {}
        for part in self._demand.parts:
            key, learned = (part.model_class, part.lane), backlogs[part.model_class].learned
            still_open[key] = still_open.get(key, NOTHING) + part.open(learned)
            ended[key] = ended.get(key, NOTHING) + part.ended(learned)
        all_open, all_ended = sum(still_open.values(), NOTHING), sum(ended.values(), NOTHING)
        used = Work(all_ended.requests, spent.input_tokens, spent.output_tokens)
        few = (all_open + all_ended).mean * max(0.0, PRIOR - all_ended.requests)
        correction = _each(_over, used + few, all_ended + few)
        return {
            key: _Lines(
                open=_each(mul, work, correction),
                queued=in_queue * work.requests / all_open.requests,
                used=_each(mul, used, _each(_over, ended[key], all_ended)),
                correction=correction,
            )
            for key, work in still_open.items()
            if all_open.requests
        }


def _left_ms(pace: Pace, backlog: Backlog, run: Mapping[Lane, _Lines]) -> float | None:
    """Return how long the lines of one model class take (ms): what upper lanes are done with, the lowest one gets."""
    lowest = max((lane for lane, lines in run.items() if lines.open.requests), key=tuple(Lane).index)
    sent, to_send, before, usual_call = NOTHING, NOTHING, NOTHING, backlog.call_ms or 0.0
    for lane, lines in run.items():
        there = backlog.lanes[lane]
        running = min(there.running.requests, lines.queued)
        under_way = _each(mul, there.running.mean * running, lines.correction)
        sent, to_send = sent + lines.used + under_way, to_send + (lines.open - under_way)
        others = there.ready.mean * max(0.0, there.ready.requests - (lines.queued - running))
        if lane is lowest:
            before = others
        else:
            backlog = backlog.with_ready(lane, others)
    pace.note(backlog, sent)
    if not to_send.requests:
        return usual_call
    budget, allowed = backlog.budget, admitted_ms(backlog.with_ready(lowest, to_send + before), lowest)
    if allowed is None or budget is None:
        return None
    one = sum((lines.open for lines in run.values()), NOTHING).mean
    speed, belief = pace.measured(lambda work: work.budget_ms(budget.paces), one)
    begins = max(backlog.now, budget.blocked_until)
    measured = begins - backlog.now + wall_ms(budget.ramp, begins, to_send.budget_ms(budget.paces) / max(speed, 1e-9))
    together = 1 / (belief / max(measured, 1.0) + (1 - belief) / max(allowed, 1.0))
    return None if together > LONGEST_MS else together + usual_call


def _each(do: Callable[[float, float], float], a: Work, b: Work) -> Work:
    """Return what `do` makes of two works, dimension by dimension."""
    return Work(do(a.requests, b.requests), do(a.input, b.input), do(a.output, b.output))


def _over(a: float, b: float) -> float:
    return a / b if b else 1.0
