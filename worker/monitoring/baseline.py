"""What the answers of one series are like while all is well: how often a value falls into each range.

Counts in ranges suit every kind of metric (a flag has two ranges), forget the order, care nothing for long tails, and
are a few numbers to store however many answers they stand for.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import fmean
from typing import Any, Final, Self

from worker.quality.metric import Worse

RANGES: Final = 24
"""At most, of about as many answers each: finer ones tell hardly more apart."""
_FREQUENT: Final = 1 / 8
"""A value at an end that is at least this share of the answers gets a range of its own: what lies beyond is news."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """How many answers were counted in each range.

    Range i holds the values from cut i - 1 (included) up to cut i: there is one range more than there are cuts.
    """

    cuts: tuple[float, ...]
    counts: tuple[int, ...]
    means: tuple[float, ...] = ()
    """Of the values in each range, as far as those go from which the ranges were made; empty where 0.1.0 made them."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the baseline of `values`, in ranges chosen so that each holds about as many of them.

        Neighbouring values are never divided but half-way, so values that are repeated share one range. Raises
        ValueError where there is no value.
        """
        if not values:
            raise ValueError("a baseline: expected at least one value, got none")
        ordered, distinct = sorted(values), sorted(set(values))
        cuts = []
        if _is_frequent(ordered, distinct[0]):
            cuts.append(math.nextafter(distinct[0], -math.inf))
        for number in range(1, RANGES):
            value = ordered[number * len(ordered) // RANGES]
            place = bisect_left(distinct, value)
            if place and (cut := (distinct[place - 1] + value) / 2) not in cuts[-1:]:
                cuts.append(cut)
        if _is_frequent(ordered, distinct[-1]):
            cuts.append(math.nextafter(distinct[-1], math.inf))
        ends = [bisect_left(ordered, cut) for cut in cuts]
        spans = list(zip([0, *ends], [*ends, len(ordered)], strict=True))
        limits = [*cuts, cuts[-1]] if cuts else ordered[:1]  # stand where a range has no value yet
        means = [
            fmean(ordered[start:end]) if end > start else limit
            for (start, end), limit in zip(spans, limits, strict=True)
        ]
        return cls(tuple(cuts), tuple(end - start for start, end in spans), tuple(means))

    @property
    def size(self) -> int:
        """How many answers it was learned from."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Of all values, about: which ones they were in their ranges is not kept."""
        return sum(count * mean for count, mean in zip(self.counts, self.means, strict=True)) / self.size

    @property
    def spread(self) -> float:
        """Standard deviation, about."""
        mean = self.mean
        return math.sqrt(
            sum(count * (each - mean) ** 2 for count, each in zip(self.counts, self.means, strict=True)) / self.size
        )

    def surprises(self, worse: Worse) -> tuple[float, ...]:
        """Return for each range how surprisingly bad a value in it is: minus the log of the share that is as bad.

        Of a metric that gets worse in either direction no value is bad in itself: 0.
        """
        if worse == "either":
            return (0.0,) * len(self.counts)
        counts = self.counts if worse == "lower" else self.counts[::-1]
        surprises = [math.log((self.size + 1) / (as_bad + 0.5)) for as_bad in accumulate(counts)]
        return tuple(surprises if worse == "lower" else surprises[::-1])

    def with_more(self, counts: Sequence[int]) -> Baseline:
        """Return the baseline that knows of further answers, counted in the same ranges."""
        return replace(self, counts=tuple(old + new for old, new in zip(self.counts, counts, strict=True)))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"cuts": list(self.cuts), "counts": list(self.counts), "means": list(self.means)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the baseline that `to_json` was asked for."""
        return cls(tuple(stored["cuts"]), tuple(stored["counts"]), tuple(stored.get("means", ())))


def _is_frequent(ordered: Sequence[float], value: float) -> bool:
    return ordered.count(value) >= len(ordered) * _FREQUENT
