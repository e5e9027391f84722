"""Every test here runs on a SQLite file and on a PostgreSQL server."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from promptmill.store import ResultStore
from promptmill.store.schema import metadata
from tests.support.postgres import PostgresServer, require_postgres, running_postgres

_DATABASE_NUMBERS = itertools.count(1)
_EMPTY = f"TRUNCATE {', '.join(table.name for table in metadata.sorted_tables)} RESTART IDENTITY"


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    require_postgres()
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a database that nothing was ever written to."""
    if backend == "sqlite":
        return f"sqlite:///{tmp_path / 'results.sqlite'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"store_{next(_DATABASE_NUMBERS)}"
    server.execute(f"CREATE DATABASE {name}")
    return server.url(name)


@pytest.fixture
async def store(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ResultStore]:
    """An empty store. In PostgreSQL always the same database: making one takes longer than most tests."""
    if backend == "sqlite":
        async with await ResultStore.open(f"sqlite:///{tmp_path / 'results.sqlite'}") as opened:
            yield opened
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    async with await ResultStore.open(server.url()) as opened:
        await opened._database.write(lambda connection: connection.exec_driver_sql(_EMPTY))
        yield opened
