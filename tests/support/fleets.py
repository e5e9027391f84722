"""A fleet of real workers for scenarios: what it logs is read as it is written, and is what scenarios wait for.

    async with fleet(4, environment) as workers:
        await workers.until(lambda: workers.said["job_ended"] >= 100)

What is sent beyond one request a job is explained job by job: see `Balance`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from promptmill import Job
from promptmill.errors import QueueUnavailable
from promptmill.queue import keys
from promptmill.queue.connection import redis_errors
from promptmill.results import Result, Status
from promptmill.settings import Settings
from promptmill.store import ResultStore
from tests.support.processes import SimulatorProcess

UNPACED: Final = {"PROMPTMILL_RPM": "10000000", "PROMPTMILL_ITPM": "10000000000", "PROMPTMILL_OTPM": "10000000000"}
"""Limits that bind nobody."""


def environment_of(url: str, data_dir: Path, api: SimulatorProcess, **changes: object) -> dict[str, str]:
    """What every process of a scenario is told; `changes` are settings by their names in Python."""
    return {
        **UNPACED,
        "PROMPTMILL_REDIS_URL": url,
        "PROMPTMILL_DATA_DIR": str(data_dir),
        "ANTHROPIC_API_KEY": "any",
        "ANTHROPIC_BASE_URL": api.base_url,
        **{f"PROMPTMILL_{name.upper()}": str(value) for name, value in changes.items()},
    }


def short_job(job_id: str, run: str, *, keep_result: int = 0) -> Job:
    """A short job; its result is left in Redis for `keep_result` seconds, for whoever waits."""
    request = {
        "model": "claude-haiku-5-5",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": f"Say in at most ten words what {job_id} is."}],
    }
    return Job(id=job_id, request=request, run=run, keep_result=keep_result)


class Fleet:
    """Worker processes under one supervisor, and what they have logged so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: Counter[str] = Counter()
        self.jobs: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """By event: how often it was said of each job."""
        self.pids: dict[int, str] = {}
        """Of the workers that have started and were not found dead: their names."""
        self._has_ended = False
        self._heard = asyncio.Condition()

    async def read(self) -> None:
        """Take in the log until its last writer is gone."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            with contextlib.suppress(orjson.JSONDecodeError):
                self._note(orjson.loads(line))
            async with self._heard:
                self._heard.notify_all()
        self._has_ended = True
        async with self._heard:
            self._heard.notify_all()

    def _note(self, entry: dict[str, Any]) -> None:
        event = entry["event"]
        self.said[event] += 1
        if "job" in entry:
            self.jobs[event][entry["job"]] += 1
        if event == "worker_started":
            self.pids[int(entry["worker"].rsplit("-", 2)[1])] = entry["worker"]
        if event == "worker_died":
            self.pids.pop(entry["pid"], None)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when something that was logged has made this true."""
        async with self._heard:
            await self._heard.wait_for(lambda: holds() or self._has_ended)
        assert holds(), "the workers ended before"


@contextlib.asynccontextmanager
async def fleet(count: int, environment: dict[str, str]) -> AsyncIterator[Fleet]:
    """Run a supervisor of `count` workers for the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "worker", "--processes", str(count), "--stop-with-parent"),
        env={**os.environ, **environment},
        stdin=DEVNULL,
        stderr=PIPE,
    )
    workers = Fleet(process)
    reading = asyncio.create_task(workers.read())
    try:
        yield workers
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.gather(reading, process.wait())


@dataclass(frozen=True)
class Balance:
    """What was sent for each of a scenario's jobs against what the store says of it."""

    requests: Counter[str]
    """As they arrived, by job."""
    results: list[Result]

    @property
    def beyond(self) -> Counter[str]:
        """By job, the requests that no attempt in the store stands for: whoever sent them lost the right to say so."""
        recorded = {result.job_id: len(result.attempts) for result in self.results}
        return +Counter({job_id: sent - recorded.get(job_id, 0) for job_id, sent in self.requests.items()})

    def assert_whole(self, job_ids: Iterable[str]) -> None:
        """Each job has exactly one result, an answer, and was asked for at least once; nobody else was."""
        assert Counter(result.job_id for result in self.results) == Counter(job_ids)
        assert {result.status for result in self.results} == {Status.SUCCEEDED}
        assert self.requests.keys() == {result.job_id for result in self.results}


async def balance(api: SimulatorProcess, settings: Settings) -> Balance:
    """Count what arrived and what is stored."""
    counted = await asyncio.to_thread(api.stats, keys=True)
    results = await results_in(settings)
    return Balance(Counter({job_id: count["requests"] for job_id, count in counted["jobs"].items()}), results)


async def results_in(settings: Settings) -> list[Result]:
    """Return what is in the store now."""
    async with await ResultStore.open(settings.store, migrate=False) as store:
        return [result async for result in store.results()]


async def drained(redis: Redis, run: str) -> None:
    """Return when the queue is empty, however often Redis goes away meanwhile."""
    while True:
        with contextlib.suppress(QueueUnavailable), redis_errors():
            async with redis.pubsub() as pubsub:
                await pubsub.subscribe(keys.RUN_CHANNEL + run)
                async for _ in pubsub.listen():
                    if not await redis.zcard(keys.QUEUE):
                        return
