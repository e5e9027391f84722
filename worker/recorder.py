"""Writes to the result store and takes jobs out of Redis, many at a time, and waits out whichever is away.

The order is the point (I1, I6): a row is committed before its job leaves Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, TypeVar

import structlog

from promptmill.errors import BadInput, QueueFull, QueueUnavailable, StoreUnavailable
from promptmill.queue import Claim, Queue, Report, Settled, Settlement, Snooze, Standing, Submission
from promptmill.results import Attempt, Result
from promptmill.store import Entry, ResultStore
from worker import events
from worker.batching import Batcher

Answer = TypeVar("Answer")

MOST_ROWS: Final = 500
"""Entries in one transaction."""
RETRY_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds between tries while the store or Redis is away; the last one repeats."""


class Recorder:
    """The worker's only way into the result store, and of giving a job up in Redis.

    While `store_is_away` the engine claims nothing: jobs that already run wait here with their leases renewed, and
    nothing is settled (I5). Every call waits until what it needs is back.
    """

    def __init__(
        self, store: ResultStore, queue: Queue, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._store = store
        self._queue = queue
        self._sleep = sleep
        self._log = structlog.get_logger()
        self._unwritten = 0
        self._waiting_for_store = 0
        self._rows: Batcher[tuple[Entry, ...], BadInput | None] = Batcher(self._record_batch, most=MOST_ROWS)
        self._lookups: Batcher[str, Result | None] = Batcher(self._finished_batch, most=MOST_ROWS)
        self._settlements: Batcher[Settlement, Settled] = Batcher(self._settle_batch, most=MOST_ROWS)

    @property
    def store_is_away(self) -> bool:
        """Whether any call waits for the store: one that is locked or full still answers those that only read."""
        return self._waiting_for_store > 0

    @property
    def holds_answers(self) -> bool:
        """Whether there is what only this process knows: ended now, it would have to be paid for again (I6)."""
        return self._unwritten > 0

    async def record(self, *entries: Entry) -> None:
        """Return when `entries` are committed. Raises BadInput where they can never be."""
        with self.holding():
            refused = await self._rows.put(entries)
        if refused is not None:
            raise refused

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Count what is done in the block as done for an answer that only this process knows: see `holds_answers`."""
        self._unwritten += 1
        try:
            yield
        finally:
            self._unwritten -= 1

    async def finished(self, job_id: str) -> Result | None:
        """Return the answer that is in the store already: it must not be paid for again (I6)."""
        return await self._lookups.put(job_id)

    async def attempts(self, job_id: str) -> tuple[Attempt, ...]:
        """Return the attempts that were recorded before for a job that is still being tried."""
        found = await self._with_store(lambda: self._store.attempts([job_id]))
        return found.get(job_id, ())

    async def settle(self, settlement: Settlement) -> Settled:
        """Take an ended job out of Redis; what became of that."""
        return await self._settlements.put(settlement)

    async def give_back(self, snooze: Snooze, *, pause: timedelta | None = None, reason: str = "") -> Settled:
        """Return a job to the queue, after its budget was told to rest for `pause`. Raises LeaseLost."""
        if pause is not None:
            await self._with_redis(lambda: self._queue.block(snooze.claim.budget, pause, reason, refused=snooze.claim))
        return await self._with_redis(lambda: self._queue.snooze(snooze))

    async def report(self, report: Report) -> Standing:
        """Tell the fleet of a request that came to nothing. Raises LeaseLost."""
        return await self._with_redis(lambda: self._queue.report(report))

    async def adopt(self, claim: Claim, submission: Submission) -> None:
        """Take a job in that an arq client enqueued. Raises LeaseLost."""
        await self._with_redis(lambda: self._queue.adopt(claim, submission))

    async def submit(self, submission: Submission) -> None:
        """Queue a job that follows from an answer. A Redis without memory goes without: the answer shall free some."""
        try:
            await self._with_redis(lambda: self._queue.submit([submission]), gives_way=True)
        except QueueFull:
            self._log.warning(events.GRADING_SKIPPED, job=submission.job.id)

    async def close(self) -> None:
        """Give up whatever still waits for the store or for Redis: whoever handed it in is gone."""
        for batcher in (self._rows, self._lookups, self._settlements):
            await batcher.close()

    async def _record_batch(self, batch: Sequence[tuple[Entry, ...]]) -> list[BadInput | None]:
        entries = [entry for entries in batch for entry in entries]
        try:
            await self._with_store(lambda: self._store.record(entries))
        except BadInput as error:
            if len(batch) == 1:
                return [error]
            # What cannot be stored must not cost the others of its moment their answers (I8).
            return [(await self._record_batch([alone]))[0] for alone in batch]
        return [None] * len(batch)

    async def _finished_batch(self, job_ids: Sequence[str]) -> list[Result | None]:
        found = await self._with_store(lambda: self._store.finished(job_ids))
        return [found.get(job_id) for job_id in job_ids]

    async def _settle_batch(self, settlements: Sequence[Settlement]) -> list[Settled]:
        # Those that went through before a connection broke answer "lease lost" the second time: harmless, since
        # their rows are committed.
        return await self._with_redis(lambda: self._queue.settle(settlements))

    async def _with_redis(self, call: Callable[[], Awaitable[Answer]], *, gives_way: bool = False) -> Answer:
        """Wait until Redis is back; what `gives_way` does not wait until it has memory, and raises QueueFull."""
        tries = 0
        while True:
            try:
                return await call()
            except QueueUnavailable as error:
                if gives_way and isinstance(error, QueueFull):
                    raise
                await self._sleep(_pause(tries))
                tries += 1

    async def _with_store(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            return await call()
        except StoreUnavailable as error:
            if not self._waiting_for_store:
                self._log.error(events.STORE_AWAY, error=str(error))
        self._waiting_for_store += 1
        try:
            answer = await self._when_store_is_back(call)
        finally:
            self._waiting_for_store -= 1
        if not self._waiting_for_store:
            self._log.info(events.STORE_BACK)
        return answer

    async def _when_store_is_back(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        tries = 0
        while True:
            await self._sleep(_pause(tries))
            try:
                return await call()
            except StoreUnavailable:
                tries += 1


def _pause(tries: int) -> float:
    return RETRY_S[min(tries, len(RETRY_S) - 1)]
