"""Many small requests answered by one call: what came in while the last call was under way goes into the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from promptmill.tasks import end

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Collects items and hands them over together; whoever put one in gets its answer, or the call's exception.

    There is no delay: an item that comes alone is handed over at the next turn of the event loop. Used from one loop.
    """

    def __init__(self, call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]], *, most: int) -> None:
        self._call = call
        self._most = most
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._running: asyncio.Task[None] | None = None

    async def put(self, item: Item) -> Answer:
        """Return the answer to `item`. Cancelling the wait does not take back what was handed over."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                try:
                    answers = await self._call([item for item, _ in batch])
                    for (_, future), answer in zip(batch, answers, strict=True):
                        if not future.done():
                            future.set_result(answer)
                except asyncio.CancelledError:
                    for _, future in batch:
                        future.cancel()
                    raise
                except Exception as error:  # noqa: BLE001 - it is handed to everyone who waits
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
        finally:
            self._running = None

    async def close(self) -> None:
        """Give up what is waiting or under way; whoever waits for it is cancelled."""
        for _, future in self._waiting:
            future.cancel()
        self._waiting = []
        if self._running is not None:
            await end(self._running)
