"""Dead letters: listed, sent back, thrown away. How they are written stands in `recording`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from promptmill.results import DeadLetter
from promptmill.store.database import Database
from promptmill.store.rows import DEAD_LETTER_COLUMNS, dead_letter_of
from promptmill.store.schema import dead_letters

_OPEN: Final = dead_letters.c.redriven_at.is_(None)


def page(connection: sa.Connection, *, reason: str | None, limit: int, after: DeadLetter | None) -> list[DeadLetter]:
    """Return open dead letters, the oldest first, that follow `after`."""
    keys = (dead_letters.c.died_at, dead_letters.c.job_id)
    statement = sa.select(*DEAD_LETTER_COLUMNS).where(_OPEN).order_by(*keys).limit(limit)
    if reason is not None:
        statement = statement.where(dead_letters.c.reason == reason)
    if after is not None:
        last = (sa.literal(after.died_at, keys[0].type), sa.literal(after.job_id, keys[1].type))
        statement = statement.where(sa.tuple_(*keys) > sa.tuple_(*last))
    return [dead_letter_of(row) for row in connection.execute(statement)]


def reasons(connection: sa.Connection) -> dict[str, int]:
    """Return how many open dead letters there are of each reason, the most frequent first."""
    number = sa.func.count()
    statement = (
        sa.select(dead_letters.c.reason, number).where(_OPEN).group_by(dead_letters.c.reason).order_by(number.desc())
    )
    return {reason: int(letters) for reason, letters in connection.execute(statement)}


def count(connection: sa.Connection) -> int:
    """Return how many dead letters are open."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(dead_letters).where(_OPEN)).scalar_one())


def load(connection: sa.Connection, job_id: str) -> DeadLetter | None:
    """Return the open dead letter of this job."""
    statement = sa.select(*DEAD_LETTER_COLUMNS).where(_OPEN, dead_letters.c.job_id == job_id)
    row = connection.execute(statement).one_or_none()
    return None if row is None else dead_letter_of(row)


def mark_redriven(connection: sa.Connection, database: Database, ids: Sequence[str]) -> int:
    """Close the dead letters of `ids`; return how many were open."""
    chosen = database.any_of(dead_letters.c.job_id, "ids")
    statement = sa.update(dead_letters).where(_OPEN, chosen).values(redriven_at=datetime.now(UTC))
    return _count(connection.execute(statement, {"ids": database.parameter(ids)}))


def purge(connection: sa.Connection, *, before: datetime, reason: str | None) -> int:
    """Delete what died before this time, open or redriven; return how many were deleted."""
    statement = sa.delete(dead_letters).where(dead_letters.c.died_at < before)
    if reason is not None:
        statement = statement.where(dead_letters.c.reason == reason)
    return _count(connection.execute(statement))


def _count(result: sa.CursorResult[Any]) -> int:
    return result.rowcount
