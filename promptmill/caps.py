"""Caps on spending: what a lane, a model class or everything may cost in an hour or a day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from promptmill.jobs import Lane

NANO: Final = 1_000_000_000
"""Money in Redis is whole nano-USD."""


_PERIODS: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1)}


class SpendCap(BaseModel):
    """One `[[caps]]` of the file: what may be spent in each hour or day (UTC, on Redis' clock), by all workers.

    Counted is what answers cost, when they are settled or go back to the queue. Calls whose price is not known, or of
    which no usage was ever heard, count nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd: Annotated[Decimal, Field(gt=0, le=1_000_000)]
    per: Literal["hour", "day"]
    lane: Lane | None = None
    """None: every lane."""
    model_class: str | None = None
    """None: every model class."""
    action: Literal["park", "warn"] = "park"
    """`park`: nothing that the cap is for is sent until the hour or day is over. What was in flight when it was reached
    is all that goes beyond it. `warn`: said in the log, once for each hour or day."""

    def ends_at(self, now: datetime) -> datetime:
        """Return when the present hour or day is over."""
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        length = _PERIODS[self.per]
        return midnight + ((now - midnight) // length + 1) * length

    def spent(self, entries: Mapping[str, str], now: datetime) -> Decimal:
        """Return what was spent of it, from the entries of `promptmill:spend`; `now` is on Redis' clock, in UTC."""
        period = int(now.timestamp()) // int(_PERIODS[self.per].total_seconds())
        lane = None if self.lane is None else str(list(Lane).index(self.lane) + 1)
        total = 0
        for name, entry in entries.items():
            per, _, scope = name.partition(":")
            of_lane, _, model_class = scope.partition(":")
            of_period, _, nano = entry.partition(" ")
            is_for = lane in (None, of_lane) and self.model_class in (None, model_class)
            if per == self.per and is_for and of_period == str(period) and nano.isdecimal():
                total += int(nano)
        return Decimal(total) / NANO

    def __str__(self) -> str:
        scope = " ".join(part for part in (self.model_class, self.lane) if part)
        return f"{self.usd} USD {'an' if self.per == 'hour' else 'a'} {self.per}{f' for {scope}' if scope else ''}"


def parked_lanes(
    caps: Iterable[SpendCap], entries: Mapping[str, str], now: datetime, model_class: str
) -> frozenset[Lane]:
    """Return the lanes of `model_class` where a cap that parks is reached; the rest is as in `SpendCap.spent`."""
    return frozenset(
        lane
        for cap in caps
        if cap.action == "park" and cap.model_class in {None, model_class} and cap.spent(entries, now) >= cap.usd
        for lane in (Lane if cap.lane is None else [cap.lane])
    )


@dataclass(frozen=True, slots=True)
class CapReached:
    """A cap and what has been spent of it; told once in each hour or day, to one worker."""

    cap: SpendCap
    spent_usd: Decimal

    def to_log(self) -> dict[str, str | None]:
        """Return the fields of the log's entry."""
        cap = self.cap
        return {
            "cap": str(cap),
            "action": cap.action,
            "spent_usd": str(self.spent_usd),
            "lane": cap.lane,
            "model_class": cap.model_class,
        }
