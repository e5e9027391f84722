"""The schema's version, and taking a store to the newest one."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from promptmill.errors import StoreTooNew
from promptmill.store.database import Database
from promptmill.store.schema import SCHEMA_VERSION, VERSION_TABLE

_MIGRATIONS: Final = "promptmill.store:migrations"


def version_of(connection: sa.Connection) -> str | None:
    """Return the schema's version; None where there is no schema yet."""
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version = sa.table(VERSION_TABLE, sa.column("version_num", sa.String))
    found: str | None = connection.execute(sa.select(version.c.version_num)).scalar_one_or_none()
    return found


async def check(database: Database) -> str | None:
    """Return the schema's version. Raises StoreTooNew where this promptmill does not know it."""
    found = await database.read(version_of)
    if found is not None and found > SCHEMA_VERSION:
        raise StoreTooNew(
            f"the result store at {database.where} has schema {found}, written by a later promptmill; this one knows "
            f"schemas up to {SCHEMA_VERSION}: upgrade promptmill here, or point store_url at another store"
        )
    return found


async def upgrade(database: Database) -> None:
    """Take the schema to the newest version, where it is older; any number of processes may do so at once."""
    if await check(database) != SCHEMA_VERSION:
        await database.migrate(_upgrade)


def _upgrade(connection: sa.Connection) -> None:
    # Loaded only here: it takes a tenth of a second, and nearly every process finds the schema as it should be.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", _MIGRATIONS)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
