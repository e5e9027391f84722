"""The way out: results for whoever waits, told by Redis and not asked for again and again.

One connection per client listens on a channel for each job that somebody waits for. The order is what makes it safe:
first subscribe, then look whether the result is there already; a job that ends between the two is announced on the
channel. After a lost connection everything is subscribed and looked up again. A message only says where to look, so
that one which arrives twice, late or never does no harm.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Iterable
from datetime import timedelta
from itertools import islice
from typing import Any, Final, NoReturn

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from promptmill.errors import PromptmillError, QueueUnavailable, ResultNotFound
from promptmill.queue import keys
from promptmill.queue.connection import redis_errors
from promptmill.results import Result
from promptmill.tasks import end
from promptmill.wire import unpack_result

RECHECK: Final = timedelta(seconds=30)
"""How often everything is looked up although nobody said so. A connection that died without a word is noticed by it."""
LONGEST_PAUSE: Final = timedelta(seconds=2)
"""Between two attempts to reach Redis."""

_CHANNELS_A_COMMAND: Final = 1_000
_LOOK_UPS_A_COMMAND: Final = 256
"""Results are as long as answers are: few enough that one reply stays small."""


class _Wait:
    """One job that somebody waits for. `callers` counts who does."""

    __slots__ = ("callers", "result")

    def __init__(self, result: asyncio.Future[Result]) -> None:
        self.result = result
        self.callers = 0


class ResultListener:
    """Hands results to whoever waits for them, any number of jobs at a time, over one connection.

    `subscriptions` must have no reply timeout: silence is normal there. Belongs to the event loop it is first used in.
    """

    def __init__(self, commands: Redis, subscriptions: Redis, *, recheck: timedelta = RECHECK) -> None:
        self._commands = commands
        self._subscriptions = subscriptions
        self._recheck = recheck
        self._waits: dict[str, _Wait] = {}
        self._changed = _Inbox()
        """Jobs that somebody began or ceased to wait for, for the subscriber."""
        self._to_look_up = _Inbox()
        """Jobs whose result may be there, for the reader."""
        self._task: asyncio.Task[None] | None = None

    async def result(self, job_id: str) -> Result:
        """Return the result of a job as soon as it is there.

        Raises ResultNotFound where the job is not queued and no result of it is kept. Goes on waiting while Redis is
        away; bound it with a timeout.
        """
        wait = self._waits.get(job_id)
        if wait is None:
            wait = self._waits[job_id] = _Wait(asyncio.get_running_loop().create_future())
            self._changed.add([job_id])
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen(), name="promptmill results")
        wait.callers += 1
        try:
            # Shielded: who gives up must not take the result away from the others who wait for the same job.
            return await asyncio.shield(wait.result)
        finally:
            wait.callers -= 1
            if not wait.callers:
                self._forget(job_id, wait)

    async def aclose(self) -> None:
        """Stop listening; whoever still waits gets QueueUnavailable."""
        task, self._task = self._task, None
        if task is not None:
            await end(task)
        self._fail(QueueUnavailable("the client was closed while a result was awaited"))

    def _forget(self, job_id: str, wait: _Wait) -> None:
        if self._waits.get(job_id) is wait:
            del self._waits[job_id]
            self._changed.add([job_id])

    def _fail(self, problem: Exception) -> None:
        for wait in self._waits.values():
            if not wait.result.done():
                wait.result.set_exception(problem)
        self._waits.clear()

    async def _listen(self) -> None:
        pause = 0.05
        while True:
            await self._changed.filled()  # nobody waits: nobody has to listen
            session = _Session(self._commands, self._subscriptions, self._waits, self._changed, self._to_look_up)
            try:
                await session.run(self._recheck)
            except QueueUnavailable:
                pause = 0.05 if session.heard else min(2 * pause, LONGEST_PAUSE.total_seconds())
            except Exception as problem:  # noqa: BLE001 - raised by each caller: a refused password, say, mends not by itself
                self._fail(problem)
                return
            # Spread out: every client of a Redis that restarts comes back at the same moment.
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - no secret
            self._changed.add(self._waits)


class _Session:
    """What is done over one connection, from its first subscription to its end."""

    def __init__(
        self, commands: Redis, subscriptions: Redis, waits: dict[str, _Wait], changed: _Inbox, to_look_up: _Inbox
    ) -> None:
        self._commands = commands
        self._pubsub: PubSub = subscriptions.pubsub()
        self._waits = waits
        self._changed = changed
        self._to_look_up = to_look_up
        self._subscribed: set[str] = set()
        self.heard = False
        """Whether anything arrived since the last look at this."""

    async def run(self, recheck: timedelta) -> None:
        """Go on until the connection is lost. Raises QueueUnavailable then, or what Redis refused."""
        tasks: list[asyncio.Task[NoReturn]] = []
        try:
            with redis_errors():
                await self._pubsub.connect()  # type: ignore[no-untyped-call]
            tasks += [
                asyncio.create_task(self._subscribe(), name="promptmill results: subscribe"),
                asyncio.create_task(self._hear(), name="promptmill results: hear"),
                asyncio.create_task(self._look_up(), name="promptmill results: look up"),
                asyncio.create_task(self._doubt(recheck), name="promptmill results: recheck"),
            ]
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # What Redis refused says more than that it went away, where both happened at once.
            await max(ended, key=lambda task: not isinstance(task.exception(), QueueUnavailable))
        finally:
            # No TaskGroup: it asks its tasks to end only once, see `end`.
            await end(*tasks)
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _subscribe(self) -> NoReturn:
        """Subscribe to what is newly awaited, unsubscribe from what is no longer."""
        while True:
            await self._follow(await self._changed.take(_CHANNELS_A_COMMAND))

    async def _follow(self, changed: Collection[str]) -> None:
        begun = [job_id for job_id in changed if job_id in self._waits]
        ceased = [job_id for job_id in changed if job_id not in self._waits and job_id in self._subscribed]
        fresh = [job_id for job_id in begun if job_id not in self._subscribed]
        with redis_errors():
            if fresh:
                await self._pubsub.subscribe(*[keys.DONE_CHANNEL + job_id for job_id in fresh])
            if ceased:
                await self._pubsub.unsubscribe(*[keys.DONE_CHANNEL + job_id for job_id in ceased])
        self._subscribed.update(fresh)
        self._subscribed.difference_update(ceased)
        # Awaited anew before the subscription was given up: no confirmation will come for these.
        self._to_look_up.add(set(begun).difference(fresh))

    async def _hear(self) -> NoReturn:
        """Have looked up whatever is announced, and whatever is now subscribed to and may have ended before."""
        while True:
            with redis_errors():
                message = await self._pubsub.get_message(timeout=None)
            self.heard = True
            if message is not None and message["type"] in {"subscribe", "message"}:
                channel: bytes = message["channel"]
                self._to_look_up.add([channel.decode().removeprefix(keys.DONE_CHANNEL)])

    async def _look_up(self) -> NoReturn:
        while True:
            job_ids = [job_id for job_id in await self._to_look_up.take(_LOOK_UPS_A_COMMAND) if job_id in self._waits]
            if job_ids:
                self._tell(job_ids, *await self._read(job_ids))

    async def _read(self, job_ids: Collection[str]) -> tuple[list[Any], list[Any]]:
        """Return for each job its score in the queue, then its result.

        In this order: every unsettled job stands in the queue, so one that is not there now, and has left no result by
        the time of the second command, will never leave one.
        """
        with redis_errors():
            async with self._commands.pipeline(transaction=False) as pipeline:
                pipeline.zmscore(keys.QUEUE, list(job_ids))
                pipeline.mget([keys.RESULT + job_id for job_id in job_ids])
                scores, results = await pipeline.execute()
        return scores, results

    def _tell(self, job_ids: Collection[str], scores: list[Any], results: list[Any]) -> None:
        for job_id, score, value in zip(job_ids, scores, results, strict=True):
            if value is None and score is not None:
                continue
            # Struck out at once: who asks for the same job from now on gets an answer of their own.
            wait = self._waits.pop(job_id, None)
            if wait is None or wait.result.done():
                continue
            self._changed.add([job_id])
            try:
                wait.result.set_result(_result(job_id, value))
            except PromptmillError as problem:
                wait.result.set_exception(problem)

    async def _doubt(self, recheck: timedelta) -> NoReturn:
        """Look everything up now and then, and give up a connection over which not even a ping is answered."""
        while True:
            self.heard = False
            with redis_errors():
                await self._pubsub.ping()
            await asyncio.sleep(recheck.total_seconds())
            if not self.heard:
                raise QueueUnavailable(f"Redis has been silent for {recheck.total_seconds():g} s")
            self._to_look_up.add(self._waits)


def _result(job_id: str, value: bytes | None) -> Result:
    if value is None:
        raise ResultNotFound(job_id)
    return unpack_result(value)


class _Inbox:
    """Ids for one task to deal with; each stands in it once, in the order of arrival."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._filled = asyncio.Event()

    def add(self, ids: Iterable[str]) -> None:
        self._ids.update(dict.fromkeys(ids))
        if self._ids:
            self._filled.set()

    async def filled(self) -> None:
        """Wait until there is something to take."""
        await self._filled.wait()

    async def take(self, most: int) -> list[str]:
        """Return the first ids, at most that many, as soon as there are any."""
        await self._filled.wait()
        taken = list(islice(self._ids, most))
        for job_id in taken:
            del self._ids[job_id]
        if not self._ids:
            self._filled.clear()
        return taken
