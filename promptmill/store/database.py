"""Where the store's rows are kept: SQLite or PostgreSQL.

Everything that reads or writes rows is a plain function of a SQLAlchemy connection, written once. A `Database` runs
such functions: it owns connections, transactions and their failures, and the few expressions in which the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from promptmill.errors import BadInput, BadSettings, StoreUnavailable

T = TypeVar("T")
Work = Callable[[sa.Connection], T]


class Database(Protocol):
    """One of the databases.

    `read`, `write` and `migrate` raise StoreUnavailable where the database does not answer or cannot do the work now,
    and BadInput where it never will because of a value. A connection that failed is not used again, so the next call
    begins afresh.
    """

    where: str
    """The address without user, password and options, for messages."""

    async def read(self, work: Work[T]) -> T:
        """Run `work`, which only reads; each of its statements sees what is committed by then."""

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction: committed when this returns, undone when this raises.

        Cancelled, it may be either: what is written must bear being written again.
        """

    async def migrate(self, work: Work[T]) -> T:
        """Run `work` in one transaction while no other process migrates; takes as long as it takes."""

    async def close(self) -> None:
        """Wait for work that runs, then close every connection."""

    def insert(self, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
        """Return an INSERT that knows ON CONFLICT."""

    def any_of(self, column: sa.ColumnElement[Any], parameter: str) -> sa.ColumnElement[bool]:
        """Return `column IN` the strings of `parameter`: one statement for any number of them."""

    def parameter(self, values: Sequence[str]) -> Any:
        """Return `values` as the parameter of an `any_of`."""

    def has_tag(self, tags: sa.ColumnElement[Any], name: str, value: str) -> sa.ColumnElement[bool]:
        """Return whether the tag `name` has `value`."""

    def tag(self, tags: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[str | None]:
        """Return the value of the tag `name`; null where there is none."""

    def announce_results(self, connection: sa.Connection) -> None:
        """Say, in the transaction that is going to, that it records results: see `wait_for_results`."""

    def wait_for_results(self, connection: sa.Connection) -> None:
        """Return when each result that was given a number is committed, or never will be.

        Until the transaction of `connection`, one that writes, is over, no other result is given a number: whoever
        reads up to the highest one, and next time on from there, misses none. Raises StoreUnavailable where one who
        records takes long.
        """

    def hour(self, time: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
        """Return the number of the hour that `time` is in, counted from the epoch."""


def connect(url: str, *, lock_wait: timedelta) -> Database:
    """Return the database at `url`; no connection is made yet.

    Raises BadSettings for an address that is neither SQLite's nor PostgreSQL's, and MissingExtra where the driver for
    PostgreSQL is not installed. No message shows the URL: it may hold a password.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in ("sqlite", "sqlite+aiosqlite"):
        from promptmill.store.sqlite import SqliteDatabase  # noqa: PLC0415 - only the driver that is used is loaded

        path = rest.removeprefix("/")
        if not rest.startswith("/") or not path or "?" in path or path.startswith((":", "file:")):
            raise BadSettings(
                "store_url: expected sqlite:///FILE (four slashes for an absolute path) without options, got "
                "something else after the scheme; a store in memory would lose what was paid for"
            )
        return SqliteDatabase(Path(path), lock_wait)
    if separator and scheme in ("postgres", "postgresql", "postgresql+asyncpg"):
        from promptmill.store.postgres import PostgresDatabase  # noqa: PLC0415 - as above

        return PostgresDatabase(f"postgresql://{rest}")
    raise BadSettings(
        "store_url: expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE, got "
        + (f"the scheme {scheme!r}" if separator else "no scheme")
    )


@contextmanager
def failures_named(where: str) -> Iterator[None]:
    """Turn a failure of the database into StoreUnavailable or BadInput.

    The messages are the database's own words about itself: statements and values, which hold answers, stay out (I7).
    """
    try:
        yield
    except sa.exc.DBAPIError as error:
        if _is_about_a_value(error):
            raise BadInput(f"the result store at {where} cannot hold a value: {_class_of(error)}") from None
        raise StoreUnavailable(f"the result store at {where} cannot be used: {_words_of(error)}") from error
    except sa.exc.StatementError as error:
        raise BadInput(f"the result store at {where} cannot hold a value: {type(error.orig).__name__}") from None
    except sa.exc.TimeoutError as error:
        raise StoreUnavailable(f"the result store at {where} is busy: no connection came free") from error
    except OSError as error:
        reason = error.strerror or str(error) or "no answer in time"
        raise StoreUnavailable(f"the result store at {where} does not answer: {reason}") from error


def _is_about_a_value(error: sa.exc.DBAPIError) -> bool:
    # SQLSTATE classes: 22 data exception (also where asyncpg refuses a value by itself), 23 integrity violation.
    state = getattr(error.orig, "sqlstate", None) or ""
    return isinstance(error, (sa.exc.DataError, sa.exc.IntegrityError)) or state[:2] in ("22", "23")


def _class_of(error: sa.exc.DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or type(error.orig).__name__


def _words_of(error: sa.exc.DBAPIError) -> str:
    words = error.orig.args[0] if error.orig is not None and error.orig.args else ""
    return str(words) or type(error).__name__
