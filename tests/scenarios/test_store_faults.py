"""A result store that is locked, full or gone in the middle of a run, and workers killed and stopped meanwhile.

Nothing is settled and nothing new is claimed without it (I5); the answers that were received wait in the workers and
are written when it is back (I6). The one worker that is killed takes its answers with it: these are paid for again.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from promptmill import Job
from promptmill.queue import Queue, connect, keys, prepare
from promptmill.results import Status
from promptmill.settings import Settings
from promptmill.store import ResultStore
from tests.support.from_outside import ended, family, is_alive, jobs_held, kill, pids
from tests.support.postgres import PostgresServer, require_postgres, running_postgres
from tests.support.processes import SimulatorProcess, simulator, valkey, workers

RUN = "store"
WORKERS, SLOTS = 3, 8
BEFORE = 100
"""Jobs that are answered before the store goes away."""

Fault = Callable[[Any], AbstractContextManager[None]]
"""Makes the store unusable for the block."""


class Mill:
    """What a fault gets at."""

    def __init__(self, folder: Path, postgres: PostgresServer | None) -> None:
        self.file = folder / "store" / "results.sqlite"
        self.postgres = postgres
        self.supervisor = 0

    @property
    def store_url(self) -> str:
        return f"sqlite:///{self.file}" if self.postgres is None else self.postgres.url()


@contextmanager
def locked(mill: Mill) -> Iterator[None]:
    """Another process keeps the write lock: workers wait 30 s for it before they call that a failure."""
    other = sqlite3.connect(mill.file, isolation_level=None, timeout=30)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.close()


@contextmanager
def full(mill: Mill) -> Iterator[None]:
    """No process of the fleet may write to a file: not to the store, and not to its log either."""
    for pid in family(mill.supervisor):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        for pid in family(mill.supervisor):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def moved_away(mill: Mill) -> Iterator[None]:
    away = mill.file.with_name("away.sqlite")
    mill.file.rename(away)
    try:
        yield
    finally:
        assert not mill.file.exists(), "somebody made a new store, which would now be overwritten"
        away.rename(mill.file)


@contextmanager
def stopped(mill: Mill) -> Iterator[None]:
    assert mill.postgres is not None
    mill.postgres.stop(mode="immediate")
    try:
        yield
    finally:
        mill.postgres.start()


@contextmanager
def out_of_disk(mill: Mill) -> Iterator[None]:
    """What the server says when its disk is full (53100), said by a trigger."""
    assert mill.postgres is not None
    mill.postgres.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION "
        "'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
    )
    for table in ("results", "attempts"):
        mill.postgres.execute(
            f"CREATE TRIGGER full_disk BEFORE INSERT ON promptmill_{table} FOR EACH ROW EXECUTE FUNCTION full_disk()"
        )
    try:
        yield
    finally:
        mill.postgres.execute("DROP FUNCTION full_disk CASCADE")


FAULTS: dict[str, Fault] = {
    "sqlite-locked": locked,
    "sqlite-full": full,
    "sqlite-moved": moved_away,
    "postgres-stopped": stopped,
    "postgres-full": out_of_disk,
}


@pytest.fixture
async def mill(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Mill]:
    async with AsyncExitStack() as stack:
        if not request.param.startswith("postgres"):
            yield Mill(tmp_path, None)
            return
        require_postgres()
        yield Mill(tmp_path, stack.enter_context(running_postgres()))


@pytest.mark.scenario
@pytest.mark.parametrize(("mill", "name"), [(name, name) for name in FAULTS], indirect=["mill"])
async def test_a_store_that_goes_away_costs_nothing_but_what_a_killed_worker_held(
    mill: Mill, tmp_path: Path, name: str
) -> None:
    await _run(mill, tmp_path, name, jobs=400, lasting=timedelta(0))


@pytest.mark.soak
@pytest.mark.parametrize(("mill", "name"), [(name, name) for name in FAULTS], indirect=["mill"])
async def test_a_store_that_is_away_for_a_minute(mill: Mill, tmp_path: Path, name: str) -> None:
    await _run(mill, tmp_path, name, jobs=20_000, lasting=timedelta(seconds=60))


async def _run(mill: Mill, tmp_path: Path, name: str, *, jobs: int, lasting: timedelta) -> None:
    log = tmp_path / "workers.log"
    with (
        simulator("--tier", "none", "--latency", "0.03", "--per-token", "0", "--track") as api,
        valkey(tmp_path / "valkey") as (url, _),
    ):
        environment = {
            "PROMPTMILL_REDIS_URL": url,
            "PROMPTMILL_DATA_DIR": str(tmp_path),
            "PROMPTMILL_STORE_URL": mill.store_url,
            "PROMPTMILL_RPM": "10000000",
            "PROMPTMILL_ITPM": "10000000000",
            "PROMPTMILL_OTPM": "10000000000",
            "PROMPTMILL_CONCURRENCY": str(SLOTS),
            "PROMPTMILL_LEASE": "3",
            "PROMPTMILL_GRACE": "0",
            "ANTHROPIC_API_KEY": "any",
            "ANTHROPIC_BASE_URL": api.base_url,
        }
        settings = Settings.load(environ={}, redis_url=url, data_dir=tmp_path, store_url=mill.store_url)
        queue = Queue(connect(url, reply_timeout=None))
        job_ids = [f"{RUN}/{number}" for number in range(jobs)]
        with workers(WORKERS, environment, log) as supervisor:
            mill.supervisor = supervisor.pid
            await queue.submit([prepare(_job(job_id), settings) for job_id in job_ids])
            await _until(lambda: _has_ended(queue, BEFORE))
            began = time.monotonic()
            with FAULTS[name](mill):
                settled, requests = await _at_rest(queue, api)
                killed, stops = await _two_workers(queue)
                os.kill(stops, signal.SIGTERM)
                held = await kill(queue, killed) & api.stats(keys=True)["jobs"].keys()
                await asyncio.sleep(lasting.total_seconds())
                assert await ended(queue, RUN) == settled, "settled without a store"
                by_new = api.stats()["requests"] - requests
                assert is_alive(stops), "it was told to stop, and ended with answers that nobody else knows"
            seconds = time.monotonic() - began
            await _until(lambda: _has_ended(queue, jobs))

        counted = api.stats(keys=True)
        async with await ResultStore.open(settings.store) as store:
            totals = await store.run_totals(RUN)
            stored = {result.job_id: result.worker async for result in store.results(run=RUN)}
        left = await queue.redis.zcard(keys.QUEUE), await queue.redis.hlen(keys.JOBS)
        await queue.redis.aclose()

    twice = {job_id for job_id, count in counted["jobs"].items() if count["requests"] > 1}
    # One that was committed in the very moment in which the store went away is found when it is back.
    lost = {job_id for job_id in held if stored[job_id] != killed}
    print(
        f"\n{name}: {jobs} jobs; away for {seconds:.1f} s after {settled} of them; {requests - settled} answers wait; "
        f"{len(lost)} of them in a worker that was killed, and {counted['requests'] - jobs} requests more than jobs; "
        f"{by_new} requests meanwhile, by workers that were started then"
    )
    assert stored.keys() == set(job_ids)
    assert totals.counts == {Status.SUCCEEDED: jobs}
    assert left == (0, 0)
    assert set(counted["jobs"]) == set(job_ids)
    assert requests - settled <= WORKERS * SLOTS, "more was sent than could be held"
    assert by_new <= 2 * SLOTS, "those that replace the two cannot know before they have to write"
    assert lost
    assert twice == lost, "what is paid for twice is what the killed worker took with it, and nothing else"
    assert counted["requests"] == jobs + len(lost)
    assert b"_crashed" not in log.read_bytes()


def _job(job_id: str) -> Job:
    request = {
        "model": "claude-haiku-5-5",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": f"Say in at most ten words what {job_id} is."}],
    }
    return Job(id=job_id, request=request, run=RUN, keep_result=0)


async def _has_ended(queue: Queue, jobs: int) -> bool:
    return await ended(queue, RUN) >= jobs


async def _until(is_so: Callable[[], Any]) -> None:
    while not await is_so():  # noqa: ASYNC110 - in another process
        await asyncio.sleep(0.05)


async def _at_rest(queue: Queue, api: SimulatorProcess) -> tuple[int, int]:
    """Return when nothing moves any more: how many jobs are settled, and how many requests arrived."""
    before, same = None, 0
    while same < 5:
        held = sorted(job_id for jobs in (await jobs_held(queue.redis)).values() for job_id in jobs)
        stats = api.stats()
        now = (await ended(queue, RUN), stats["requests"], held)
        same = same + 1 if now == before and not stats["in_flight"] and held else 0
        before = now
        await asyncio.sleep(0.2)
    assert before is not None
    return before[0], before[1]


async def _two_workers(queue: Queue) -> tuple[str, int]:
    """Of the workers that hold answers, one's name and another's process."""
    there = await pids(queue)
    held = await jobs_held(queue.redis)
    first, second, *_ = sorted((name for name in held if name in there), key=lambda name: -len(held[name]))
    return first, there[second]
