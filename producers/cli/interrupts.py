"""Stopping in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Coroutine
from datetime import timedelta
from typing import Any, Final, TypeVar

T = TypeVar("T")

_CANCELLED_AGAIN_AFTER: Final = timedelta(milliseconds=200)


def run_until_stopped(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`; SIGTERM and a closed terminal cancel it as Ctrl-C does.

    Raises KeyboardInterrupt once it has ended in order; a second signal does not wait for that.
    """

    async def attended() -> T:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, signal.raise_signal, signal.SIGINT)
        return await work

    return asyncio.run(attended())


async def cancellable(work: Awaitable[T]) -> T:
    """Return what `work` returns; when cancelled, see to it that `work` ends as well."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task})
        return task.result()
    finally:
        await end(task)


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel `tasks` until each has ended; what they raise is dropped.

    Asking once is not enough: redis' client writes inside `asyncio.wait_for`, which up to Python 3.11 returns as if
    nothing had been asked when the cancellation arrives in the moment in which the write is done.
    """
    while going := {task for task in tasks if not task.done()}:
        for task in going:
            task.cancel()
        await asyncio.wait(going, timeout=_CANCELLED_AGAIN_AFTER.total_seconds())
    for task in tasks:
        if not task.cancelled():
            task.exception()
