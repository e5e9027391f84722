"""A store that cannot be used says so, without secrets, and works again by itself."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from promptmill.errors import BadInput, BadSettings, MissingExtra, StoreMissing, StoreUnavailable
from promptmill.store import ResultStore
from promptmill.store.schema import results
from tests.conformance.store.samples import answer, collect, dead_letter
from tests.support.postgres import PostgresServer


def said(error: BaseException | None) -> str:
    """Return every message that a log of `error` would show, with what it came from."""
    messages = []
    while error is not None:
        messages.append(str(error))
        error = error.__cause__ if error.__suppress_context__ else error.__cause__ or error.__context__
    return "\n".join(messages)


@asynccontextmanager
async def somebody_elses_lock(url: str) -> AsyncIterator[None]:
    """Keep every other connection from writing."""
    if url.startswith("sqlite"):
        other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.close()
        return
    import asyncpg

    other = await asyncpg.connect(url)  # type: ignore[no-untyped-call]
    await other.execute("BEGIN; LOCK TABLE promptmill_results")
    try:
        yield
    finally:
        await other.close()


async def test_a_record_that_was_cancelled_leaves_the_store_usable(store_url: str) -> None:
    async with await ResultStore.open(store_url) as store:
        async with somebody_elses_lock(store_url):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.record([answer("job-1")]), timeout=0.05)

        await store.record([answer("job-1"), answer("job-2")])

        found = await collect(store.results())
    assert sorted(found, key=lambda result: result.job_id) == [answer("job-1"), answer("job-2")]


async def test_a_lost_table_is_named_but_no_answer_is_shown(store_url: str) -> None:
    async with await ResultStore.open(store_url) as store:
        await store._database.write(results.drop)

        with pytest.raises(StoreUnavailable, match="promptmill_results") as caught:
            await store.record([answer(text="the patient is well")])

    assert "the patient is well" not in said(caught.value)


@pytest.mark.parametrize("payload", [None, "the patient is well"])
async def test_a_value_that_can_never_be_stored_is_told_apart_and_not_shown(
    store: ResultStore, payload: str | None
) -> None:
    with pytest.raises(BadInput) as caught:
        await store.record([dead_letter(payload=payload, message="the patient is well")])

    assert "the patient is well" not in said(caught.value)


class TestSqlite:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "results.sqlite"

    async def test_a_file_that_stays_locked_is_unavailable_to_write_until_it_is_released(self, path: Path) -> None:
        url = f"sqlite:///{path}"
        async with await ResultStore.open(url, lock_wait=timedelta(milliseconds=20)) as store:
            await store.record([answer("job-1")])
            async with somebody_elses_lock(url):
                with pytest.raises(StoreUnavailable, match=r"locked: .* for more than 0\.02 s"):
                    await store.record([answer("job-2")])
                assert await store.result("job-1") == answer("job-1")

            await store.record([answer("job-2")])

            assert await store.result("job-2") == answer("job-2")

    async def test_a_transaction_keeps_others_out_before_it_reads(self, path: Path) -> None:
        """Else SQLite would refuse it at once, without any waiting, when it comes to write."""

        def read_then_write(connection: sa.Connection) -> None:
            connection.exec_driver_sql("SELECT * FROM promptmill_runs")
            other = sqlite3.connect(path, timeout=0, isolation_level=None)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("DELETE FROM promptmill_runs")
            other.close()
            connection.exec_driver_sql("DELETE FROM promptmill_runs")

        async with await ResultStore.open(f"sqlite:///{path}") as store:
            await store._database.write(read_then_write)

    async def test_a_full_disk_is_unavailable_until_there_is_room(self, path: Path) -> None:
        def little_room(connection: sqlite3.Connection, _record: object) -> None:
            connection.execute("PRAGMA max_page_count=60")

        async with await ResultStore.open(f"sqlite:///{path}") as store:
            engine: sa.Engine = store._database._engine  # type: ignore[attr-defined]
            sa.event.listen(engine, "connect", little_room)
            engine.dispose()
            long = answer("job-1", text="x" * 1_000_000)
            with pytest.raises(StoreUnavailable, match="full"):
                await store.record([answer("job-2"), long])
            assert await collect(store.results()) == []
            sa.event.remove(engine, "connect", little_room)
            engine.dispose()

            await store.record([answer("job-2"), long])

            assert await store.result("job-1") == long

    @pytest.mark.parametrize("moved", ["file", "folder"])
    async def test_a_file_that_was_moved_is_unavailable_until_it_is_back_and_none_is_made_in_its_place(
        self, tmp_path: Path, moved: str
    ) -> None:
        """SQLite would go on writing to it, wherever it is."""
        path = tmp_path / "here" / "results.sqlite"
        here, away = (path, path.with_name("away")) if moved == "file" else (path.parent, tmp_path / "away")
        url = f"sqlite:///{path}"
        async with await ResultStore.open(url) as store:
            await store.record([answer("before")])
            here.rename(away)
            for _ in range(2):
                with pytest.raises(StoreMissing, match="if it was moved or deleted, put it back"):
                    await store.record([answer("meanwhile")])
                with pytest.raises(StoreMissing):
                    await store.result("before")
            async with await ResultStore.open(url, migrate=False) as another:
                assert await another.schema_version() is None
            with pytest.raises(StoreMissing, match="if there was one, put it back"):
                await ResultStore.open(url, make=False)
            assert not here.exists()
            away.rename(here)

            await store.record([answer("after")])

            assert (await store.finished(["before", "meanwhile", "after"])).keys() == {"before", "after"}

    async def test_what_stands_in_the_log_of_a_file_that_was_moved_is_not_deleted_with_it(self, path: Path) -> None:
        """Beside a file that is new and empty, SQLite takes a log for a leftover."""
        url, away = f"sqlite:///{path}", path.with_name("away")
        async with await ResultStore.open(url) as store:
            await store.record([answer("before")])
            await asyncio.to_thread(path.rename, away)
            with pytest.raises(StoreMissing, match=r"remove results\.sqlite-wal"):
                await ResultStore.open(url)
            await asyncio.to_thread(away.rename, path)

        async with await ResultStore.open(url) as store:
            assert await store.result("before") == answer("before")

    async def test_nothing_is_written_to_a_file_that_was_deleted_and_the_new_one_is_used_when_it_is_made(
        self, path: Path
    ) -> None:
        url = f"sqlite:///{path}"
        async with await ResultStore.open(url) as store:
            await asyncio.gather(*(store.finished([f"job-{number}"]) for number in range(4)))  # four connections
            for file in path.parent.iterdir():
                file.unlink()
            with pytest.raises(StoreMissing):
                await store.record([answer("job-1")])
            async with await ResultStore.open(url, migrate=False) as another:
                await another.upgrade()
            for _ in range(5):  # each of its connections had the file open that is gone
                try:
                    await store.record([answer("job-1")])
                except StoreUnavailable as error:
                    assert "another file than it was" in str(error)  # noqa: PT017 - not each of them is told

        async with await ResultStore.open(url) as store:
            assert await store.result("job-1") == answer("job-1")

    async def test_a_commit_to_a_file_that_is_deleted_at_that_moment_does_not_count(self, path: Path) -> None:
        async with await ResultStore.open(f"sqlite:///{path}") as store:
            with pytest.raises(StoreMissing):
                await store._database.write(lambda _connection: path.unlink())

    @pytest.fixture
    def shopping_list(self, path: Path) -> Iterator[Path]:
        content = "this is a shopping list, not a database\n" * 100
        path.write_text(content)
        yield path
        assert path.read_text() == content

    async def test_a_file_that_is_no_database_is_unavailable(self, shopping_list: Path) -> None:
        with pytest.raises(StoreUnavailable, match="file is not a database"):
            await ResultStore.open(f"sqlite:///{shopping_list}")

    async def test_a_directory_that_cannot_be_made_is_unavailable(self, shopping_list: Path) -> None:
        with pytest.raises(StoreUnavailable, match=r"results\.sqlite/deeper/results\.sqlite"):
            await ResultStore.open(f"sqlite:///{shopping_list}/deeper/results.sqlite")

    async def test_missing_directories_are_made(self, tmp_path: Path) -> None:
        path = tmp_path / "not" / "there" / "yet.sqlite"

        async with await ResultStore.open(f"sqlite:///{path}"):
            assert path.exists()

    async def test_a_relative_path_is_relative_to_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)

        async with await ResultStore.open("sqlite+aiosqlite:///here.sqlite"):
            assert (tmp_path / "here.sqlite").exists()

    async def test_a_commit_is_on_disk_when_it_returns(self, path: Path) -> None:
        async with await ResultStore.open(f"sqlite:///{path}") as store:
            modes = await store._database.read(
                lambda connection: [
                    connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode")
                ]
            )

        assert modes == [2, "wal"]  # 2 is FULL


@pytest.mark.postgres
class TestPostgres:
    @pytest.fixture
    async def opened(self, postgres: PostgresServer) -> AsyncIterator[ResultStore]:
        async with await ResultStore.open(postgres.url()) as store:
            yield store

    async def test_a_server_that_stops_is_unavailable_until_it_is_back(
        self, opened: ResultStore, postgres: PostgresServer
    ) -> None:
        await opened.record([answer("before")])
        postgres.stop()
        try:
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="postgresql:///postgres"):
                    await opened.record([answer("after")])
            with pytest.raises(StoreUnavailable):
                await opened.result("before")
        finally:
            postgres.start()

        await opened.record([answer("after")])

        assert (await opened.finished(["before", "after"])).keys() == {"before", "after"}

    async def test_connections_that_died_while_they_rested_are_not_noticed(
        self, opened: ResultStore, postgres: PostgresServer
    ) -> None:
        await asyncio.gather(*(opened.record([answer(f"job-{number}")]) for number in range(4)))
        postgres.stop()
        postgres.start()

        await opened.record([answer("after")])

        assert await opened.result("after") == answer("after")

    async def test_a_wrong_database_is_unavailable(self, postgres: PostgresServer) -> None:
        with pytest.raises(StoreUnavailable, match="does not exist"):
            await ResultStore.open(postgres.url("nothing_of_this_name"))

    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"], ids=str)
    async def test_every_usual_scheme_is_understood(self, postgres: PostgresServer, scheme: str) -> None:
        url = postgres.url().replace("postgresql", scheme, 1)

        async with await ResultStore.open(f"{url}&sslmode=prefer&application_name=mine") as store:
            assert await store.schema_version() is not None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hunter2@127.0.0.1:1/results", "postgresql://127.0.0.1:1/results"),
        ("postgresql://127.0.0.1:1/results?user=u&password=hunter2", "postgresql://127.0.0.1:1/results"),
        ("postgresql://u:hunter2%40x@127.0.0.1:1/results?sslmode=disable", "postgresql://127.0.0.1:1/results"),
    ],
)
async def test_a_password_is_never_shown(url: str, shown: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await ResultStore.open(url)

    assert f"{shown} does not answer" in str(caught.value)
    assert "hunter2" not in said(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hun?ter2@127.0.0.1:1/results",
        "postgresql://u:hun/ter2@127.0.0.1:x/results",
        "postgresql://u:hun#ter2@127.0.0.1:x/results",
        "postgresql://u:hun@ter2@127.0.0.1:x/results",
        "postgresql://u:hun[ter2@127.0.0.1:1/results",
    ],
)
async def test_a_password_that_was_not_encoded_is_never_shown_either(url: str) -> None:
    with pytest.raises((StoreUnavailable, BadSettings)) as caught:
        await ResultStore.open(url)

    assert "hun" not in said(caught.value)
    assert "ter2" not in said(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:hunter2@host/results",
        "hunter2",
        "results.sqlite",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file:hunter2?mode=memory",
        "sqlite://hunter2",
        "",
    ],
)
async def test_an_address_that_cannot_be_used_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(BadSettings, match="store_url: expected sqlite:///FILE") as caught:
        await ResultStore.open(url)

    assert "hunter2" not in str(caught.value)


async def test_without_its_driver_postgresql_asks_for_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    monkeypatch.delitem(sys.modules, "promptmill.store.postgres", raising=False)

    with pytest.raises(MissingExtra, match=r"promptmill\[postgres\]"):
        await ResultStore.open("postgresql://127.0.0.1:1/results")


def test_without_sqlalchemy_the_store_asks_for_the_extra() -> None:
    code = "import sys; sys.modules['sqlalchemy'] = None; import promptmill.store"

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert run.stderr.strip().endswith(
        'MissingExtra: the result store needs an optional package: pip install "promptmill[store]"'
    )


def test_a_sqlite_store_loads_neither_postgresql_nor_alembic_when_its_schema_is_there(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from promptmill.store import ResultStore\n"
        f"asyncio.run(ResultStore.open('sqlite:///{tmp_path}/results.sqlite'))\n"
        "print([name for name in ('alembic', 'asyncpg', 'aiosqlite') if name in sys.modules])"
    )
    python = [sys.executable, "-c", code]

    loaded = [subprocess.run(python, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)]

    assert loaded == ["['alembic']", "[]"]
