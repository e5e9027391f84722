"""The part of a job that may be stopped: the request under way. Everything after it is short and always finished."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import StrEnum
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class StopReason(StrEnum):
    """Why a call is not awaited any longer."""

    CANCELLED = "cancelled"
    """The job's owner no longer wants it."""
    LEASE_LOST = "lease_lost"
    """Another worker may run the job by now."""
    SHUTDOWN = "shutdown"
    """This worker's grace period is over."""


class Stopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The call was stopped, or was not begun since it had been stopped before."""

    def __init__(self, reason: StopReason, *, sent: bool) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.sent = sent


class Call:
    """Runs one coroutine that others may stop. Stopping before it begins or after it ended is allowed."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._reason: StopReason | None = None

    def stop(self, reason: StopReason) -> None:
        """Stop the call now, or before it begins; a lost lease outweighs every other reason."""
        if self._reason is None or reason is StopReason.LEASE_LOST:
            self._reason = reason
        if self._task is not None:
            self._task.cancel()

    async def run(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        """Return what `coroutine` returns. Raises Stopped."""
        if self._reason is not None:
            coroutine.close()
            raise Stopped(self._reason, sent=False)
        self._task = asyncio.create_task(coroutine)
        try:
            answer: Answer = await self._task
        except asyncio.CancelledError:
            if self._reason is None:  # somebody cancelled the whole job, not only the call
                self._task.cancel()
                raise
            raise Stopped(self._reason, sent=True) from None
        finally:
            self._task = None
        return answer
