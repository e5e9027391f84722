"""Passes on to Redis what answers say of the provider's buckets: the newest alone, and not too often."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

import structlog

from promptmill.errors import QueueUnavailable
from promptmill.pacing import Charge, Reading
from promptmill.queue import Claim, Queue
from promptmill.settings import Settings
from promptmill.tasks import end
from worker import events
from worker.provider import read_limits

PAUSE: Final = timedelta(milliseconds=100)
"""Between two calls for one model class: a worker with a hundred answers a second tells of ten."""


class Observer:
    """One for a worker process. What it cannot pass on is dropped: the next answer says the same, only newer."""

    def __init__(
        self, queue: Queue, settings: Settings, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._sleep = sleep
        self._newest: dict[str, tuple[Charge, dict[str, Reading]]] = {}
        """By model class: what was heard and not passed on yet."""
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._log = structlog.get_logger()

    def hear(self, claim: Claim, headers: Mapping[str, str]) -> None:
        """Take in the headers of an answer to the request that `claim` allowed."""
        readings, model_class = read_limits(headers), claim.budget
        if claim.charge is None or not readings:
            return
        waiting = self._newest.get(model_class)
        if waiting is None or claim.charge.at > waiting[0].at:
            self._newest[model_class] = (claim.charge, readings)
        if model_class not in self._telling:
            self._telling[model_class] = asyncio.create_task(self._tell(model_class))

    async def _tell(self, model_class: str) -> None:
        try:
            while model_class in self._newest:
                charge, readings = self._newest.pop(model_class)
                with contextlib.suppress(QueueUnavailable):
                    for new in await self._queue.observe(model_class, charge, readings):
                        self._log.warning(
                            events.LIMIT_DIFFERS,
                            model_class=model_class,
                            dimension=new.dimension,
                            assumed=new.before,
                            limit=new.limit,
                            obeyed=not self._settings.is_pinned(model_class),
                        )
                await self._sleep(PAUSE.total_seconds())
        finally:
            del self._telling[model_class]

    async def close(self) -> None:
        """Stop; what was not passed on yet is dropped."""
        await end(*self._telling.values())
