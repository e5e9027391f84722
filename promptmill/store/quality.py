"""What the metrics of many answers come to: by series and span of time, beside what they are usually like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from promptmill.alarms import SeriesKey
from promptmill.metrics import BUILT_IN, Kind, Worse
from promptmill.store.database import Database
from promptmill.store.schema import quality_hours, results, series, watch
from promptmill.store.sums import HOUR, Sums, add_up, hour_of, start_of
from promptmill.store.watching import MEASURED, Measured, read_measured, was_measured

_PAGE: Final = 2_000
_SERIES: Final = ("asked_model", "model", "kind", "lane")


@dataclass(frozen=True, slots=True)
class Learned:
    """The baseline that detection compares answers with."""

    mean: float
    spread: float
    """Standard deviation; both are right to a few percent, since single values are not kept."""
    answers: int
    """That it was learned from."""


@dataclass(frozen=True, slots=True)
class SeriesMetric:
    """One metric of one series."""

    series: SeriesKey
    metric: str
    kind: Kind
    worse: Worse
    baseline: Learned | None
    """None while it is learned, and where 0.1.0 learned it."""
    spans: dict[datetime, Sums] = field(default_factory=dict)
    """By the beginning of the span, in order. One without a value is missing."""

    @property
    def whole(self) -> Sums:
        """The sums of all spans."""
        whole = Sums()
        for sums in self.spans.values():
            whole.add(sums)
        return whole


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which series, and from when on; None does not choose."""

    since: datetime
    model: str | None
    """That answered."""
    kind: str | None
    lane: str | None

    def among(self, model: Any, kind: Any, lane: Any) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on these columns."""
        wanted = ((model, self.model), (kind, self.kind), (lane, self.lane))
        return [column == value for column, value in wanted if value is not None]


async def read_quality(database: Database, chosen: Chosen, every: timedelta) -> list[SeriesMetric]:
    """Return the metrics of the chosen series, in spans of `every`, which is a whole number of hours."""
    hours = every // HOUR
    first = hour_of(chosen.since) // hours * hours
    added_up, found = await database.read(partial(_sums, chosen=chosen, first=first, hours=hours))
    after = added_up
    while True:
        page = await database.read(partial(_since, chosen=chosen, after=after, first=start_of(first)))
        for (hour, key, metric), sums in add_up(page).items():
            found.setdefault((key, metric), {}).setdefault(hour // hours, Sums()).add(sums)
        if len(page) < _PAGE:
            break
        after = page[-1].seq
    known = await database.read(partial(_summaries, chosen=chosen))
    return [
        _told(key, metric, known.get(key, {}).get(metric), spans, hours)
        for (key, metric), spans in sorted(found.items(), key=lambda item: item[0])
    ]


Found = dict[tuple[SeriesKey, str], dict[int, Sums]]


def _sums(connection: sa.Connection, *, chosen: Chosen, first: int, hours: int) -> tuple[int, Found]:
    """Return up to which result all are added up, and the sums: by one statement, since they move together."""
    table = quality_hours.c
    rows = (
        sa.select(
            (table.hour // hours).label("span"),
            *(table[name] for name in (*_SERIES, "metric", "answers", "total", "squares")),
        )
        .where(table.hour >= first, *chosen.among(table.model, table.kind, table.lane))
        .subquery()
    )
    names = [rows.c[name] for name in ("span", *_SERIES, "metric")]
    summed = (
        sa.select(*names, *(sa.func.sum(rows.c[name]).label(name) for name in ("answers", "total", "squares")))
        .group_by(*names)
        .subquery()
    )
    found: Found = {}
    added_up = 0
    for row in connection.execute(
        sa.select(watch.c.added_up, summed).join_from(watch, summed, sa.true(), isouter=True)
    ):
        added_up = row.added_up
        if row.metric is not None:
            key = SeriesKey(row.asked_model, row.model, row.kind, row.lane)
            found.setdefault((key, row.metric), {})[row.span] = Sums(int(row.answers), row.total, row.squares)
    return added_up, found


def _since(connection: sa.Connection, *, chosen: Chosen, after: int, first: datetime) -> list[Measured]:
    """Return answers that are not added up yet: of the last seconds, or all where no worker ever watched."""
    statement = (
        sa.select(*MEASURED)
        .where(results.c.seq > after, results.c.finished_at >= first, *was_measured())
        .where(*chosen.among(results.c.sent_model, results.c.kind, results.c.lane))
        .order_by(results.c.seq)
        .limit(_PAGE)
    )
    return read_measured(connection, statement=statement)


def _summaries(connection: sa.Connection, *, chosen: Chosen) -> dict[SeriesKey, Mapping[str, Any]]:
    columns = [series.c[name] for name in (*_SERIES, "summary")]
    statement = sa.select(*columns).where(series.c.summary.is_not(None))
    statement = statement.where(*chosen.among(series.c.model, series.c.kind, series.c.lane))
    return {SeriesKey(*key): summary for *key, summary in connection.execute(statement)}


def _told(
    key: SeriesKey, metric: str, known: Mapping[str, Any] | None, spans: Mapping[int, Sums], hours: int
) -> SeriesMetric:
    declared = BUILT_IN.get(metric)
    learned = (known or {}).get("baseline")
    return SeriesMetric(
        series=key,
        metric=metric,
        kind=known["kind"] if known else declared.kind if declared else "amount",
        worse=known["worse"] if known else declared.worse if declared else "either",
        baseline=Learned(**learned) if learned else None,
        spans={start_of(span * hours): sums for span, sums in sorted(spans.items())},
    )
