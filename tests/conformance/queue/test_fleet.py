"""Eight workers on one budget, in a simulation: every slot is used at its time, and nobody asks in vain."""

from __future__ import annotations

import heapq
from datetime import timedelta
from itertools import count

import pytest

from promptmill.pacing import Pace
from promptmill.queue import Claim, Settlement
from promptmill.results import Status
from tests.support.queues import Bench

SLOTS = 200
SLOT_MS = 100.0
CALL_MS = 3_000.0


class Fleet:
    """Workers that do what the engine does: claim when woken, when told to, or when a slot comes free again."""

    def __init__(self, bench: Bench, pubsub, *, workers: int, concurrency: int) -> None:
        self.bench = bench
        self.pubsub = pubsub
        self.free = {f"w{number}": concurrency for number in range(workers)}
        self.script_calls = 0
        self.granted_at: list[float] = []
        self._events: list[tuple[float, int, str, Claim | None]] = []
        self._alarms: dict[str, int] = {}
        self._numbers = count()
        for worker in self.free:
            self._come(worker, bench.clock())

    async def run(self, *, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            at, number, worker, ended = heapq.heappop(self._events)
            if ended is None and self._alarms.get(worker) != number:
                continue  # it came for another reason meanwhile, and has a later alarm
            self.bench.clock.now = max(self.bench.clock.now, at)
            if ended is None:
                await self._claim(worker)
            else:
                await self.bench.queue.settle([Settlement(ended, Status.SUCCEEDED)])
                self.free[worker] += 1
                if self.free[worker] == 1:
                    await self._claim(worker)
            await self.wake()

    async def _claim(self, worker: str) -> None:
        self.script_calls += 1
        claims = await self.bench.claim(worker=worker, most=self.free[worker], lease=timedelta(hours=1))
        now = self.bench.clock()
        for claim in claims.jobs:
            self.granted_at.append(now)
            self.free[worker] -= 1
            heapq.heappush(self._events, (now + CALL_MS, next(self._numbers), worker, claim))
        self._alarms.pop(worker, None)
        if claims.wait is not None:
            self._come(worker, now + claims.wait / timedelta(milliseconds=1))

    def _come(self, worker: str, at: float) -> None:
        number = self._alarms[worker] = next(self._numbers)
        heapq.heappush(self._events, (at, number, worker, None))

    async def wake(self) -> None:
        await self.bench.redis.publish("promptmill:wake:", "that is all")
        while worker := (await self.pubsub.get_message(timeout=5))["channel"].decode().removeprefix("promptmill:wake:"):
            self._come(worker, self.bench.clock())


@pytest.mark.parametrize("concurrency", [50, 10], ids=["one-worker-has-room-for-all", "no-worker-has-room-for-all"])
async def test_eight_workers_use_every_slot_at_its_time_with_hardly_a_call_too_many(bench, concurrency):
    await bench.configure(requests=Pace(rate=60_000 / SLOT_MS, burst=1))
    await bench.submit(*(f"j{number}" for number in range(SLOTS)))
    async with bench.redis.pubsub() as pubsub:
        await pubsub.psubscribe("promptmill:wake:*")
        assert (await pubsub.get_message(timeout=5))["type"] == "psubscribe"
        fleet = Fleet(bench, pubsub, workers=8, concurrency=concurrency)
        start = bench.clock()
        await fleet.run(until=start + SLOTS * SLOT_MS)
    late_ms = [at - start - number * SLOT_MS for number, at in enumerate(fleet.granted_at)]
    assert len(late_ms) == SLOTS
    assert max(late_ms) < 1
    assert fleet.script_calls / SLOTS <= 1.2


async def test_jobs_that_come_one_by_one_to_an_idle_fleet_go_at_once_with_two_calls_each(bench):
    """One of them the waking of a worker, one its next look."""
    await bench.configure()
    async with bench.redis.pubsub() as pubsub:
        await pubsub.psubscribe("promptmill:wake:*")
        assert (await pubsub.get_message(timeout=5))["type"] == "psubscribe"
        fleet = Fleet(bench, pubsub, workers=8, concurrency=10)
        start = bench.clock()
        for number in range(20):
            await fleet.run(until=start + number * 500)
            bench.clock.now = start + number * 500
            await bench.submit(f"j{number}")
            await fleet.wake()
        await fleet.run(until=bench.clock())
    assert [at - start for at in fleet.granted_at] == [number * 500 for number in range(20)]
    assert fleet.script_calls <= 8 + 2 * 20 + 10
