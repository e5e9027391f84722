"""SIGSTOP for longer than a lease, then SIGCONT: of Valkey, and of workers with requests in flight."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from promptmill.embedded import EmbeddedValkey
from promptmill.queue import Queue, connect, keys, prepare
from promptmill.results import Result
from promptmill.settings import Settings
from tests.support.fleets import Fleet, balance, drained, environment_of, fleet, results_in, short_job
from tests.support.from_outside import jobs_held
from tests.support.processes import SimulatorProcess, simulator

RUN = "frozen"
LEASE = timedelta(seconds=2)
WORKERS, CONCURRENCY = 4, 20


@dataclass(frozen=True)
class Freeze:
    """One time for which Valkey stood still."""

    began: datetime
    sent: int
    """Requests that arrived meanwhile."""
    stored: list[Result]
    """Results that were committed meanwhile."""


@pytest.mark.scenario
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("jobs", "freezes"), [pytest.param(120, 1, id="short"), pytest.param(4_000, 10, id="whole", marks=pytest.mark.soak)]
)
async def test_while_valkey_stands_still_nothing_is_sent_and_who_holds_no_lease_writes_nothing(
    tmp_path: Path, jobs: int, freezes: int
) -> None:
    # Some answers come before the lease has run out by the worker's own clock, some after.
    with (
        simulator("--tier", "none", "--latency", "1.5", "--per-token", "0", "--track") as api,
        EmbeddedValkey(tmp_path) as valkey,
    ):
        # Paced, so that about half the slots are free: whoever has one asks Valkey all the time.
        environment = environment_of(
            valkey.url, tmp_path, api, concurrency=CONCURRENCY, lease=LEASE.total_seconds(), rpm=1_500
        )
        settings = Settings.load(environ={}, redis_url=valkey.url, data_dir=tmp_path)
        queue = Queue(connect(valkey.url, reply_timeout=None))
        job_ids = [f"{RUN}/{number}" for number in range(jobs)]
        await queue.submit([prepare(short_job(job_id, RUN), settings) for job_id in job_ids])
        pid = int((await queue.redis.info("server"))["process_id"])
        async with fleet(WORKERS, environment) as workers:
            frozen = [
                await _freeze(pid, workers, api, settings, ended=(number + 1) * jobs // (freezes + 2))
                for number in range(freezes)
            ]
            await drained(queue.redis, RUN)
        told = await balance(api, settings)
        left = await queue.redis.zcard(keys.QUEUE), await queue.redis.hlen(keys.JOBS)
        await queue.redis.aclose()

    lost = workers.jobs["lease_lost"]
    print(
        f"\n{jobs} jobs; Valkey frozen {freezes} times until every worker had said that it is away: "
        f"{sum(one.sent for one in frozen)} requests sent and {sum(len(one.stored) for one in frozen)} results stored "
        f"meanwhile; {told.requests.total()} requests arrived, {told.beyond.total()} more than attempts recorded; "
        f"{lost.total()} leases lost"
    )
    told.assert_whole(job_ids)
    assert left == (0, 0)
    for one in frozen:
        assert one.sent <= WORKERS * CONCURRENCY, "more than what was claimed before"
        assert max(_answered_at(result) for result in one.stored) <= one.began + LEASE
    assert not told.beyond, "paid for twice: every worker lived, and all of their leases ran out"


async def _freeze(pid: int, workers: Fleet, api: SimulatorProcess, settings: Settings, *, ended: int) -> Freeze:
    """Stop Valkey once so many jobs have ended, until each worker has given up asking it."""
    await workers.until(lambda: workers.said["job_ended"] >= ended)
    before = {result.job_id for result in await results_in(settings)}
    away, requests = workers.said["redis_away"], api.stats()["requests"]
    os.kill(pid, signal.SIGSTOP)
    await asyncio.to_thread(os.waitpid, pid, os.WUNTRACED)
    began = datetime.now(UTC)
    try:
        await workers.until(lambda: workers.said["redis_away"] >= away + WORKERS)
        stored = [result for result in await results_in(settings) if result.job_id not in before]
        return Freeze(began, api.stats()["requests"] - requests, stored)
    finally:
        os.kill(pid, signal.SIGCONT)


def _answered_at(result: Result) -> datetime:
    return max(attempt.ended_at for attempt in result.attempts)


@pytest.mark.scenario
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("jobs", "freezes"), [pytest.param(600, 3, id="short"), pytest.param(6_000, 40, id="whole", marks=pytest.mark.soak)]
)
async def test_a_worker_that_was_stopped_for_longer_than_its_lease_writes_nothing_and_goes_on(
    tmp_path: Path, jobs: int, freezes: int
) -> None:
    """What it held was run by others meanwhile: each request in flight is sent once more, and its answer not kept."""
    with (
        simulator("--tier", "none", "--latency", "0.3", "--per-token", "0", "--track") as api,
        EmbeddedValkey(tmp_path) as valkey,
    ):
        environment = environment_of(valkey.url, tmp_path, api, concurrency=CONCURRENCY, lease=LEASE.total_seconds())
        settings = Settings.load(environ={}, redis_url=valkey.url, data_dir=tmp_path)
        queue = Queue(connect(valkey.url, reply_timeout=None))
        job_ids = [f"{RUN}/{number}" for number in range(jobs)]
        submissions = [prepare(short_job(job_id, RUN), settings) for job_id in job_ids]
        chance = random.Random(20_261_122)
        woken: list[Woken] = []
        async with fleet(WORKERS, environment) as workers:
            await workers.until(lambda: len(workers.pids) == WORKERS)
            lot = jobs // (freezes + 1)
            for number in range(freezes):
                await queue.submit(submissions[number * lot : (number + 1) * lot])
                at = number * lot + chance.randrange(lot // 2)
                woken.append(await _stop_and_wake(queue.redis, workers, settings, chance, at=at))
            await queue.submit(submissions[freezes * lot :])
            await drained(queue.redis, RUN)
        told = await balance(api, settings)
        left = await queue.redis.zcard(keys.QUEUE), await queue.redis.hlen(keys.JOBS)
        await queue.redis.aclose()

    held = sum((Counter(one.held) for one in woken), Counter())
    lost = workers.jobs["lease_lost"]
    print(
        f"\n{jobs} jobs; workers stopped {freezes} times with {held.total()} requests in flight until others had run "
        f"these; {told.requests.total()} requests arrived, {told.beyond.total()} more than attempts recorded; "
        f"{lost.total()} leases lost"
    )
    told.assert_whole(job_ids)
    assert left == (0, 0)
    assert told.beyond <= held
    assert lost == held
    by_job = {result.job_id: result for result in told.results}
    for one in woken:
        assert one.worker not in {by_job[job_id].worker for job_id in one.held - one.stored}, "written without a lease"
        later = {result.worker for result in told.results if result.finished_at > one.at}
        assert one.worker in later, "it goes on with other jobs"


@dataclass(frozen=True)
class Woken:
    """A worker that was stopped, when it was woken, and what it still thought it held then."""

    worker: str
    at: datetime
    held: set[str]
    stored: set[str]
    """Of which it had committed the result when it was stopped."""


async def _stop_and_wake(redis: Redis, workers: Fleet, settings: Settings, chance: random.Random, *, at: int) -> Woken:
    """Stop a worker once so many jobs have ended, and wake it when others have run all that it held."""
    await workers.until(lambda: workers.said["job_ended"] >= at)
    pid = chance.choice(sorted(workers.pids))
    worker = workers.pids[pid]
    os.kill(pid, signal.SIGSTOP)
    try:
        while _is_locked(settings):  # by this worker: nobody could write until it is woken
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGSTOP)
        held = (await jobs_held(redis)).get(worker, set())
        stored = held & {result.job_id for result in await results_in(settings)}
        await workers.until(lambda: held <= workers.jobs["job_ended"].keys())
        return Woken(worker, datetime.now(UTC), held, stored)
    finally:
        os.kill(pid, signal.SIGCONT)


def _is_locked(settings: Settings) -> bool:
    """Whether nobody comes to write into the store for longer than a transaction takes."""
    with contextlib.closing(sqlite3.connect(settings.data_dir / "results.sqlite", timeout=1)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.rollback()
        return False
