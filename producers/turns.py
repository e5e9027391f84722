"""Long work in an event loop, that leaves everybody else their turn."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

LONGEST: Final = timedelta(milliseconds=20)


class Turns:
    """`give` once per small step: every 20 ms it lets the other tasks go on, else it costs next to nothing."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + LONGEST.total_seconds()

    async def give(self) -> None:
        """Let the others go on if it is time."""
        if self._loop.time() >= self._until:
            await asyncio.sleep(0)
            self._until = self._loop.time() + LONGEST.total_seconds()
