"""Runs: what is written down about each file of prompts, and what its results come to."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import sqlalchemy as sa

from promptmill.results import Status, Usage
from promptmill.store.database import Database
from promptmill.store.entries import Run, RunTotals
from promptmill.store.rows import USAGE_COLUMNS, run_of, run_row
from promptmill.store.schema import results, runs

_SUMMED: Final = (*(name for name in USAGE_COLUMNS if name.endswith("_tokens")), "web_searches")


def save(connection: sa.Connection, database: Database, run: Run) -> None:
    """Write `run`, over what was known of it."""
    row = run_row(run)
    insert = database.insert(runs)
    changed = {name: insert.excluded[name] for name in row if name != "id"}
    connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=changed), row)


def load(connection: sa.Connection, run_id: str) -> Run | None:
    """Return the run of this id."""
    row = connection.execute(sa.select(runs).where(runs.c.id == run_id)).one_or_none()
    return None if row is None else run_of(row)


def newest(connection: sa.Connection, limit: int) -> list[Run]:
    """Return the runs that started last, the newest first."""
    statement = sa.select(runs).order_by(runs.c.started_at.desc(), runs.c.id).limit(limit)
    return [run_of(row) for row in connection.execute(statement)]


def totals(connection: sa.Connection, run_id: str) -> RunTotals:
    """Return what the results of the run come to."""
    priced = sa.func.count(results.c.cost_pico_usd)
    statement = (
        sa.select(
            results.c.status,
            sa.func.count().label("results"),
            (sa.func.count() - priced).label("unpriced"),
            sa.func.sum(results.c.cost_pico_usd).label("cost"),
            *(sa.func.sum(results.c[name]).label(name) for name in _SUMMED),
        )
        .where(results.c.run == run_id)
        .group_by(results.c.status)
    )
    rows = {Status(row.status): row for row in connection.execute(statement)}

    # sum() of whole numbers is a Decimal in PostgreSQL, and null where there is nothing to add.
    used: dict[str, Any] = {name: sum(int(getattr(row, name) or 0) for row in rows.values()) for name in _SUMMED}
    return RunTotals(
        counts={status: row.results for status, row in rows.items()},
        usage=Usage(**used),
        cost_usd=sum((row.cost for row in rows.values() if row.cost is not None), Decimal(0)),
        unpriced=rows[Status.SUCCEEDED].unpriced if Status.SUCCEEDED in rows else 0,
    )
