"""Asks the provider's status page, while requests come to nothing.

What it says opens and closes nothing: it is shown beside what was found out, and when it no longer tells of an outage
the next probe goes at once. Its silence means nothing, and that it cannot be read is nobody's concern.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx2
import structlog

from promptmill.errors import QueueUnavailable
from promptmill.queue import Queue
from promptmill.queue.status_page import ASK_EVERY, PageSays, note_page, page_says, take_turn, troubled_classes
from worker import events

_PATIENCE: Final = timedelta(seconds=5)
_MOST_BYTES: Final = 65_536


class StatusPage:
    """One for a worker process. `url` is that of the page's `status.json`; no key is sent there."""

    def __init__(
        self,
        url: str,
        queue: Queue,
        *,
        worker: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = url
        self._queue = queue
        self._worker = worker
        self._now = now
        self._sleep = sleep
        self._log = structlog.get_logger()

    async def keep(self) -> None:
        """Look until cancelled."""
        while True:
            with contextlib.suppress(QueueUnavailable):
                await self.look()
            await self._sleep(ASK_EVERY.total_seconds())

    async def look(self) -> None:
        """Ask the page if a model class is in trouble and it is this worker's turn. Raises QueueUnavailable."""
        redis = self._queue.redis
        troubled = await troubled_classes(redis)
        if not troubled or not await take_turn(redis, self._worker):
            return
        before, said = await page_says(redis), await self._ask()
        if before is not None and said is not None and before.indicator == said.indicator:
            said = replace(said, since=before.since)
        elif said is not None:
            self._log.info(events.PROVIDER_SAYS, indicator=said.indicator, description=said.description)
        await note_page(redis, said)
        if before is not None and before.is_bad and said is not None and said.indicator == "none":
            for model_class in troubled:
                await self._queue.hasten(model_class)

    async def _ask(self) -> PageSays | None:
        """Return what the page says; None where it cannot be read."""
        page = bytearray()
        with contextlib.suppress(httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError):
            async with (
                asyncio.timeout(_PATIENCE.total_seconds()),
                httpx2.AsyncClient(follow_redirects=True) as client,
                client.stream("GET", self._url, headers={"accept": "application/json"}) as response,
            ):
                if response.status_code == 200:
                    async for part in response.aiter_bytes():
                        page += part[:_MOST_BYTES]
                        if len(page) > _MOST_BYTES:
                            break
                    return PageSays.read(bytes(page), self._now())
        return None
