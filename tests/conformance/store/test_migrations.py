"""The schema: made by migrations, the same as the tables in code, and never touched by code that is too old for it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from promptmill.errors import StoreTooNew, StoreUnavailable
from promptmill.results import Usage
from promptmill.store import ResultStore
from promptmill.store.migrate import schema_of
from promptmill.store.schema import MIGRATIONS_TABLE, NEEDED_VERSION, SCHEMA_VERSION, VERSION_TABLE, metadata
from tests.conformance.store.samples import answer


def differences(connection: sa.Connection) -> list[Any]:
    context = MigrationContext.configure(
        connection,
        opts={"version_table": MIGRATIONS_TABLE, "compare_type": True, "include_name": _is_no_version},
    )
    return list(compare_metadata(context, metadata))


def _is_no_version(name: str | None, kind: str, _parents: Any) -> bool:
    return not (kind == "table" and name == VERSION_TABLE)


async def test_the_migrations_make_the_tables_that_the_code_expects(store_url: str) -> None:
    async with await ResultStore.open(store_url) as store:
        assert await store._database.read(differences) == []


async def test_a_table_that_differs_would_be_noticed(store_url: str) -> None:
    async with await ResultStore.open(store_url) as store:
        await store._database.write(
            lambda connection: connection.exec_driver_sql("ALTER TABLE promptmill_runs ADD COLUMN mood TEXT")
        )

        assert len(await store._database.read(differences)) == 1


def test_versions_are_numbered_one_after_the_other_and_the_code_knows_the_last() -> None:
    config = Config()
    config.set_main_option("script_location", "promptmill.store:migrations")
    script = ScriptDirectory.from_config(config)

    revisions = [revision.revision for revision in script.walk_revisions()]

    assert revisions[::-1] == [f"{number:04}" for number in range(1, len(revisions) + 1)]
    assert script.get_heads() == [SCHEMA_VERSION]


async def test_opening_brings_a_new_store_to_the_newest_version(store_url: str) -> None:
    async with await ResultStore.open(store_url) as store:
        assert await store.schema_version() == SCHEMA_VERSION


async def test_opening_again_changes_nothing(store_url: str) -> None:
    async with await ResultStore.open(store_url) as store:
        await store.record([answer()])

    async with await ResultStore.open(store_url) as store:
        await store.upgrade()
        assert await store.result("job-1") == answer()


async def test_what_schema_0001_wrote_can_be_read_and_added_up_after_the_upgrade(store_url: str) -> None:
    usage = '\'{"input_tokens":7,"output_tokens":1}\''
    old = {
        "promptmill_results": {
            "job_id": "'old'", "status": "'succeeded'", "model": "'a'", "lane": "'standard'", "request_ref": "''",
            "finished_at": "'2026-11-22 12:00:00.000000'", "tags": "'{}'", "input_tokens": "7", "output_tokens": "1",
            "cache_write_5m_tokens": "0", "cache_write_1h_tokens": "0", "cache_read_tokens": "0",
            "thinking_tokens": "0", "cost_pico_usd": "5",
        },
        "promptmill_attempts": {
            "job_id": "'old'", "number": "1", "model": "'a'", "outcome": "'succeeded'", "usage": usage,
            "started_at": "'2026-11-22 12:00:00.000000'", "ended_at": "'2026-11-22 12:00:00.000000'",
        },
    }  # fmt: skip

    def write_old(connection: sa.Connection) -> None:
        _to(connection, "0001")
        for table, row in old.items():
            connection.exec_driver_sql(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(row.values())})")

    async with await ResultStore.open(store_url, migrate=False) as store:
        await store._database.migrate(write_old)
        assert await store.schema_version() == "0001"
        await store.upgrade()

        result = await store.result("old")
        assert result is not None
        assert (result.usage, result.rewrites, result.cost_usd) == (Usage(7, 1), None, Decimal(5).scaleb(-12))
        assert (result.attempts[0].usage, result.attempts[0].cost_usd) == (Usage(7, 1), None)
        (spent,) = await store.spend(since=datetime(2026, 1, 1, tzinfo=UTC))
        assert (spent.input_tokens, spent.unpriced) == (7, 1)


def _to(connection: sa.Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "promptmill.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def test_the_schema_can_be_left_alone_until_it_is_upgraded_on_purpose(store_url: str) -> None:
    async with await ResultStore.open(store_url, migrate=False) as store:
        assert await store.schema_version() is None
        with pytest.raises(StoreUnavailable, match=r"promptmill_attempts|there is no result store"):
            await store.record([answer()])

        await store.upgrade()
        await store.record([answer()])

        assert await store.schema_version() == SCHEMA_VERSION


async def test_what_0_1_0_made_is_upgraded_and_0_1_0_still_finds_the_version_that_it_knows(store_url: str) -> None:
    """Its workers that are restarted beside those of today look at one number, and refuse more than 0003."""

    def as_0_1_0_left_it(connection: sa.Connection) -> None:
        _to(connection, "0003")
        connection.exec_driver_sql(f"DROP TABLE {MIGRATIONS_TABLE}")
        connection.exec_driver_sql(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.exec_driver_sql(f"INSERT INTO {VERSION_TABLE} VALUES ('0003')")

    async with await ResultStore.open(store_url, migrate=False) as store:
        await store._database.migrate(as_0_1_0_left_it)
        assert await store.schema_version() == "0003"

        await store.upgrade()

        assert await store.schema_version() == SCHEMA_VERSION
        assert await store._database.read(schema_of) == (SCHEMA_VERSION, NEEDED_VERSION)
        assert await store._database.read(differences) == []


def test_the_release_before_knows_the_schema_that_is_needed() -> None:
    """0.1.0 knows up to 0003: raised, this takes away the way back to it, and its workers beside today's."""
    assert NEEDED_VERSION == "0003"


