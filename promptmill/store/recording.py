"""Writing entries: one transaction, and the same entries again change nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from promptmill.results import DeadLetter, Result, Status
from promptmill.store.columns import Key, Text, Time, key_of
from promptmill.store.database import Database
from promptmill.store.entries import AttemptRecord, Entry
from promptmill.store.rows import DEAD_LETTER_COLUMNS, attempt_row, dead_letter_row, result_row
from promptmill.store.schema import attempts, dead_letters, results

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries as rows: at most one for each key, ordered by key.

    The order matters to PostgreSQL: two processes that write the same rows in different orders wait for each other.
    """

    attempts: Rows
    results: Rows
    dead_letters: Rows
    succeeded: list[str]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Batch:
        """Sort `entries` out. Of several results of one job a success counts, else the last."""
        tried: dict[tuple[str, int], dict[str, Any]] = {}
        final: dict[str, Result] = {}
        died: dict[str, DeadLetter] = {}
        for entry in entries:
            job_id = key_of(entry.job_id)
            match entry:
                case Result():
                    for attempt in entry.attempts:
                        tried.setdefault((job_id, attempt.number), attempt_row(job_id, attempt))
                    if job_id not in final or not final[job_id].ok:
                        final[job_id] = entry
                case AttemptRecord():
                    key = (job_id, entry.attempt.number)
                    tried.setdefault(key, attempt_row(job_id, entry.attempt))
                case DeadLetter():
                    died[job_id] = entry
        return cls(
            attempts=[row for _, row in sorted(tried.items())],
            results=[result_row(result) for _, result in sorted(final.items())],
            dead_letters=[dead_letter_row(letter) for _, letter in sorted(died.items())],
            succeeded=sorted(job_id for job_id, result in final.items() if result.ok),
        )


class Recording:
    """The statements that write a batch, built once: SQLAlchemy and the driver keep them prepared."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._attempts = database.insert(attempts).on_conflict_do_nothing()
        self._results = self._upsert_results(database)
        self._dead_letters = self._upsert_dead_letters(database)
        self._bury = sa.delete(dead_letters).where(database.any_of(dead_letters.c.job_id, "succeeded"))

    def write(self, connection: sa.Connection, batch: Batch) -> None:
        """Write `batch` in the transaction of `connection`."""
        if batch.attempts:
            connection.execute(self._attempts, batch.attempts)
        if batch.results:
            self._database.announce_results(connection)
            connection.execute(self._results, batch.results)
        if batch.succeeded:
            connection.execute(self._bury, {"succeeded": self._database.parameter(batch.succeeded)})
        if batch.dead_letters:
            connection.execute(self._dead_letters, batch.dead_letters)

    @staticmethod
    def _upsert_results(database: Database) -> sa.Insert:
        """Keep what succeeded (I2, I6); any other end gives way to what a redriven job came to."""
        insert = database.insert(results)
        columns = [column.name for column in results.c if column.name not in ("seq", "job_id")]
        return insert.on_conflict_do_update(
            index_elements=["job_id"],
            set_={name: insert.excluded[name] for name in columns},
            where=results.c.status != Status.SUCCEEDED.value,
        )

    @staticmethod
    def _upsert_dead_letters(database: Database) -> sa.Insert:
        """Let no job die that succeeded, and one that was redriven die again only at a later time."""
        given = {column.name: sa.bindparam(column.name, type_=column.type) for column in DEAD_LETTER_COLUMNS}
        succeeded = sa.exists().where(
            results.c.job_id == sa.bindparam("job_id", type_=Key),
            results.c.status == sa.literal(Status.SUCCEEDED.value, Text),
        )
        insert = database.insert(dead_letters).from_select(list(given), sa.select(*given.values()).where(~succeeded))
        names = [name for name in given if name != "job_id"]
        return insert.on_conflict_do_update(
            index_elements=["job_id"],
            set_={
                **{name: insert.excluded[name] for name in names},
                "redriven_at": sa.null().cast(Time),
            },
            where=insert.excluded.died_at > dead_letters.c.died_at,
        )
