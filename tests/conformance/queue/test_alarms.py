"""Who comes back when: one worker watches for the next event, and one event wakes one worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from promptmill.pacing import Pace
from promptmill.queue import Settlement, Snooze
from promptmill.results import Status
from tests.support.queues import CLASS, LEASE, ids, make_submission

SECOND = timedelta(seconds=1)
SLOW = Pace(rate=600, burst=1)


@asynccontextmanager
async def ears(redis, *workers: str) -> AsyncIterator[Ears]:
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(*(f"promptmill:wake:{worker}" for worker in workers), "promptmill:end")
        for _ in (*workers, "end"):
            assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
        yield Ears(redis, pubsub)


class Ears:
    """Listens for workers: each of them, and nobody else, can be woken."""

    def __init__(self, redis, pubsub) -> None:
        self._redis = redis
        self._pubsub = pubsub

    async def woken(self) -> list[str]:
        """Who was woken since the last time, in order."""
        await self._redis.publish("promptmill:end", "")
        woken = []
        while (message := await self._pubsub.get_message(timeout=5))["channel"] != b"promptmill:end":
            woken.append(message["channel"].decode().removeprefix("promptmill:wake:"))
        return woken


async def idle(bench) -> dict[str, float]:
    """Workers with free slots, and in how many ms each comes back by itself."""
    entries = await bench.redis.zrange("promptmill:idle", 0, -1, withscores=True)
    return {worker.decode(): round(at - bench.clock(), 3) for worker, at in entries}


async def test_without_anything_to_do_one_worker_looks_every_second_and_the_others_stand_behind_it(bench):
    waits = [(await bench.claim(worker=worker)).wait for worker in ("w1", "w2", "w3")]
    assert waits == [SECOND, 4 * SECOND, 7 * SECOND]
    bench.clock.advance(1_000)
    assert (await bench.claim(worker="w1")).wait == SECOND


async def test_however_many_stand_in_line_the_last_one_looks_within_fifteen_seconds(bench):
    waits = [(await bench.claim(worker=f"w{number}")).wait for number in range(40)]
    assert max(waits) == 15 * SECOND
    assert waits == sorted(waits)


async def test_the_watcher_comes_when_the_next_slot_opens(bench):
    await bench.configure(requests=SLOW)
    await bench.submit("a", "b", "c")
    assert (await bench.claim(worker="w1")).wait == timedelta(milliseconds=100)
    second = await bench.claim(worker="w2")
    assert (ids(second), second.wait) == ([], timedelta(milliseconds=1_100))


async def test_a_worker_that_finds_an_earlier_event_becomes_the_watcher(bench):
    await bench.submit("later", not_before=bench.clock.time(300))
    await bench.claim(worker="w1")
    await bench.submit("sooner", not_before=bench.clock.time(200))
    await bench.redis.zadd("promptmill:idle", {"w1": bench.clock() + 300})
    assert (await bench.claim(worker="w2")).wait == timedelta(milliseconds=200)
    assert await idle(bench) == {"w2": 200, "w1": 300}


async def test_a_watcher_that_died_is_replaced_by_the_next_in_line(bench):
    await bench.configure(requests=SLOW)
    await bench.submit("a", "b")
    await bench.claim(worker="w1")
    await bench.claim(worker="w2")
    bench.clock.advance(1_100)
    claims = await bench.claim(worker="w2")
    assert ids(claims) == ["b"]
    assert await idle(bench) == {"w2": 1_000}


async def test_a_watcher_that_is_a_little_late_keeps_its_place(bench):
    await bench.claim(worker="w1")
    await bench.claim(worker="w2")
    bench.clock.advance(1_250)
    await bench.claim(worker="w3")
    assert "w1" in await idle(bench)
    bench.clock.advance(1)
    await bench.claim(worker="w3")
    assert "w1" not in await idle(bench)


async def test_a_submitted_job_wakes_exactly_one_worker(bench):
    await bench.configure()
    for worker in ("w1", "w2", "w3"):
        await bench.claim(worker=worker)
    async with ears(bench.redis, "w1", "w2", "w3") as workers:
        await bench.submit("a", "b", "c")
        assert await workers.woken() == ["w1"]
        await bench.submit("d")
        assert await workers.woken() == []


async def test_a_submitted_job_wakes_nobody_while_its_budget_is_watched_anyway(bench):
    await bench.configure(requests=SLOW)
    await bench.submit("a", "b")
    await bench.claim(worker="w1")
    async with ears(bench.redis, "w1") as workers:
        await bench.submit("c")
        await bench.submit("d", lane="interactive")
        assert await workers.woken() == []


async def test_a_submitted_job_wakes_a_worker_for_a_budget_that_nobody_has_configured(bench):
    await bench.claim(worker="w1")
    async with ears(bench.redis, "w1") as workers:
        await bench.submit("a")
        assert await workers.woken() == ["w1"]


async def test_a_deferred_job_wakes_a_worker_only_if_nobody_comes_by_its_time(bench):
    await bench.configure()
    await bench.claim(worker="w1")
    async with ears(bench.redis, "w1") as workers:
        await bench.submit("later", not_before=bench.clock.time(1_000))
        assert await workers.woken() == []
        await bench.submit("sooner", not_before=bench.clock.time(998))
        assert await workers.woken() == ["w1"]


async def test_a_job_that_was_there_already_wakes_nobody(bench):
    await bench.configure(requests=SLOW)
    await bench.submit("a", "b")
    await bench.claim(worker="w1", most=1)
    await bench.claim(worker="w2")
    async with ears(bench.redis, "w2") as workers:
        await bench.queue.submit([make_submission("a"), make_submission("b")])
        assert await workers.woken() == []


async def test_a_worker_that_nobody_listens_for_is_skipped_and_struck_off(bench):
    await bench.configure()
    for worker in ("dead", "dead too", "alive", "spare"):
        await bench.claim(worker=worker)
    async with ears(bench.redis, "alive", "spare") as workers:
        await bench.submit("a")
        assert await workers.woken() == ["alive"]
    assert set(await idle(bench)) == {"alive", "spare"}


async def test_a_woken_worker_that_does_not_come_is_replaced_by_the_next(bench):
    await bench.configure()
    await bench.claim(worker="w1")
    await bench.claim(worker="w2")
    async with ears(bench.redis, "w1", "w2") as workers:
        await bench.submit("a")
        bench.clock.advance(250)
        await bench.submit("b")
        assert await workers.woken() == ["w1"]
        bench.clock.advance(1)
        await bench.submit("c")
        assert await workers.woken() == ["w2"]


async def test_nobody_idle_is_nobody_to_wake(bench):
    await bench.configure()
    async with ears(bench.redis, "w1") as workers:
        await bench.submit("a")
        assert await workers.woken() == []


async def test_a_worker_that_is_full_passes_the_watch_on(bench):
    await bench.configure()
    await bench.submit("a", "b")
    async with ears(bench.redis, "w1", "w2", "w3") as workers:
        await bench.redis.zadd("promptmill:idle", {"w2": bench.clock() + 1_000, "w3": bench.clock() + 4_000})
        claims = await bench.claim(worker="w1", most=1)
        assert (ids(claims), claims.wait) == (["a"], None)
        assert await workers.woken() == ["w2"]
    assert "w1" not in await idle(bench)


async def test_a_watcher_that_becomes_full_has_somebody_come_for_the_next_slot(bench):
    await bench.configure(requests=SLOW)
    await bench.submit("a", "b")
    await bench.claim(worker="w2", most=1)
    bench.clock.advance(50)
    await bench.claim(worker="w3")
    bench.clock.advance(50)
    await bench.submit("c")
    async with ears(bench.redis, "w3") as workers:
        assert ids(await bench.claim(worker="w1", most=1)) == ["b"]
        assert await workers.woken() == []
        bench.clock.advance(1)
        await bench.redis.zadd("promptmill:idle", {"w3": bench.clock() + 5_000})
        bench.clock.advance(99)
        assert ids(await bench.claim(worker="w1", most=1)) == ["c"]
        assert await workers.woken() == ["w3"]


async def test_a_job_given_back_wakes_a_worker_when_it_can_be_sent(bench):
    await bench.configure()
    await bench.submit("a", "b")
    a, b = (await bench.claim(worker="w1", most=2)).jobs
    await bench.claim(worker="w2")
    async with ears(bench.redis, "w2") as workers:
        await bench.queue.snooze(Snooze(a, wait=timedelta(minutes=1)))
        assert await workers.woken() == []
        await bench.queue.snooze(Snooze(b))
        assert await workers.woken() == ["w2"]


async def test_jobs_given_back_while_their_budget_is_blocked_wake_nobody(bench):
    """After a 429 everything in flight comes back at about the same time."""
    await bench.configure()
    await bench.submit("a", "b", "c")
    claims = (await bench.claim(worker="w1", most=3)).jobs
    await bench.claim(worker="w2")
    await bench.queue.block(CLASS, timedelta(seconds=30), "rate_limited")
    async with ears(bench.redis, "w2") as workers:
        for claim in claims:
            await bench.queue.snooze(Snooze(claim))
        assert await workers.woken() == []


async def test_lifting_a_block_wakes_a_worker(bench):
    await bench.configure()
    await bench.queue.block(CLASS, timedelta(minutes=1), "parked")
    await bench.submit("a")
    await bench.claim(worker="w1")
    async with ears(bench.redis, "w1") as workers:
        await bench.queue.block(CLASS, timedelta(0), "")
        assert await workers.woken() == ["w1"]


async def test_a_cancelled_job_wakes_a_worker_to_end_it(bench):
    await bench.configure()
    await bench.submit("a", not_before=bench.clock.time(3_600_000))
    await bench.claim(worker="w1")
    async with ears(bench.redis, "w1") as workers:
        await bench.queue.cancel(["a"])
        assert await workers.woken() == ["w1"]


async def test_settling_a_job_wakes_nobody(bench):
    await bench.configure()
    await bench.submit("a")
    claim = await bench.claim_one(worker="w1")
    async with ears(bench.redis, "w1") as workers:
        await bench.queue.settle([Settlement(claim, Status.SUCCEEDED, b"{}", LEASE)])
        assert await workers.woken() == []


async def test_a_worker_that_leaves_can_no_longer_be_woken(bench):
    await bench.claim(worker="w1")
    await bench.redis.hset("promptmill:workers", "w1", "{}")
    await bench.queue.leave("w1")
    assert await bench.dump() == {}


async def test_what_is_left_over_is_claimed_at_once(bench):
    """One call looks at a bounded number of what is due; nobody rests before all was looked at."""
    await bench.configure(requests=Pace(rate=60, burst=1))
    await bench.submit(*(f"j{number}" for number in range(300)), not_before=bench.clock.time(1_000))
    bench.clock.advance(1_000)
    waits = [(await bench.claim(worker="w1", most=10)).wait for _ in range(3)]
    assert waits == [timedelta(0), timedelta(0), SECOND]
