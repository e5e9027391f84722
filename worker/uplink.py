"""A worker's own way to the provider: one that is cut off while others are answered leaves the jobs to them.

That it is its own trouble the fleet says, which knows who is answered (lua/_breaker.lua). Where nobody is answered the
breaker of the fleet sees to it, and this worker goes on as if nothing were.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from worker import events

ENOUGH: Final = 3
"""Requests in a row that found no connection: a single one may be chance."""
FIRST_REST: Final = timedelta(seconds=1)
"""Doubles with each job that finds no connection either, up to the longest."""


class Uplink:
    """One for a worker process. While it is cut off it may claim one job after each rest, which finds out."""

    def __init__(
        self,
        *,
        longest_rest: timedelta = timedelta(seconds=30),
        on_back: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._longest_rest = longest_rest
        self._on_back = on_back
        self._now = now
        self._in_vain = 0
        self._rest = timedelta(0)
        self._since = self._next = datetime.min.replace(tzinfo=UTC)
        self._log = structlog.get_logger()

    @property
    def is_cut_off(self) -> bool:
        """Whether this worker reaches nobody while others do."""
        return self._in_vain >= ENOUGH

    def note(self, *, cut_off: bool, started_at: datetime) -> None:
        """Take in what a request that began at `started_at` showed of the way."""
        if started_at < self._since:
            return  # under way when the rest began: no news
        was_cut_off = self.is_cut_off
        self._in_vain = self._in_vain + 1 if cut_off else 0
        if self.is_cut_off:
            self._rest = min(max(FIRST_REST, 2 * self._rest), self._longest_rest)
            self._since = self._now()
            self._next = self._since + self._rest
            if not was_cut_off:
                self._log.error(events.WORKER_CUT_OFF, longest_rest_s=self._longest_rest.total_seconds())
        elif was_cut_off:
            self._rest = timedelta(0)
            self._log.info(events.WORKER_REACHES_AGAIN)
            self._on_back()

    def allows(self, free: int) -> int:
        """Return how many jobs may be claimed into `free` slots now."""
        if not self.is_cut_off:
            return free
        return min(free, 1) if self._now() >= self._next else 0

    def let_one(self) -> None:
        """Note that one job was claimed to find out: the next one goes after a rest, whatever becomes of this."""
        self._next = self._now() + self._rest

    def left(self) -> timedelta:
        """Return how long the rest still takes."""
        return max(timedelta(0), self._next - self._now())