async def test_migrations_behind_the_one_that_is_needed_only_add(store_url: str) -> None:
    """Programs that know no more than that go on writing and reading the rows that they know."""

    def tables(connection: sa.Connection) -> dict[str, dict[str, Any]]:
        there = sa.inspect(connection)
        names = [name for name in there.get_table_names() if name not in (VERSION_TABLE, MIGRATIONS_TABLE)]
        return {name: {column["name"]: column for column in there.get_columns(name)} for name in names}

    def unique(connection: sa.Connection) -> set[str]:
        there = sa.inspect(connection)
        return {
            f"{name} {index['name']}"
            for name in there.get_table_names()
            for index in [*there.get_unique_constraints(name), *there.get_indexes(name)]
            if index.get("unique", True)
        }

    async with await ResultStore.open(store_url, migrate=False) as store:
        await store._database.migrate(lambda connection: _to(connection, NEEDED_VERSION))
        before, unique_before = await store._database.read(tables), await store._database.read(unique)
        await store.upgrade()
        after, unique_after = await store._database.read(tables), await store._database.read(unique)

    for name, columns in before.items():
        assert {column: str(about["type"]) for column, about in columns.items()}.items() <= {
            column: str(about["type"]) for column, about in after[name].items()
        }.items()
        added = [about for column, about in after[name].items() if column not in columns]
        assert all(about["nullable"] or about["default"] is not None for about in added), name
    assert {index for index in unique_after if index.split()[0] in before} == unique_before


async def test_a_schema_that_a_later_promptmill_only_added_to_is_used_as_it_is(store_url: str) -> None:
    later = [
        "ALTER TABLE promptmill_results ADD COLUMN of_tomorrow TEXT",
        "ALTER TABLE promptmill_attempts ADD COLUMN tries BIGINT NOT NULL DEFAULT 1",
        "CREATE TABLE promptmill_moods (mood TEXT)",
        f"UPDATE {MIGRATIONS_TABLE} SET version_num = '0999'",
    ]

    def add(connection: sa.Connection) -> None:
        for statement in later:
            connection.exec_driver_sql(statement)

    async with await ResultStore.open(store_url) as running:
        await running.record([answer("before")])
        await running._database.write(add)
        await running.record([answer("after")])
        assert (await running.finished(["before", "after"])).keys() == {"before", "after"}

    async with await ResultStore.open(store_url) as started:
        assert await started.schema_version() == "0999"
        await started.record([answer("started later")])
        await started.upgrade()
        assert await started.result("started later") == answer("started later")


@pytest.mark.parametrize("migrate", [True, False])
async def test_a_store_that_a_later_promptmill_wrote_is_refused(store_url: str, migrate: bool) -> None:  # noqa: FBT001
    async with await ResultStore.open(store_url) as store:
        await store._database.write(
            lambda connection: connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
        )

    with pytest.raises(StoreTooNew, match=rf"schema 0999.* up to {SCHEMA_VERSION}: upgrade promptmill"):
        await ResultStore.open(store_url, migrate=migrate)


async def test_a_migration_that_breaks_off_leaves_nothing_behind(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: object) -> None:
        raise RuntimeError("power cut")

    from alembic import op

    with monkeypatch.context() as patch:
        real = op.create_table
        patch.setattr(
            op,
            "create_table",
            lambda name, *rest, **more: break_off() if name == "promptmill_runs" else real(name, *rest, **more),
        )
        with pytest.raises(RuntimeError, match="power cut"):
            await ResultStore.open(store_url)

    async with await ResultStore.open(store_url) as store:
        await store.record([answer()])
        assert await store._database.read(differences) == []
