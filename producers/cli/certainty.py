"""How far a mean of answers can be trusted: intervals that hold the true one in 95 of 100 cases."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final, NamedTuple

from promptmill.metrics import Kind, Worse
from promptmill.store import Learned, Sums

_Z: Final = NormalDist().inv_cdf(0.975)
_FEWEST: Final = 5
"""Values of which an interval is told; flags have one from the first on."""


class Interval(NamedTuple):
    """From where to where."""

    low: float
    high: float


class Change(NamedTuple):
    """The difference of a mean from its baseline."""

    difference: float
    interval: Interval
    spread: float
    """Standard deviation of single values: by it, changes of different metrics can be compared."""

    def certainly_worse(self, worse: Worse) -> float:
        """Return by how many standard deviations answers have become worse at least; 0 where that is not certain."""
        lower, higher = max(0.0, -self.interval.high), max(0.0, self.interval.low)
        moved = {"lower": lower, "higher": higher, "either": max(lower, higher)}[worse]
        return moved / self.spread if self.spread else math.inf if moved else 0.0


def interval_of(kind: Kind, sums: Sums) -> Interval | None:
    """Return where the true mean lies: Wilson's interval for a share, Student's for others; None of too few."""
    if kind == "flag":
        return _wilson(sums.mean, sums.answers) if sums.answers else None
    if sums.answers < _FEWEST:
        return None
    half = _student(sums.answers - 1) * math.sqrt(sums.variance / sums.answers)
    return Interval(sums.mean - half, sums.mean + half)


def change_of(kind: Kind, sums: Sums, baseline: Learned) -> Change | None:
    """Return how far the mean is from a baseline: of shares Newcombe's interval, else Welch's; None of too few."""
    if kind == "flag" and sums.answers:
        now, then = _wilson(sums.mean, sums.answers), _wilson(baseline.mean, baseline.answers)
        down = math.hypot(sums.mean - now.low, then.high - baseline.mean)
        up = math.hypot(now.high - sums.mean, baseline.mean - then.low)
    elif sums.answers >= _FEWEST:
        error = math.sqrt(sums.variance / sums.answers + baseline.spread**2 / baseline.answers)
        down = up = _student(sums.answers - 1) * error
    else:
        return None
    difference = sums.mean - baseline.mean
    variance = sums.variance if sums.answers > 1 else 0.0
    spread = math.sqrt((variance + baseline.spread**2) / 2)
    return Change(difference, Interval(difference - down, difference + up), spread)


def _wilson(share: float, count: int) -> Interval:
    centre = share + _Z**2 / (2 * count)
    half = _Z * math.sqrt(max(0.0, share * (1 - share)) / count + _Z**2 / (4 * count**2))
    scale = 1 + _Z**2 / count
    # Where nothing, or everything, was seen, rounding must not say that there is something.
    low, high = ((centre - half) / scale if share else 0.0), ((centre + half) / scale if share < 1 else 1.0)
    return Interval(low, high)


def _student(freedom: int) -> float:
    """Return Student's quantile for 95 %, by Cornish and Fisher's expansion: from 4 degrees on right to 1 %."""
    z = _Z
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
