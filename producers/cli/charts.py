"""Small charts of one line: a bar for each hour until now, or for several together where there are many."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

_BARS: Final = " ▁▂▃▄▅▆▇█"
_STEPS: Final = len(_BARS) - 1
_WIDTH: Final = 48
_HOUR: Final = timedelta(hours=1)
_LEAST_RANGE: Final = 0.1
"""Share of the highest value that the bars of `levels` span at least: what hardly moves shall look like that."""


class Axis:
    """The places of a chart: the last one is now."""

    def __init__(self, now: datetime, hours: float, every: timedelta = _HOUR) -> None:
        """`every` divides a day; times are in UTC."""
        self.first: Final = _floor(now - hours * _HOUR, every)
        """When the first place begins."""
        count = (_floor(now, every) - self.first) // every + 1
        together = -(-count // _WIDTH)
        self._step = together * every
        self.count: Final = -(-count // together)

    def place(self, time: datetime) -> int:
        """Return where `time` stands; the nearest end where it is outside: a clock elsewhere may be ahead."""
        return max(0, min((time - self.first) // self._step, self.count - 1))


def bars(values: Sequence[Decimal | int]) -> str:
    """Return a bar for each amount, the highest full; one that is not nothing can be seen."""
    highest = max(values)
    if not highest:
        return _BARS[0] * len(values)
    return "".join(_BARS[0 if not value else max(1, round(value / highest * _STEPS))] for value in values)


def levels(values: Sequence[float | None]) -> str:
    """Return a bar for each level, from the lowest to the highest; a gap where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return _BARS[0] * len(values)
    highest = max(known)
    lowest = min(*known, highest * (1 - _LEAST_RANGE))
    spread = (highest - lowest) or 1.0
    return "".join(
        _BARS[0] if value is None else _BARS[1 + round((value - lowest) / spread * (_STEPS - 1))] for value in values
    )


def marks(places: Collection[int]) -> str:
    """Return a line to stand below a chart, with a mark under each of these places; empty without any."""
    return "".join("▲" if place in places else " " for place in range(max(places, default=-1) + 1))


def _floor(time: datetime, every: timedelta) -> datetime:
    midnight = time.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (time - midnight) // every * every
