"""promptmill as it is run: worker processes under their supervisor, a real Valkey, jobs from the real client."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path

from producers import Client
from promptmill.jobs import Job, Lane
from promptmill.queue import connect, keys
from promptmill.results import Status
from promptmill.settings import Settings
from promptmill.store import ResultStore
from promptmill.tasks import end
from tests.bench.pacing.cases import Case
from tests.bench.pacing.prompts import arrivals, request
from tests.bench.pacing.systems import Tally, entered, to_the_end
from tests.support.processes import valkey, workers

RUN = "bench"
UNLIMITED = 10**9
"""For a dimension in which the account has no limit."""


def settings_for(case: Case, redis_url: str, folder: Path) -> Settings:
    """Return the settings of everything that is ours: what the account is said to may, else the defaults."""
    told = case.told_limits
    return Settings.load(
        environ={},
        redis_url=redis_url,
        data_dir=folder,
        rpm=told.rpm or UNLIMITED,
        itpm=told.itpm or UNLIMITED,
        otpm=told.otpm or UNLIMITED,
    )


def jobs(case: Case) -> list[Job]:
    """Return what is waiting when a case begins."""
    lane = Lane.OVERNIGHT if case.interactive else Lane.STANDARD
    return [
        Job(
            id=f"{number}",
            request=request(case.prompts, number),
            lane=lane,
            run=RUN,
            position=number + 1,
            tags={"kind": case.prompts.value},
        )
        for number in range(case.waiting)
    ]


class Ours:
    """The system that the others are compared with."""

    def __init__(self, case: Case, base_url: str, folder: Path, stack: contextlib.ExitStack) -> None:
        self.redis_url: str | None = None
        self._case = case
        self._base_url = base_url
        self._folder = folder
        self._stack = stack
        self._workers = stack.enter_context(contextlib.ExitStack())
        self._asking: asyncio.Task[None] | None = None
        self._waits: dict[int, tuple[float, float | None]] = {}

    async def start(self) -> None:
        """Fill the queue, start the workers, and ask for whoever sits at a screen."""
        url, _ = await entered(self._stack, valkey(self._folder / "valkey"))
        self.redis_url = url
        self._settings = settings_for(self._case, url, self._folder)
        async with Client(self._settings) as client:
            await client.submit_many(jobs(self._case))
        environment = {
            "PROMPTMILL_REDIS_URL": url,
            "PROMPTMILL_DATA_DIR": str(self._folder),
            "PROMPTMILL_RPM": str(self._settings.rpm),
            "PROMPTMILL_ITPM": str(self._settings.itpm),
            "PROMPTMILL_OTPM": str(self._settings.otpm),
            "PROMPTMILL_GRACE": "0",
            "ANTHROPIC_API_KEY": "any",
            "ANTHROPIC_BASE_URL": self._base_url,
        }
        await entered(self._workers, workers(self._case.processes, environment, self._folder / "worker.log"))
        if self._case.interactive:
            self._asking = asyncio.create_task(self._be_asked())

    async def finish(self) -> Tally:
        """Stop the workers, then count what became of the jobs."""
        if self._asking is not None:
            await end(self._asking)
        await to_the_end(self._workers.close)
        assert self.redis_url is not None
        async with connect(self.redis_url) as redis, await ResultStore.open(self._settings.store) as store:
            queued = await redis.zcard(keys.QUEUE)
            positions = [result.position async for result in store.results(status=Status.SUCCEEDED)]
        of_run = [position for position in positions if position is not None]
        return Tally(
            lost=self._case.waiting + len(self._waits) - len(positions) - queued,
            waits=list(self._waits.values()),
            passed_over=max(of_run, default=0) - len(of_run),
        )

    async def _be_asked(self) -> None:
        async with Client(self._settings) as client, asyncio.TaskGroup() as group:
            started = time.monotonic()
            for number, at in enumerate(arrivals(self._case)):
                await asyncio.sleep(started + at - time.monotonic())
                group.create_task(self._ask(client, number))

    async def _ask(self, client: Client, number: int) -> None:
        asked, asked_at = time.monotonic(), datetime.now(UTC)
        body = request(self._case.prompts, 10**6 + number)
        handle = await client.submit(Job(request=body, lane=Lane.INTERACTIVE, tags={"kind": self._case.prompts.value}))
        self._waits[number] = asked, None
        result = await handle.result()
        if result.ok:
            self._waits[number] = asked, (result.attempts[-1].started_at - asked_at).total_seconds()
