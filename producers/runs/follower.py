"""Hears which jobs of a run have ended."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from redis.asyncio import Redis

from promptmill.errors import QueueUnavailable
from promptmill.queue import keys
from promptmill.queue.connection import redis_errors
from promptmill.tasks import end

_SILENCE: Final = timedelta(seconds=1)
"""How long one read lasts; silence is no error."""
_PAUSE: Final = timedelta(milliseconds=500)


class RunFollower:
    """Collects the ids that are announced on the channel of a run, over a connection of its own.

    What is announced while the connection is away is never heard; `gaps` tells that it may have been.
    """

    def __init__(self, redis: Redis, run: str) -> None:
        self._redis = redis
        self._channel = keys.RUN_CHANNEL + run
        self._heard = asyncio.Event()
        self._ended: set[str] = set()
        self.gaps = False
        """Set whenever a subscription begins; whoever then looks at every job resets it."""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen(), name="promptmill run")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await end(self._task)

    async def hear(self, enough: int, longest: timedelta) -> None:
        """Wait until `enough` jobs were announced, a subscription began, or this time has passed."""
        try:
            async with asyncio.timeout(longest.total_seconds()):
                while len(self._ended) < enough and not self.gaps:
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            return

    def take(self) -> set[str]:
        """Return the ids that were announced since the last call."""
        ended, self._ended = self._ended, set()
        return ended

    async def _listen(self) -> None:
        while True:
            pubsub = self._redis.pubsub()
            try:
                with redis_errors():
                    await pubsub.subscribe(self._channel)
                    while True:
                        message = await pubsub.get_message(timeout=_SILENCE.total_seconds())
                        if message is not None:
                            self._note(message["type"], message["data"])
            except QueueUnavailable:
                await asyncio.sleep(_PAUSE.total_seconds())
            finally:
                await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _note(self, kind: str, data: bytes) -> None:
        if kind == "message":
            self._ended.add(data.decode("utf-8", "replace"))
        else:
            self.gaps = True
        self._heard.set()
