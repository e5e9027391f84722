"""When a worker may rely on a lease, and how it learns that it may not."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from promptmill.errors import LeaseLost, QueueUnavailable
from tests.support.workers import make_job
from worker.calls import Stopped, StopReason
from worker.leases import LeaseKeeper

LEASE = timedelta(seconds=12)
TICK = timedelta(milliseconds=1)


@pytest.fixture
async def lease(shop):
    await shop.submit(make_job())
    return await shop.claim_one()


@pytest.fixture
async def frozen(shop, lease):
    """This process stands still for as long as its lease lasts."""
    shop.clock.advance(LEASE)
    return lease


async def reason_of(lease) -> StopReason:
    async def request() -> None:
        raise AssertionError("a stopped call was sent")

    with pytest.raises(Stopped) as stopped:
        await lease.call.run(request())
    return stopped.value.reason


async def test_within_its_lease_a_worker_asks_nobody(shop, lease):
    shop.clock.advance(LEASE - TICK)
    await shop.leases.ensure(lease)
    assert shop.steps.taken == []


async def test_at_the_end_of_its_lease_it_asks_redis(shop, frozen):
    await shop.leases.ensure(frozen)
    assert shop.steps.taken == ["renew"]


async def test_a_frozen_worker_whose_job_nobody_took_goes_on(shop, frozen):
    await shop.leases.ensure(frozen)
    shop.clock.advance(LEASE - TICK)
    await shop.leases.ensure(frozen)
    assert shop.steps.taken == ["renew"], "the renewal counts from when it was asked for"


async def test_a_frozen_worker_whose_job_somebody_took_has_lost_it(shop, frozen):
    await shop.queue.claim(worker="other", lease=LEASE, most=1, token_prefix="other.1")
    with pytest.raises(LeaseLost):
        await shop.leases.ensure(frozen)
    assert await reason_of(frozen) is StopReason.LEASE_LOST
    with pytest.raises(LeaseLost):
        await shop.leases.ensure(frozen)
    assert shop.steps.taken == ["renew"], "lost once is lost for good"


async def test_a_worker_that_takes_over_its_own_job_gives_up_the_earlier_call(shop, frozen):
    """Both would run in one process, and the earlier one would ask Redis for ever."""
    later = await shop.claim_one()
    assert await reason_of(frozen) is StopReason.LEASE_LOST
    with pytest.raises(LeaseLost):
        await shop.leases.ensure(frozen)
    await shop.leases.ensure(later)
    assert shop.steps.taken == [], "it knows without asking"
    shop.leases.drop(frozen)
    assert shop.leases.all() == [later]


async def test_a_lost_lease_is_noticed_even_where_it_is_kept_no_longer(shop, frozen):
    shop.leases.drop(frozen)
    await shop.queue.claim(worker="other", lease=LEASE, most=1, token_prefix="other.1")
    with pytest.raises(LeaseLost):
        await shop.leases.ensure(frozen)


async def test_while_redis_is_away_nobody_can_tell_and_the_worker_waits(shop, frozen):
    shop.steps.fail("renew", QueueUnavailable("away"), QueueUnavailable("away"))
    await shop.leases.ensure(frozen)
    assert shop.naps.taken == [1, 1]
    assert shop.steps.taken == ["renew"]


async def test_a_renewal_prolongs_every_lease_from_when_it_was_asked_for(shop):
    await shop.submit(make_job("a"), make_job("b"))
    leases = await shop.claim()
    shop.clock.advance(LEASE - TICK)
    await shop.leases.renew()
    assert [lease.held_until for lease in leases] == [(shop.clock.now / 1000) + 12] * 2
    assert shop.steps.taken == ["renew"]


async def test_a_renewal_tells_of_a_cancelled_job(shop, lease):
    await shop.queue.cancel(["job-1"])
    await shop.leases.renew()
    assert await reason_of(lease) is StopReason.CANCELLED
    await shop.leases.ensure(lease)


async def test_a_job_settled_while_it_is_renewed_disturbs_nobody(shop):
    await shop.submit(make_job("a"), make_job("b"))
    first, second = await shop.claim()
    gate = shop.steps.hold("renew")
    renewing = asyncio.create_task(shop.leases.renew())
    await gate.reached.wait()
    await shop.run(first)
    gate.opened.set()
    await renewing
    await shop.leases.ensure(second)
    assert [kept.claim.job_id for kept in shop.leases.all()] == ["b"]


async def test_leases_are_renewed_three_times_within_one(shop, lease):
    rounds = asyncio.Event()
    taken = []

    async def sleep(seconds):
        taken.append(seconds)
        if len(taken) == 4:
            rounds.set()
            await asyncio.Event().wait()

    keeper = LeaseKeeper(shop.queue, LEASE, sleep=sleep)
    keeper.hold(lease.claim, asked_at=0)
    shop.steps.fail("renew", QueueUnavailable("away"))
    keeping = asyncio.create_task(keeper.keep())
    await rounds.wait()
    keeping.cancel()
    await asyncio.wait([keeping])
    assert taken == [4, 1, 4, 4], "after one that failed it tries again soon"
    assert shop.steps.taken == ["renew", "renew"], "one of three failed, and it went on"


async def test_a_worker_without_leases_tells_redis_that_it_lives(shop):
    await shop.leases.renew()
    assert shop.steps.taken == ["renew"]
