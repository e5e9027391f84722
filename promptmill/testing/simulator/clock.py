"""Time as the simulator sees it: given to every part, never taken by one.

Inside the simulator time is an `int` of nanoseconds, so that the token buckets are exact.
"""

import asyncio
import heapq
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS


def to_ns(span: timedelta) -> int:
    """Nanoseconds of `span`, exactly."""
    return (span // timedelta(microseconds=1)) * 1_000


class Clock(Protocol):
    """What the simulator needs to know about time."""

    def now_ns(self) -> int:
        """Monotonic nanoseconds: only differences mean anything."""

    def utc(self) -> datetime:
        """Wall-clock time, for the headers that tell one."""

    async def sleep_until(self, deadline_ns: int) -> None:
        """Return once `now_ns()` has reached `deadline_ns`."""


class SystemClock:
    """The machine's own clock."""

    def now_ns(self) -> int:
        """Nanoseconds of the machine's monotonic clock."""
        return time.monotonic_ns()

    def utc(self) -> datetime:
        """Wall-clock time of the machine."""
        return datetime.now(UTC)

    async def sleep_until(self, deadline_ns: int) -> None:
        """Sleep on the running loop; a deadline in the past does not even yield to it."""
        left_ns = deadline_ns - time.monotonic_ns()
        if left_ns > 0:
            await asyncio.sleep(left_ns / SECOND_NS)


class ManualClock:
    """A clock that stands still until its owner advances it: hours of simulated time without waiting.

    A test waits with `sleeping(n)` until `n` answers of the simulator are held up, then calls `advance`.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._now_ns = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self._changed = asyncio.Condition()

    def now_ns(self) -> int:
        """Nanoseconds advanced so far."""
        return self._now_ns

    def utc(self) -> datetime:
        """Return the start plus what was advanced so far."""
        return self._start + timedelta(microseconds=self._now_ns // 1_000)

    async def sleep_until(self, deadline_ns: int) -> None:
        """Return once the owner has advanced the clock to `deadline_ns`."""
        if deadline_ns <= self._now_ns:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (deadline_ns, self._count, done))
        async with self._changed:
            self._changed.notify_all()
        await done

    async def sleeping(self, sleepers: int = 1) -> None:
        """Return once at least `sleepers` callers are asleep."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._asleep() >= sleepers)

    def advance(self, span: timedelta) -> None:
        """Move time on by `span` and wake everybody who is due."""
        self._now_ns += to_ns(span)
        while self._sleepers and self._sleepers[0][0] <= self._now_ns:
            _, _, done = heapq.heappop(self._sleepers)
            if not done.done():
                done.set_result(None)

    def _asleep(self) -> int:
        return sum(1 for _, _, done in self._sleepers if not done.done())
