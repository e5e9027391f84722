"""What the answers of one series are like while all is well: how often a value falls into each range.

Counts in ranges suit every kind of metric (a flag has two ranges), forget the order, care nothing for long tails, and
are a few numbers to store however many answers they stand for.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
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
        counts = [end - start for start, end in zip([0, *ends], [*ends, len(ordered)], strict=True)]
        return cls(tuple(cuts), tuple(counts))

    @property
    def size(self) -> int:
        """How many answers it was learned from."""
        return sum(self.counts)

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
        return Baseline(self.cuts, tuple(old + new for old, new in zip(self.counts, counts, strict=True)))

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {"cuts": list(self.cuts), "counts": list(self.counts)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the baseline that `to_json` was asked for."""
        return cls(tuple(stored["cuts"]), tuple(stored["counts"]))


def _is_frequent(ordered: Sequence[float], value: float) -> bool:
    return ordered.count(value) >= len(ordered) * _FREQUENT
