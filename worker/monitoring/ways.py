"""Ways in which answers get worse, as likelihood ratios: how much more likely a value is if they have, than if not.

A way says what becomes of the distribution of a metric, whatever it looks like, by one function: the share of answers
that is at least as bad as the baseline's worst `share`. So the same ways serve proportions, lengths and scores, and
depend on ranks alone: a thousandfold outlier weighs as much as the worst answer that was ever seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Final, Literal

from worker.monitoring.baseline import Baseline
from worker.quality.metric import Kind, Worse

Direction = Literal["lower", "higher"]

DOUBT: Final = 1.0
"""Standard errors by which a baseline may err in our favour. A baseline of a few hundred answers is never exact; taken
at its word, three in ten series would have several times the false alarms that they were granted."""
_UNSEEN: Final = 0.1
"""Answers that are taken to have been in a range where none was."""

_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Way:
    """One way of getting worse."""

    name: str
    distort: Callable[[float], float]
    """The share of answers that is now as bad as the worst `share` was; both on 0..1, 0 and 1 stay."""


@dataclass(frozen=True, slots=True)
class Ratios:
    """A way that is watched in one direction of one series."""

    way: Way
    direction: Direction
    logs: tuple[float, ...]
    """For each range of the baseline: log of how much more likely it is if answers have become worse in this way."""
    information: float
    """Mean of the log over answers that have: what one of them tells, in nats."""


def _all(shift: float) -> Callable[[float], float]:
    """Return: every answer is worse by `shift` standard deviations, on whatever scale makes the values normal."""
    return lambda share: _NORMAL.cdf(_NORMAL.inv_cdf(share) + shift)


def _some(part: float) -> Callable[[float], float]:
    """Return: this part of the answers comes from elsewhere, and nearly all of it is among the worst."""
    return lambda share: (1 - part) * share + part * share**0.1


_SLIGHTLY: Final = Way("all slightly", _all(0.25))
_CLEARLY: Final = Way("all clearly", _all(0.5))
_MANY: Final = Way("15 in 100 badly", _some(0.15))
_FEW: Final = Way("2 in 100 badly", _some(0.02))


def watched_ways(kind: Kind, worse: Worse) -> list[tuple[Way, Direction]]:
    """Return the ways that are watched in a metric, each with the direction that is worse."""
    ways = [_SLIGHTLY, _CLEARLY, _MANY]
    if kind == "flag":
        ways.append(_FEW)  # of an amount, two in a hundred bad ones cannot be told from its own bad ones
    directions: tuple[Direction, ...] = ("lower", "higher") if worse == "either" else (worse,)
    return [(way, direction) for direction in directions for way in ways]


def ratios(baseline: Baseline, kind: Kind, worse: Worse, *, clean: int) -> Iterator[Ratios]:
    """Yield what each watched way makes of `baseline`, given the benefit of the doubt.

    `clean` answers without fault are added to those that were counted, for metrics of which that is known beforehand.
    """
    for way, direction in watched_ways(kind, worse):
        counts = baseline.counts if direction == "lower" else baseline.counts[::-1]
        before = _shares(counts, clean)
        after = [0.0, *map(way.distort, before[1:-1]), 1.0]
        old, new = _steps(before), _steps(after)
        logs = [math.log(now / then) for now, then in zip(new, old, strict=True)]
        information = math.fsum(share * log for share, log in zip(new, logs, strict=True))
        yield Ratios(way, direction, tuple(logs if direction == "lower" else logs[::-1]), information)


def _shares(counts: Sequence[int], clean: int) -> list[float]:
    """Return 0, then which share of answers lies in the worst range, in the worst two, and so on to 1.

    Each is at the upper end of its confidence interval (Wilson's, which is never zero).
    """
    total = sum(counts) + len(counts) * _UNSEEN + clean
    worst = 0.0
    shares = [0.0]
    for count in counts[:-1]:
        worst += count + _UNSEEN
        shares.append(_upper_end(worst, total))
    return [*shares, 1.0]


def _upper_end(part: float, total: float) -> float:
    share, doubt = part / total, DOUBT**2 / total
    spread = math.sqrt(share * (1 - share) * doubt + doubt**2 / 4)
    return (share + doubt / 2 + spread) / (1 + doubt)


def _steps(shares: Sequence[float]) -> list[float]:
    return [upper - lower for lower, upper in pairwise(shares)]
