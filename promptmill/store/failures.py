"""What requests came to, whose fault it was, and which answers came from another model than was asked first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from promptmill.store.database import Database
from promptmill.store.schema import FELL_BACK, attempts, results
from promptmill.store.sums import start_of


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many requests to one model came to one outcome, of failures in one hour."""

    model: str
    outcome: str
    blame: str | None
    """Whose fault: ours, the provider's, the network's; None: it was answered."""
    hour: datetime | None
    """When it began, in UTC; None of what was answered, which is counted over the whole time."""
    requests: int


@dataclass(frozen=True, slots=True)
class Fallbacks:
    """How many answers of one hour came from another model than was asked first, for one reason."""

    asked: str
    model: str
    reason: str | None
    """What the last request to the models before it came to; None where none was sent."""
    hour: datetime
    """When it began, in UTC."""
    answers: int


def outcomes(connection: sa.Connection, database: Database, *, since: datetime) -> list[Outcomes]:
    """Return what the requests that ended since then came to, by model, outcome and hour."""
    failed = attempts.c.error_name.is_not(None)
    # The hour of failures alone: finding out that of every answer would take most of the time.
    rows = (
        sa.select(
            attempts.c.model,
            attempts.c.outcome,
            attempts.c.error_blame.label("blame"),
            sa.case((failed, database.hour(attempts.c.ended_at))).label("hour"),
        )
        .where(attempts.c.ended_at >= since)
        .subquery()
    )
    return [
        Outcomes(row.model, row.outcome, row.blame, None if row.hour is None else start_of(int(row.hour)), row.count)
        for row in _counted(connection, rows, "model", "outcome", "blame", "hour")
    ]


def fallbacks(connection: sa.Connection, database: Database, *, since: datetime) -> list[Fallbacks]:
    """Return which answers since then came from another model than was asked first, by models, reason and hour."""
    reason = (
        sa.select(attempts.c.outcome)
        .where(attempts.c.job_id == results.c.job_id, attempts.c.model != results.c.sent_model)
        .order_by(attempts.c.number.desc())
        .limit(1)
        .correlate(results)
        .scalar_subquery()
    )
    rows = (
        sa.select(
            results.c.asked_model.label("asked"),
            results.c.sent_model.label("model"),
            reason.label("reason"),
            database.hour(results.c.finished_at).label("hour"),
        )
        .where(results.c.finished_at >= since, FELL_BACK)
        .subquery()
    )
    return [
        Fallbacks(row.asked, row.model, row.reason, start_of(int(row.hour)), row.count)
        for row in _counted(connection, rows, "asked", "model", "reason", "hour")
    ]


def _counted(connection: sa.Connection, rows: sa.Subquery, *names: str) -> Any:
    columns = [rows.c[name] for name in names]
    counted = sa.select(*columns, sa.func.count().label("count")).group_by(*columns)
    return sorted(connection.execute(counted), key=lambda row: tuple((value is not None, value) for value in row[:-1]))
