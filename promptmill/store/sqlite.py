"""SQLite: a file, written by any number of processes on one machine.

Each piece of work runs as a whole in a thread, because a call that crosses threads costs more than the statement that
it carries. Measured against aiosqlite, where each statement crosses several times: one result recorded in 0.6 ms
instead of 2.0, one job looked up in 0.1 ms instead of 0.6.

A commit is on disk when it returns (`synchronous=FULL`): like PostgreSQL, it survives a power cut, not only a killed
process. The price is one flush a transaction, and a worker's transaction holds every result of its moment.

A file that was deleted or moved is still written by whoever has it open, and SQLite does not mind: answers would be
settled that nobody finds again. So a transaction counts only if the file was still in its place when it had been
committed, and nothing but a migration makes a new one. Making one by connecting would do worse: beside an empty file
SQLite deletes the write-ahead log of the one that was there, which may hold the last thousand pages of answers.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from promptmill.errors import StoreMissing, StoreUnavailable
from promptmill.store import jsontext
from promptmill.store.columns import Text, key_of, storable
from promptmill.store.database import T, Work, failures_named

_THREADS: Final = 4
"""Readers at a time; they do not wait for the one that writes."""


class _Connection(sqlite3.Connection):
    file: tuple[int, int]
    """Device and inode of the file that it has open. Nobody else is given them as long as it has."""


class SqliteDatabase:
    """A SQLite file."""

    def __init__(self, path: Path, lock_wait: timedelta) -> None:
        """Other connections may hold the file's write lock for up to `lock_wait` before that is a failure."""
        self.where = f"sqlite:///{path}"
        self._path = path
        self._lock_wait = lock_wait
        self._engine = sa.create_engine(
            "sqlite://",
            creator=self._connect,
            poolclass=sa.QueuePool,
            pool_size=_THREADS,
            max_overflow=0,
            json_serializer=jsontext.dumps,
            json_deserializer=jsontext.loads,
            hide_parameters=True,
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="promptmill-store")
        # SQLite lets one connection write and has the others poll. Within this process they queue here instead.
        self._writing = asyncio.Lock()

    async def read(self, work: Work[T]) -> T:
        """Run `work` outside a transaction: a long reading would keep the write-ahead log from being folded in."""
        return await self._in_thread(self._read, work)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction."""
        async with self._writing:
            return await self._in_thread(self._write, work)

    async def migrate(self, work: Work[T]) -> T:
        """Run `work` in one transaction: its write lock keeps every other process out. Makes the file if need be."""
        with failures_named(self.where):
            self._make()
        return await self.write(work)

    async def close(self) -> None:
        """Wait for work that runs, then close every connection."""
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.dispose()

    def insert(self, table: sa.Table) -> sqlite.Insert:
        """Return an INSERT that knows ON CONFLICT."""
        return sqlite.insert(table)

    def any_of(self, column: sa.ColumnElement[Any], parameter: str) -> sa.ColumnElement[bool]:
        """Return `column IN` the strings of `parameter`, which travel as one JSON text."""
        given = sa.func.json_each(sa.bindparam(parameter, type_=sa.JSON)).table_valued("value")
        return column.in_(sa.select(given.c.value))

    def parameter(self, values: Sequence[str]) -> Any:
        """Return `values` as they stand in the rows."""
        return [storable(key_of(value)) for value in values]

    def has_tag(self, tags: sa.ColumnElement[Any], name: str, value: str) -> sa.ColumnElement[bool]:
        """Return whether the tag `name` has `value`; compared as values, so no name has to be quoted into a path."""
        each = sa.func.json_each(tags).table_valued("key", "value")
        return (
            sa.select(sa.literal(1))
            .where(each.c.key == storable(name), each.c.value == storable(value))
            .correlate(tags.table)
            .exists()
        )

    def tag(self, tags: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[str | None]:
        """Return the value of the tag `name`; null where there is none."""
        each = sa.func.json_each(tags).table_valued("key", sa.column("value", Text))
        return sa.select(each.c.value).where(each.c.key == storable(name)).correlate(tags.table).scalar_subquery()

    def announce_results(self, connection: sa.Connection) -> None:
        """Do nothing: only one connection writes at a time."""

    def wait_for_results(self, connection: sa.Connection) -> None:
        """Do nothing: the transaction of `connection` is the one that writes."""

    def hour(self, time: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
        """Return the number of the hour that `time` is in, counted from the epoch."""
        whole_second = sa.func.substr(sa.cast(time, sa.Text), 1, 19)  # a half millisecond before the hour is rounded up
        return sa.cast(sa.func.strftime("%s", whole_second), sa.Integer) // 3_600

    def _make(self) -> None:
        log = Path(f"{self._path}-wal")
        if not self._path.exists() and log.exists() and log.stat().st_size:
            raise StoreMissing(
                f"the result store at {self.where} is gone, and its write-ahead log is still there, with answers that "
                f"belong to it: put the file back; or, if it is lost, remove {log.name} and try again"
            )
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # prompts and answers are nobody else's
        self._path.touch()

    def _file(self) -> tuple[int, int]:
        """Return what is in the file's place now. Raises StoreMissing."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - half the time of Path's, at every transaction
        except FileNotFoundError:
            raise StoreMissing(
                f"there is no result store at {self.where}: if it was moved or deleted, put it back; "
                "`promptmill db upgrade` makes a new one"
            ) from None
        return found.st_dev, found.st_ino

    def _ensure_in_place(self, connection: sa.Connection) -> None:
        raw: Any = connection.connection.dbapi_connection
        if raw.file != self._file():
            connection.invalidate()
            raise StoreUnavailable(f"the result store at {self.where} is another file than it was")

    def _connect(self) -> sqlite3.Connection:
        file = self._file()  # before it is opened: one that is replaced meanwhile is found to be another
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",  # not made where it is missing
            uri=True,
            factory=_Connection,
            timeout=self._lock_wait.total_seconds(),
            isolation_level=None,  # sqlite3 begins no transaction by itself: `_write` does
            check_same_thread=False,  # the pool hands it from thread to thread, one at a time
        )
        connection.file = file
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # The mode belongs to the file. Where processes start together one of them sets it; the others, refused
            # because it does so at this moment, find it set when their turn to write comes.
            if not _is_locked(error):
                connection.close()
                raise
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    async def _in_thread(self, run: Any, work: Work[T]) -> T:
        result: T = await asyncio.get_running_loop().run_in_executor(self._threads, self._named, run, work)
        return result

    def _named(self, run: Any, work: Work[T]) -> T:
        with failures_named(self.where):
            try:
                result: T = run(work)
            except sa.exc.OperationalError as error:
                if not _is_locked(error.orig):
                    raise
                raise StoreUnavailable(
                    f"the result store at {self.where} is locked: another connection has kept its write lock for more "
                    f"than {self._lock_wait.total_seconds():g} s"
                ) from error
        return result

    def _read(self, work: Work[T]) -> T:
        with self._engine.connect() as connection:
            self._ensure_in_place(connection)
            try:
                return work(connection)
            except sa.exc.DBAPIError:
                connection.invalidate()
                raise

    def _write(self, work: Work[T]) -> T:
        with self._engine.connect() as connection:
            self._ensure_in_place(connection)
            try:
                # IMMEDIATE takes the write lock, waiting for it, before anything is read. A transaction that began by
                # reading could not wait: SQLite refuses it at once when somebody else wrote in between.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                result = work(connection)
                connection.commit()
            except sa.exc.DBAPIError:
                connection.invalidate()
                raise
            self._ensure_in_place(connection)
        return result


def _is_locked(error: BaseException | None) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
