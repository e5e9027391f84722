"""Whole workers in this process, on a real Valkey and an API on loopback. Tests wait for what happens, not for time."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web
from httpx2 import Headers
from redis.asyncio import Redis

from promptmill.jobs import Job
from promptmill.queue import Queue, connect, keys, prepare
from promptmill.settings import Settings
from promptmill.store import ResultStore
from tests.support.listening import listening
from tests.support.providers import Request, ScriptedApi
from tests.support.workers import make_settings, open_store
from worker.engine import PacedWorker
from worker.main import build_worker

UNPACED = {"rpm": 60_000_000, "itpm": 60_000_000_000, "otpm": 60_000_000_000}
"""Limits that bind nobody."""


class ServedApi(ScriptedApi):
    """A scripted API that listens on loopback."""

    base_url = ""

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[ServedApi]:
        app = web.Application()
        app.router.add_post("/v1/messages", self._serve)
        async with listening(app) as self.base_url:
            yield self

    async def _serve(self, request: web.Request) -> web.Response:
        arrived = Request(Headers(list(request.headers.items())), await request.read(), request.method, request.path)
        async with self._arrivals:
            self.requests.append(arrived)
            self._arrivals.notify_all()
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        response = await step(arrived)
        headers = {name: value for name, value in response.headers.items() if name.lower() != "transfer-encoding"}
        return web.Response(status=response.status_code, body=await response.aread(), headers=headers)


class Ends:
    """Hears which jobs have ended, and tells whoever waits."""

    def __init__(self) -> None:
        self._ended: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def of(self, *job_ids: str) -> None:
        """Return when all these jobs have ended."""
        await asyncio.gather(*(self._ended[job_id].wait() for job_id in job_ids))

    @contextlib.asynccontextmanager
    async def listening(self, redis: Redis) -> AsyncIterator[Ends]:
        async with redis.pubsub() as pubsub:
            await pubsub.psubscribe(f"{keys.DONE_CHANNEL}*")
            await pubsub.get_message(timeout=10)
            hearing = asyncio.create_task(self._hear(pubsub))
            try:
                yield self
            finally:
                hearing.cancel()
                await asyncio.wait([hearing])

    async def _hear(self, pubsub: Any) -> None:
        async for message in pubsub.listen():
            if message["type"] == "pmessage":
                self._ended[message["channel"].decode().removeprefix(keys.DONE_CHANNEL)].set()


class TellingLog:
    """A log that tells whoever waits for an event."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self.said: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def __getattr__(self, level: str) -> Any:
        def say(event: str, **fields: Any) -> None:
            getattr(self._log, level)(event, **fields)
            self.said[event].set()

        return say


class RunningWorker:
    """A worker that runs in this loop, and the moments of its life."""

    def __init__(self, worker: PacedWorker) -> None:
        self.engine = worker
        self._log = worker._log = worker.holdups._log = TellingLog(worker._log)
        self.naps = 0
        self._napping = asyncio.Condition()
        self._nap = worker._nap
        worker._nap = self._tell_nap
        self.alarms = True
        """Whether it comes back by itself; without alarms only what happens can wake it."""
        self.task: asyncio.Task[None] | None = None

    async def _tell_nap(self, within: Any) -> None:
        async with self._napping:
            self.naps += 1
            self._napping.notify_all()
        at_once = within is not None and not within
        await self._nap(within if self.alarms or at_once else None)

    async def idle(self) -> None:
        """Return when the worker has nothing more to claim."""
        async with self._napping:
            before = self.naps
            await self._napping.wait_for(lambda: self.naps > before)

    async def says(self, event: str) -> None:
        """Return when the engine has logged this event."""
        await self._log.said[event].wait()

    async def finished(self) -> None:
        """Return when the worker runs no job."""
        while self.engine.tasks:
            await asyncio.wait(self.engine.tasks.values())

    async def ended(self) -> None:
        assert self.task is not None
        await self.task


class Engines:
    """A Valkey, a store, an API; as many workers as a test starts."""

    def __init__(self, settings: Settings, redis: Redis, store: ResultStore, api: ServedApi, ends: Ends) -> None:
        self.settings = settings
        self.redis = redis
        self.queue = Queue(redis)
        self.store = store
        self.api = api
        self.ends = ends

    async def submit(self, *jobs: Job) -> None:
        await self.queue.submit([prepare(job, self.settings) for job in jobs])

    @contextlib.asynccontextmanager
    async def worker(
        self, *, idle: bool = True, burst: bool = False, dies: bool = False, **changes: Any
    ) -> AsyncIterator[RunningWorker]:
        """Run a worker for the block; then stop it at once, handing back what it runs.

        Unless the test wants it to die (`dies`), its death ends the test, which could otherwise wait for ever.
        """
        settings = self.settings.model_copy(update=changes)
        running = RunningWorker(build_worker(settings, burst=burst, handle_signals=False))
        running.task = asyncio.create_task(running.engine.async_run())
        test = asyncio.current_task()

        def died(task: asyncio.Task[None]) -> None:
            if not dies and not task.cancelled() and task.exception() and test is not None:
                test.cancel(f"the worker died: {task.exception()!r}")

        running.task.add_done_callback(died)
        try:
            if idle:
                waiting = asyncio.create_task(running.idle())
                await asyncio.wait([waiting, running.task], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                await asyncio.wait([waiting])
            yield running
        finally:
            for _ in range(2):
                running.engine.handle_sig(15)  # the second one means: at once
            await asyncio.wait([running.task])
            await running.engine.close()
            if not dies:
                running.task.result()


@contextlib.asynccontextmanager
async def engines(url: str, folder: Path, **changes: Any) -> AsyncIterator[Engines]:
    """Everything but the workers, on an empty Valkey."""
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(ServedApi().serving())
        settings = make_settings(folder, redis_url=url, anthropic_base_url=api.base_url, **{**UNPACED, **changes})
        redis = await stack.enter_async_context(connect(url))
        await redis.flushall()
        ends = await stack.enter_async_context(Ends().listening(redis))
        store = await stack.enter_async_context(await open_store(settings))
        yield Engines(settings, redis, store, api, ends)
