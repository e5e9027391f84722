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

    Raises KeyboardInterrupt once it has ended in order; a second signal does not wait for that. A shell script starts
    what it puts into the background deaf to Ctrl-C, which is not meant for it: that stays so, and no more than that.
    """
    is_deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    stops = 0

    async def attended() -> T:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()

        def stop() -> None:
            nonlocal stops
            stops += 1
            if not is_deaf:
                signal.raise_signal(signal.SIGINT)
            elif stops > 1 or task is None:
                raise KeyboardInterrupt
            else:
                task.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, stop)
        return await work

    try:
        return asyncio.run(attended())
    except asyncio.CancelledError:
        if not stops:
            raise
        raise KeyboardInterrupt from None


async def cancellable(work: Awaitable[T]) -> T:
    """Return what `work` returns; when cancelled, see to it that `work` ends as well."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task})
        return task.result()
    finally:
        await end(task)
