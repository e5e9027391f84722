"""PostgreSQL: for workers on more than one machine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from promptmill.errors import BadSettings, MissingExtra
from promptmill.store import jsontext
from promptmill.store.columns import Key, Text, storable
from promptmill.store.database import T, Work, failures_named

try:
    import asyncpg
except ImportError:
    raise MissingExtra("a result store in PostgreSQL", "postgres") from None

_CONNECTIONS: Final = 4
"""Of one process; a server takes 100 from everybody by default."""
_CONNECT_WAIT: Final = timedelta(seconds=10)
_STATEMENT_WAIT: Final = timedelta(seconds=30)
"""A server that was cut off says nothing; without a limit the wait ends when TCP gives up, in a quarter of an hour."""
_MIGRATION_LOCK: Final = 0x70726F6D70746D6C
"""Key of the advisory lock, any number that nobody else uses: "promptml" in ASCII."""
_RECORDING_LOCK: Final = _MIGRATION_LOCK + 1
_PATIENCE: Final = timedelta(milliseconds=500)
"""How long those who record may be kept waiting behind a slow one, so that what they wrote can be read in order."""


class PostgresDatabase:
    """A PostgreSQL database."""

    def __init__(self, dsn: str) -> None:
        """`dsn` is read by asyncpg, as libpq would: sslmode, several hosts, a socket directory, PGPASSFILE."""
        self.where = _without_secrets(dsn)
        self._dsn = dsn
        self._engine = self._new_engine(
            command_timeout=_STATEMENT_WAIT, pool_size=_CONNECTIONS, max_overflow=0, pool_use_lifo=True
        )
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def read(self, work: Work[T]) -> T:
        """Run `work` outside a transaction, which saves two round trips."""
        with failures_named(self.where):
            return await self._run(self._reading, work)

    async def write(self, work: Work[T]) -> T:
        """Run `work` in one transaction."""
        with failures_named(self.where):
            return await self._run(self._engine, work)

    async def migrate(self, work: Work[T]) -> T:
        """Run `work` in one transaction, behind a lock that ends with it, on a connection of its own."""
        engine = self._new_engine(command_timeout=None, poolclass=NullPool)
        with failures_named(self.where):
            async with engine.begin() as connection:
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                return await connection.run_sync(work)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    def insert(self, table: sa.Table) -> postgresql.Insert:
        """Return an INSERT that knows ON CONFLICT."""
        return postgresql.insert(table)

    def any_of(self, column: sa.ColumnElement[Any], parameter: str) -> sa.ColumnElement[bool]:
        """Return `column = ANY` of the array `parameter`."""
        return column == sa.any_(sa.bindparam(parameter, type_=postgresql.ARRAY(Key)))

    def parameter(self, values: Sequence[str]) -> Any:
        """Return `values`; the array's type shortens and escapes them."""
        return list(values)

    def has_tag(self, tags: sa.ColumnElement[Any], name: str, value: str) -> sa.ColumnElement[bool]:
        """Return whether the tag `name` has `value`."""
        return sa.type_coerce(tags, postgresql.JSONB).contains({storable(name): storable(value)})

    def tag(self, tags: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[str | None]:
        """Return the value of the tag `name`; null where there is none."""
        return sa.type_coerce(sa.type_coerce(tags, postgresql.JSONB)[storable(name)].astext, Text)

    def announce_results(self, connection: sa.Connection) -> None:
        """Take a lock that all who record share, and keep it until the transaction ends."""
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_RECORDING_LOCK)))

    def wait_for_results(self, connection: sa.Connection) -> None:
        """Take that lock alone: granted when whoever records has committed. Gives up before it delays others for long.

        Not a lock on the table, which would wait for every vacuum, and make whoever records wait with it.
        """
        connection.execute(sa.text(f"SET LOCAL lock_timeout = {_PATIENCE // timedelta(milliseconds=1)}"))
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_RECORDING_LOCK)))

    def hour(self, time: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
        """Return the number of the hour that `time` is in, counted from the epoch."""
        return sa.cast(sa.func.floor(sa.extract("epoch", time) / 3_600), sa.BigInteger)

    def _new_engine(self, *, command_timeout: timedelta | None, **options: Any) -> AsyncEngine:
        async def connect() -> Any:
            try:
                return await asyncpg.connect(  # type: ignore[no-untyped-call]
                    self._dsn,
                    timeout=_CONNECT_WAIT.total_seconds(),
                    command_timeout=None if command_timeout is None else command_timeout.total_seconds(),
                )
            except ValueError:  # and what asyncpg makes of it; their messages quote the address
                raise BadSettings(
                    "store_url: expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE, got an address that asyncpg "
                    "cannot read; write special characters of the password as %XX"
                ) from None

        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            json_serializer=jsontext.dumps,
            json_deserializer=jsontext.loads,
            hide_parameters=True,
            **options,
        )

    async def _run(self, engine: AsyncEngine, work: Work[T]) -> T:
        try:
            async with engine.connect() as connection:
                return await _once(connection, work)
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
        # A connection that rested in the pool had died: the server was restarted, or a firewall forgot it. That is
        # no outage yet, and everything here bears being done twice.
        async with engine.connect() as connection:
            return await _once(connection, work)


async def _once(connection: AsyncConnection, work: Work[T]) -> T:
    try:
        result = await connection.run_sync(work)
        await connection.commit()
    except (sa.exc.DBAPIError, OSError):
        await connection.invalidate()
        raise
    return result


def _without_secrets(dsn: str) -> str:
    address = dsn.removeprefix("postgresql://").partition("?")[0]
    _, at, behind = address.rpartition("@")
    if not at and "@" in dsn:
        return "postgresql://"  # a "?" within a password that was not encoded: better to show nothing
    return f"postgresql://{behind}"
