"""Stopping in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from promptmill.tasks import end

T = TypeVar("T")


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
