"""Metrics of answers added up by the hour and series, so that a view of a million answers reads a few thousand rows.

The values stand in a JSON document of each result: reading twenty of them out of a million takes a database half a
minute. Whoever watches the answers adds them up as they pass by, in the transaction that says how far it has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa

from promptmill.alarms import SeriesKey
from promptmill.store.database import Database
from promptmill.store.schema import quality_hours

if TYPE_CHECKING:
    from promptmill.store.watching import Measured

HOUR: Final = timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST: Final = 1e100
"""Of a value: squares of it can still be added up. What is larger was measured by a plug-in that has gone astray."""


class HourKey(NamedTuple):
    """Of what a sum is."""

    hour: int
    """Counted from the epoch."""
    series: SeriesKey
    metric: str


@dataclass(slots=True)
class Sums:
    """Of the values of one metric, enough for their mean and how far they spread."""

    answers: int = 0
    """That have a value."""
    total: float = 0.0
    squares: float = 0.0

    def add(self, other: Sums) -> None:
        """Take further values in."""
        self.answers += other.answers
        self.total += other.total
        self.squares += other.squares

    @property
    def mean(self) -> float:
        """Of at least one value."""
        return self.total / self.answers

    @property
    def variance(self) -> float:
        """Of the population that the values are a sample of; of at least two values."""
        return max(0.0, self.squares - self.total * self.mean) / (self.answers - 1)


Hours = Mapping[HourKey, Sums]


def add_up(answers: Iterable[Measured]) -> dict[HourKey, Sums]:
    """Return the sums of these answers."""
    together: dict[tuple[int, SeriesKey], dict[str, Sums]] = {}
    for answer in answers:
        sums_of = together.setdefault((hour_of(answer.finished_at), answer.series), {})
        for metric, said in answer.quality.items():
            if said is None or (value := number(said)) is None:
                continue
            if (sums := sums_of.get(metric)) is None:
                sums = sums_of[metric] = Sums()
            sums.answers += 1
            sums.total += value
            sums.squares += value * value
    return {HourKey(*key, metric): sums for key, sums_of in together.items() for metric, sums in sums_of.items()}


def write(connection: sa.Connection, database: Database, hours: Hours) -> None:
    """Add to what stands in the rows."""
    insert = database.insert(quality_hours)
    added = {name: quality_hours.c[name] + insert.excluded[name] for name in ("answers", "total", "squares")}
    upsert = insert.on_conflict_do_update(index_elements=list(quality_hours.primary_key), set_=added)
    connection.execute(upsert, [_row(key, sums) for key, sums in sorted(hours.items(), key=lambda item: item[0])])


def hour_of(time: datetime) -> int:
    """Return the number of the hour that `time` is in."""
    return (time - _EPOCH) // HOUR


def start_of(hour: int) -> datetime:
    """Return when the hour of this number begins."""
    return _EPOCH + hour * HOUR


def number(value: Any) -> float | None:
    """Return a value that can be added up; what a plug-in measured may be anything."""
    # What is no number at all fails the comparison (NaN) or the first check.
    return float(value) if isinstance(value, (int, float)) and -_LARGEST < value < _LARGEST else None


def _row(key: HourKey, sums: Sums) -> dict[str, Any]:
    series = key.series
    return {
        "hour": key.hour,
        "asked_model": series.asked,
        "model": series.model,
        "kind": series.kind,
        "lane": series.lane,
        "metric": key.metric,
        "answers": sums.answers,
        "total": sums.total,
        "squares": sums.squares,
    }
