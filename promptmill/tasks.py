"""Ending tasks for certain."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Final

_CANCELLED_AGAIN_AFTER: Final = timedelta(milliseconds=100)


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
