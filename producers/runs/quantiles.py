"""Percentiles of any number of values in a few kilobytes."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

ERROR: Final = 0.005
"""Largest relative error of a percentile."""

_GAMMA: Final = (1 + ERROR) / (1 - ERROR)
_SMALLEST: Final = 1e-9
"""Anything below counts as 0."""


class Quantiles:
    """Counts values in buckets whose borders grow by 1 %, as DDSketch does: a percentile is off by 0.5 % at most.

    Values are not negative. A range from a microsecond to a month fills 3,000 buckets at most.
    """

    def __init__(self) -> None:
        self.count = 0
        self._zeros = 0
        self._buckets: Counter[int] = Counter()

    def add(self, value: float) -> None:
        """Count a value; a negative one, as clocks that disagree make them, counts as 0."""
        self.count += 1
        if value < _SMALLEST:
            self._zeros += 1
        else:
            self._buckets[math.ceil(math.log(value, _GAMMA))] += 1

    def quantile(self, share: float) -> float | None:
        """Return the smallest value that at least this share of all values does not exceed; None without values."""
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count)) - self._zeros
        if rank <= 0:
            return 0.0
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return 2 * _GAMMA**bucket / (_GAMMA + 1)
        raise AssertionError("the buckets hold as many values as were counted")
