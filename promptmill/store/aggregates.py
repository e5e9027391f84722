"""What many attempts and results come to: money and tokens by the hour, and percentiles of times. Added up in SQL.

Percentiles are exact: the value of that rank among all, found with window functions, which both databases have. A
sketch would be smaller but off by its error, and would have to be written with every result; here nothing is kept
beside the results, and any period and any grouping can be asked for afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

import sqlalchemy as sa

from promptmill.results import Status
from promptmill.store.canary_answers import IS_CANARY
from promptmill.store.columns import Milliseconds
from promptmill.store.database import Database
from promptmill.store.schema import attempts, results

Grouping = Literal["model", "lane"] | tuple[Literal["tag"], str]

_TOKENS: Final = (
    "input_tokens", "output_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens",
)  # fmt: skip
_PERCENTILES: Final = (50, 95, 99)
_HOUR: Final = 3_600


@dataclass(frozen=True, slots=True)
class Spend:
    """What the requests that ended within one hour used and cost, of one model, lane or tag."""

    hour: datetime
    """When it began, in UTC."""
    group: str | None
    """None: jobs without the tag, and in lanes those of which there is no result yet."""
    requests: int
    """That were answered; failures without usage cost nothing."""
    input_tokens: int
    """Neither written to a cache nor read from one."""
    cache_write_tokens: int
    cache_read_tokens: int
    output_tokens: int
    cost_usd: Decimal
    """Exact, of the requests that have a price."""
    unpriced: int
    """Requests without a known price."""


@dataclass(frozen=True, slots=True)
class Times:
    """Percentiles of one stage, and of how many answers."""

    count: int
    p50: timedelta
    p95: timedelta
    p99: timedelta


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the answers of one model in one lane took. A stage of which nothing is known is None."""

    model: str
    lane: str
    queue: Times | None
    """From submit, or the time it was due, to the first request."""
    first_byte: Times | None
    """From sending to the first byte; of streamed answers alone."""
    whole: Times | None
    """From sending to the last byte."""


def spend(connection: sa.Connection, database: Database, *, since: datetime, by: Grouping) -> list[Spend]:
    """Return what was spent since then, by hour and group, in that order."""
    group: sa.ColumnElement[Any]
    match by:
        case "model":
            group = attempts.c.model
        case "lane":
            group = results.c.lane
        case (_, name):
            group = database.tag(results.c.tags, name)
    # A subquery names the two: PostgreSQL would not see that an expression with parameters is the one to group by.
    rows = (
        sa.select(
            database.hour(attempts.c.ended_at).label("hour"),
            group.label("group"),
            attempts.c.cost_pico_usd,
            *(_number(name).label(name) for name in _TOKENS),
        )
        .select_from(attempts if by == "model" else attempts.outerjoin(results, results.c.job_id == attempts.c.job_id))
        .where(attempts.c.ended_at >= since, attempts.c.usage.is_not(None))
        .subquery()
    )
    statement = (
        sa.select(
            rows.c.hour,
            rows.c.group,
            sa.func.count().label("requests"),
            (sa.func.count() - sa.func.count(rows.c.cost_pico_usd)).label("unpriced"),
            sa.func.sum(rows.c.cost_pico_usd).label("cost"),
            *(sa.func.sum(rows.c[name]).label(name) for name in _TOKENS),
        )
        .group_by(rows.c.hour, rows.c.group)
        .order_by(rows.c.hour, rows.c.group)
    )
    return [
        Spend(
            hour=datetime.fromtimestamp(int(row.hour) * _HOUR, UTC),
            group=row.group,
            requests=row.requests,
            input_tokens=int(row.input_tokens),
            cache_write_tokens=int(row.cache_write_5m_tokens + row.cache_write_1h_tokens),
            cache_read_tokens=int(row.cache_read_tokens),
            output_tokens=int(row.output_tokens),
            cost_usd=row.cost or Decimal(0),
            unpriced=row.unpriced,
        )
        for row in connection.execute(statement)
    ]


def latency(connection: sa.Connection, *, since: datetime) -> list[Latency]:
    """Return the percentiles of answers since then, by model and lane; canaries, short as they are, left out."""
    answered = (results.c.status == Status.SUCCEEDED.value, results.c.finished_at >= since, ~IS_CANARY)
    of_results = sa.select(results.c.model, results.c.lane).where(*answered)
    first_byte = (
        sa.select(results.c.model, results.c.lane, attempts.c.first_byte_ms)
        .join_from(results, attempts, attempts.c.job_id == results.c.job_id)
        .where(*answered, attempts.c.error_name.is_(None))
    )
    stages = [
        _percentiles(connection, of_results.add_columns(results.c.queue_time_ms)),
        _percentiles(connection, first_byte),
        _percentiles(connection, of_results.add_columns(results.c.latency_ms)),
    ]
    groups = sorted({group for stage in stages for group in stage})
    return [Latency(*group, *(stage.get(group) for stage in stages)) for group in groups]


def _number(name: str) -> sa.ColumnElement[float]:
    """Return a count in `usage`: as any number, since a stranger's may be larger than a column of the database."""
    return sa.func.coalesce(sa.cast(attempts.c.usage[name].as_string(), sa.Numeric(asdecimal=False)), 0)


def _percentiles(connection: sa.Connection, chosen: sa.Select[Any]) -> dict[tuple[str, str], Times]:
    """Return the percentiles of the third column by the first two: the smallest value that so many do not exceed."""
    model, lane, value = chosen.selected_columns
    group = (model, lane)
    ranked = (
        chosen.with_only_columns(
            model.label("model"),
            lane.label("lane"),
            value.label("value"),
            sa.func.row_number().over(partition_by=group, order_by=value).label("rank"),
            sa.func.count().over(partition_by=group).label("count"),
        )
        .where(value.is_not(None), model.is_not(None))
        .subquery()
    )
    ranks = [(ranked.c.count * share + 99) // 100 for share in _PERCENTILES]
    of_rank = [sa.func.max(sa.case((ranked.c.rank == rank, ranked.c.value)), type_=Milliseconds) for rank in ranks]
    statement = sa.select(ranked.c.model, ranked.c.lane, ranked.c.count, *of_rank).group_by(
        ranked.c.model, ranked.c.lane, ranked.c.count
    )
    rows: Sequence[Any] = connection.execute(statement).all()
    return {(model, lane): Times(count, *times) for model, lane, count, *times in rows}
