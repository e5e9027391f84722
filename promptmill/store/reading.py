"""Reading results: by id, and as a stream of pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from promptmill.errors import BadInput
from promptmill.results import Attempt, Result, Status
from promptmill.store.canary_answers import IS_CANARY
from promptmill.store.database import Database
from promptmill.store.entries import SettledLine
from promptmill.store.rows import ATTEMPT_COLUMNS, RESULT_COLUMNS, attempt_of, result_of
from promptmill.store.schema import attempts, results

_FIRST_PAGE: Final = 20
_LARGEST_PAGE: Final = 500
_PAGE_CHARS: Final = 4_000_000
"""Of answer text, roughly: pages of long answers hold fewer rows, so that memory stays flat."""
_LIGHT_PAGE: Final = 2_000
"""Rows without text."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which results; None does not choose."""

    run: str | None = None
    status: Status | None = None
    since: datetime | None = None
    lane: str | None = None
    model: str | None = None
    tag: tuple[str, str] | None = None
    canaries: bool = True
    """False: those of canaries are left out."""

    def conditions(self, database: Database) -> list[sa.ColumnElement[bool]]:
        """Return what a row must satisfy."""
        equal = {
            results.c.run: self.run,
            results.c.status: None if self.status is None else Status(self.status).value,
            results.c.lane: self.lane,
            results.c.model: self.model,
        }
        conditions = [column == value for column, value in equal.items() if value is not None]
        if self.since is not None:
            conditions.append(results.c.finished_at >= self.since)
        if not self.canaries:
            conditions.append(~IS_CANARY)
        if self.tag is not None:
            conditions.append(database.has_tag(results.c.tags, *self.tag))
        return conditions


class Reading:
    """The statements that read results."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id = sa.select(*RESULT_COLUMNS).where(database.any_of(results.c.job_id, "ids"))
        self._succeeded = self._by_id.where(results.c.status == Status.SUCCEEDED.value)
        self._attempts = (
            sa.select(*ATTEMPT_COLUMNS)
            .where(database.any_of(attempts.c.job_id, "ids"))
            .order_by(attempts.c.job_id, attempts.c.number)
        )

    def by_id(self, connection: sa.Connection, ids: Sequence[str], *, succeeded: bool) -> list[Result]:
        """Return the results of `ids`: all, or those that succeeded."""
        statement = self._succeeded if succeeded else self._by_id
        rows = connection.execute(statement, {"ids": self._database.parameter(ids)}).all()
        return self._with_attempts(connection, rows)

    def attempts(self, connection: sa.Connection, ids: Sequence[str]) -> dict[str, list[Attempt]]:
        """Return the attempts of `ids`, in order; who has none is missing."""
        found: dict[str, list[Attempt]] = {}
        for row in connection.execute(self._attempts, {"ids": self._database.parameter(ids)}):
            found.setdefault(row.job_id, []).append(attempt_of(row))
        return found

    async def stream(self, selection: Selection, *, in_input_order: bool) -> AsyncIterator[Result]:
        """Yield the selected results; see `ResultStore.results`."""
        conditions = selection.conditions(self._database)
        if in_input_order:
            if selection.run is None:
                raise BadInput("in_input_order: expected a run, got none; only the lines of one file have an order")
            by_position = (results.c.position, results.c.seq)
            async for result in self._pages([*conditions, results.c.position.is_not(None)], by_position):
                yield result
            conditions.append(results.c.position.is_(None))
        first = None if selection.since is None else await self._first_since(selection.since)
        async for result in self._pages(conditions, (results.c.seq,), first):
            yield result

    async def settled(self, run: str, after: int) -> AsyncIterator[SettledLine]:
        """Yield the lines of `run` behind position `after` that have a final result, in the order of the input."""
        keys = (results.c.position, results.c.seq)
        statement = sa.select(results.c.position, results.c.job_id, results.c.status, results.c.seq)
        statement = statement.where(results.c.run == run, results.c.position > after)
        last: tuple[Any, ...] | None = None
        while True:
            page = statement if last is None else statement.where(_behind(keys, last))
            rows = await self._database.read(partial(_all, page.order_by(*keys).limit(_LIGHT_PAGE)))
            for row in rows:
                yield SettledLine(row.position, row.job_id, Status(row.status))
            if len(rows) < _LIGHT_PAGE:
                return
            last = (rows[-1].position, rows[-1].seq)

    async def _pages(
        self,
        conditions: Sequence[sa.ColumnElement[bool]],
        keys: tuple[sa.Column[Any], ...],
        last: tuple[Any, ...] | None = None,
    ) -> AsyncIterator[Result]:
        """Yield page after page, each continuing behind the keys of the last row.

        Nothing is held between pages: a slow reader delays no writer, and rows may be added meanwhile.
        """
        size = _FIRST_PAGE
        while True:
            page = sa.select(*RESULT_COLUMNS).where(*conditions).order_by(*keys).limit(size)
            if last is not None:
                page = page.where(_behind(keys, last))

            def read(connection: sa.Connection, page: sa.Select[Any] = page) -> tuple[Any, list[Result]]:
                rows = connection.execute(page).all()
                reached = tuple(getattr(rows[-1], key.name) for key in keys) if rows else None
                return reached, self._with_attempts(connection, rows)

            last, found = await self._database.read(read)
            for result in found:
                yield result
            if len(found) < size:
                return
            chars = sum(len(result.text or "") for result in found) + 1
            size = max(1, min(size * 4, _LARGEST_PAGE, _PAGE_CHARS * len(found) // chars))

    async def _first_since(self, since: datetime) -> tuple[int]:
        """Return the key before the first result that ended at `since` or later, so that the pages begin there."""
        # + 0, because for a bare minimum both databases walk the table from its beginning instead of the index on time.
        first = sa.select(sa.func.min(results.c.seq + 0)).where(results.c.finished_at >= since)
        seq = await self._database.read(lambda connection: connection.execute(first).scalar())
        return (0 if seq is None else seq - 1,)

    def _with_attempts(self, connection: sa.Connection, rows: Iterable[sa.Row[Any]]) -> list[Result]:
        rows = list(rows)
        tried = self.attempts(connection, [row.job_id for row in rows]) if rows else {}
        return [result_of(row, tried.get(row.job_id, ())) for row in rows]


def _all(statement: sa.Select[Any], connection: sa.Connection) -> Sequence[sa.Row[Any]]:
    return connection.execute(statement).all()


def _behind(keys: tuple[sa.Column[Any], ...], last: tuple[Any, ...]) -> sa.ColumnElement[bool]:
    values = [sa.literal(value, key.type) for key, value in zip(keys, last, strict=True)]
    if len(keys) == 1:
        return keys[0] > values[0]
    return sa.tuple_(*keys) > sa.tuple_(*values)
