"""The schema's versions, and taking a store to the newest one.

Two are written down. One names the last migration that was made. The other names the oldest schema that a program must
know to use the store, and is all that a program looks at to decide whether it is too old: as long as migrations only
add, programs of the release before go on beside those of today, may be restarted, and may replace them again.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from promptmill.errors import StoreMissing, StoreTooNew
from promptmill.store.database import Database
from promptmill.store.schema import MIGRATIONS_TABLE, NEEDED_VERSION, SCHEMA_VERSION, VERSION_TABLE

_MIGRATIONS: Final = "promptmill.store:migrations"
_needed: Final = sa.Table(VERSION_TABLE, sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))
_applied: Final = sa.table(MIGRATIONS_TABLE, sa.column("version_num", sa.String))


class Schema(NamedTuple):
    """What a store says of its schema."""

    applied: str
    """The last migration that was made."""
    needed: str
    """The oldest schema that a program must know to use the store."""


def schema_of(connection: sa.Connection) -> Schema | None:
    """Return what the store says; None where there is no schema yet."""
    there = set(sa.inspect(connection).get_table_names())
    applied = _number(connection, _applied) if MIGRATIONS_TABLE in there else None
    needed = _number(connection, _needed) if VERSION_TABLE in there else None
    newest = applied or needed  # 0.1.0 knew one number for both
    return None if newest is None else Schema(newest, needed or newest)


def _number(connection: sa.Connection, table: sa.FromClause) -> str | None:
    found: str | None = connection.execute(sa.select(table.c.version_num)).scalar_one_or_none()
    return found


async def check(database: Database) -> str | None:
    """Return the last migration made; None where there is no schema yet. Raises StoreTooNew for this promptmill."""
    try:
        found = await database.read(schema_of)
    except StoreMissing:
        return None
    if found is None:
        return None
    if found.needed > SCHEMA_VERSION:
        raise StoreTooNew(
            f"the result store at {database.where} has schema {found.needed}, written by a later promptmill; this one "
            f"knows schemas up to {SCHEMA_VERSION}: upgrade promptmill here, or point store_url at another store"
        )
    return found.applied


async def upgrade(database: Database, *, make: bool = True) -> None:
    """Take the schema to the newest version, where it is older; any number of processes may do so at once.

    Without `make`, raises StoreMissing where there is none.
    """
    found = await check(database)
    if found is None and not make:
        raise StoreMissing(
            f"there is no result store at {database.where}: if there was one, put it back; workers make it when they "
            "are first started, and so does `promptmill db upgrade`"
        )
    if found is None or found < SCHEMA_VERSION:
        await database.migrate(_upgrade)


def _upgrade(connection: sa.Connection) -> None:
    # Loaded only here: it takes a tenth of a second, and nearly every process finds the schema as it should be.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    found = schema_of(connection)
    if found is not None and found.applied >= SCHEMA_VERSION:
        return  # another process did it meanwhile, perhaps one that knows more migrations than this one
    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    config.attributes["connection"] = connection
    if found is not None:
        command.stamp(config, found.applied)
    command.upgrade(config, "head")
    _needed.create(connection, checkfirst=True)
    needed: dict[str, Any] = {"version_num": max(NEEDED_VERSION, found.needed if found else "")}
    connection.execute(sa.delete(_needed))
    connection.execute(sa.insert(_needed), needed)
