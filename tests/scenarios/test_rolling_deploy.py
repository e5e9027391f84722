"""Workers and producers of 0.1.0 beside those of today, on one Valkey and one store: deployed, and rolled back.

Their scripts work on the same keys and their statements on the same tables, under one budget. Nothing is lost, each job
has one result, and the requests are one a job and one for each fault that the simulator was asked for.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from promptmill.queue import Queue, connect, keys
from promptmill.results import Status
from promptmill.settings import Settings
from promptmill.store import ResultStore
from promptmill.store.schema import MIGRATIONS_TABLE
from tests.support.from_outside import ended, pids
from tests.support.postgres import require_postgres, running_postgres
from tests.support.processes import simulator, valkey, workers
from tests.support.releases import FIRST, ROOT, Producer, export, runs_from, tree_of

RUN = "rolling"
RPM = 6_000
JOBS = 60
"""Of each producer, in each step."""

STEPS = [
    # workers that begin, and which of those before are then told to stop, in the middle of their work
    (("old", "old"), ()),
    (("new",), (0,)),
    (("new",), (1,)),
    (("old", "old"), (2, 3)),  # rolled back, on a store that has been upgraded
]
SCHEMA_OF_TOMORROW_AT = 3
"""The step before which the store gets what a later release may add."""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.soak])])
async def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/results.sqlite"
        return
    require_postgres()
    with running_postgres() as server:
        yield server.url()


@pytest.mark.scenario
async def test_two_releases_beside_each_other_lose_nothing_and_pay_for_nothing_twice(
    tmp_path: Path, store_url: str
) -> None:
    trees = {"old": export(FIRST, tmp_path / "old"), "new": ROOT}
    log = tmp_path / "workers.log"
    with (
        simulator("--rpm", str(RPM), "--itpm", "0", "--otpm", "0", "--depth", "2", "--per-token", "0") as api,
        valkey(tmp_path / "valkey") as (url, _),
    ):
        common = {
            "PROMPTMILL_REDIS_URL": url,
            "PROMPTMILL_DATA_DIR": str(tmp_path),
            "PROMPTMILL_STORE_URL": store_url,
            "PROMPTMILL_RPM": str(RPM),
            "PROMPTMILL_ITPM": "10000000000",
            "PROMPTMILL_OTPM": "10000000000",
            "ANTHROPIC_API_KEY": "any",
            "ANTHROPIC_BASE_URL": api.base_url,
        }
        environments = {name: {**os.environ, **common, **runs_from(tree)} for name, tree in trees.items()}
        assert {name: tree_of(environment) for name, environment in environments.items()} == trees
        queue = Queue(connect(url, reply_timeout=None))
        release_of: dict[str, str] = {}
        async with AsyncExitStack() as stack:
            producers = {name: Producer(f"by-{name}", url, environments[name]) for name in trees}
            for producer in producers.values():
                stack.callback(producer.close)
            running: list[Any] = []
            for step, (begin, stop) in enumerate(STEPS):
                for producer in producers.values():
                    producer.submit(JOBS)
                if stop:
                    await _until_ended(queue, (2 * step * JOBS) + JOBS // 2)
                if step == SCHEMA_OF_TOMORROW_AT:
                    await _add_what_comes_tomorrow(store_url)
                for number in stop:
                    running[number].send_signal(signal.SIGTERM)
                running += [stack.enter_context(workers(1, environments[release], log)) for release in begin]
                for name in await _new_workers(queue, len(begin), known=release_of):
                    release_of[name] = begin[0]
                for producer in producers.values():
                    assert await asyncio.to_thread(producer.answers) == JOBS
                for number in stop:
                    assert await asyncio.to_thread(running[number].wait, 30) == 0

        counted = api.stats()
        async with await ResultStore.open(store_url) as store:
            totals = await store.run_totals(RUN)
            results = [result async for result in store.results(run=RUN)]
            letters = await store.count_dead_letters()
        left = await queue.redis.zcard(keys.QUEUE), await queue.redis.hlen(keys.JOBS)
        await queue.redis.aclose()

    jobs = 2 * len(STEPS) * JOBS
    by = Counter(
        (result.job_id.removeprefix("by-").partition("-")[0], release_of[str(result.worker)]) for result in results
    )
    answered = [f"{count} of the {producer} producer by {worker} workers" for (producer, worker), count in by.items()]
    print(
        f"\n{jobs} jobs through {len(running)} workers: {', '.join(answered)}; {counted['requests']} requests, "
        f"one a job and {sum(counted['by_fault'].values())} faults; {sum(counted['rate_limited'].values())} 429s"
    )
    assert len(results) == len({result.job_id for result in results}) == jobs
    assert totals.counts == {Status.SUCCEEDED: jobs}
    assert (letters, left) == (0, (0, 0))
    assert counted["by_fault"] == {"api_error": 2 * len([n for n in range(len(STEPS) * JOBS) if n % 20 == 7])}
    assert counted["requests"] == jobs + counted["by_fault"]["api_error"]
    assert counted["rate_limited"] == {}
    assert {(producer, worker) for producer in trees for worker in trees} == by.keys()
    assert b"_crashed" not in log.read_bytes()


async def _until_ended(queue: Queue, jobs: int) -> None:
    while await ended(queue, RUN) < jobs:  # noqa: ASYNC110 - in another process
        await asyncio.sleep(0.02)


async def _new_workers(queue: Queue, count: int, *, known: Collection[str]) -> list[str]:
    """Return, when so many workers have come, their names."""
    new: list[str] = []
    while len(new) < count:
        await asyncio.sleep(0.02)
        new = [name for name in await pids(queue) if name not in known]
    return new


async def _add_what_comes_tomorrow(store_url: str) -> None:
    """Change the schema as a later release would, which may only add."""

    def add(connection: sa.Connection) -> None:
        for statement in (
            "ALTER TABLE promptmill_results ADD COLUMN of_tomorrow TEXT",
            "ALTER TABLE promptmill_attempts ADD COLUMN of_tomorrow BIGINT NOT NULL DEFAULT 1",
            "ALTER TABLE promptmill_dead_letters ADD COLUMN of_tomorrow TEXT",
            "CREATE TABLE promptmill_of_tomorrow (id BIGINT)",
            "CREATE INDEX ix_of_tomorrow ON promptmill_results (of_tomorrow)",
            f"CREATE TABLE IF NOT EXISTS {MIGRATIONS_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
            f"DELETE FROM {MIGRATIONS_TABLE}",
            f"INSERT INTO {MIGRATIONS_TABLE} VALUES ('0999')",
        ):
            connection.exec_driver_sql(statement)

    settings = Settings.load(environ={}, store_url=store_url)
    async with await ResultStore.open(settings.store) as store:
        await store._database.migrate(add)
