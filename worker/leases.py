"""Keeps the leases of running jobs alive, and knows when one can no longer be relied on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from promptmill.errors import LeaseLost, QueueUnavailable
from promptmill.queue import Claim, Queue, Renewal
from worker.calls import Call, StopReason

RENEWALS_PER_LEASE: Final = 3
"""Two renewals may fail before a lease runs out."""
AWAY_RETRY_S: Final = 1
"""While Redis is away: soon after it is back others may take over what nobody has renewed (lua/_heard.lua)."""


class Lease:
    """One running job's lease. Owned by the pipeline that runs the job; renewed by the LeaseKeeper."""

    def __init__(self, claim: Claim, held_until: float) -> None:
        self.claim = claim
        self.held_until = held_until
        """On this process' monotonic clock; counted from before the claim was asked for, so never too late."""
        self.call = Call()
        """The job's request: stopped when the job should no longer run."""
        self.lost = False


class LeaseKeeper:
    """Renews every lease of this worker in one call, three times within a lease.

    A process that was stopped for longer than a lease (SIGSTOP, a suspended machine, a swapped-out loop) finds its
    leases run out on its own clock and asks Redis before it relies on one again (I2).
    """

    def __init__(
        self,
        queue: Queue,
        duration: timedelta,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._queue = queue
        self._duration = duration
        self._monotonic = monotonic
        self._sleep = sleep
        self._leases: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def hold(self, claim: Claim, *, asked_at: float) -> Lease:
        """Begin to keep the lease of `claim`, which was asked for at `asked_at` on the monotonic clock."""
        if earlier := self._leases.get(claim.job_id):  # it ran out, and this worker itself took the job over
            _lose(earlier)
        lease = self._leases[claim.job_id] = Lease(claim, asked_at + self._duration.total_seconds())
        return lease

    def drop(self, lease: Lease) -> None:
        """Stop keeping a lease: its job was settled, given back or lost."""
        if self._leases.get(lease.claim.job_id) is lease:
            del self._leases[lease.claim.job_id]

    def get(self, job_id: str) -> Lease | None:
        """Return the lease on `job_id` if this worker runs it."""
        return self._leases.get(job_id)

    def all(self) -> list[Lease]:
        """Return every lease that is kept."""
        return list(self._leases.values())

    async def ensure(self, lease: Lease) -> None:
        """Return if the lease certainly stands; ask Redis where this process cannot tell. Raises LeaseLost.

        While Redis does not answer nobody can have taken the job over either, but nobody can know: the call waits.
        """
        while not lease.lost and self._monotonic() >= lease.held_until:
            try:
                await self._renew([lease])
            except QueueUnavailable:
                await self._sleep(AWAY_RETRY_S)
        if lease.lost:
            raise LeaseLost(lease.claim.job_id)

    async def keep(self) -> None:
        """Renew until cancelled, also where no lease is kept: so Redis knows that somebody lives, and that it was away.

        Redis going away is survived.
        """
        pause = turn = self._duration.total_seconds() / RENEWALS_PER_LEASE
        while True:
            await self._sleep(pause)
            try:
                await self.renew()
                pause = turn
            except QueueUnavailable:
                pause = min(AWAY_RETRY_S, turn)

    async def renew(self) -> None:
        """Renew every lease now. Raises QueueUnavailable."""
        await self._renew(self.all())

    async def _renew(self, leases: list[Lease]) -> None:
        asked_at = self._monotonic()
        answers = await self._queue.renew([lease.claim for lease in leases], self._duration)
        for lease, answer in zip(leases, answers, strict=True):
            if answer is Renewal.LOST:
                _lose(lease)  # or settled while the call was under way: then nobody asks any more
                continue
            lease.held_until = asked_at + self._duration.total_seconds()
            if answer is Renewal.CANCELLED:
                lease.call.stop(StopReason.CANCELLED)


def _lose(lease: Lease) -> None:
    lease.lost = True
    lease.call.stop(StopReason.LEASE_LOST)
