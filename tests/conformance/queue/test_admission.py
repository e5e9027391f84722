"""What may be sent now and what has to wait, exactly at the boundary and one tick before it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from promptmill.pacing import Cost, Pace
from promptmill.queue import Settlement, Snooze
from promptmill.results import Status
from tests.support.queues import CLASS, PLENTY, ids

MICROSECOND = timedelta(microseconds=1)
ONE_A_SECOND = Pace(rate=60, burst=1)


async def test_requests_go_at_even_distances(bench):
    await bench.configure(requests=Pace(rate=600, burst=1))
    await bench.submit(*(f"j{n}" for n in range(5)))
    claimed_at = []
    while len(claimed_at) < 5:
        claims = await bench.claim()
        claimed_at += [bench.clock.now] * len(claims.jobs)
        bench.clock.advance(claims.wait)
    assert [at - claimed_at[0] for at in claimed_at] == [0, 100, 200, 300, 400]


async def test_the_wait_is_exactly_until_the_slot_opens(bench):
    await bench.configure(requests=ONE_A_SECOND)
    await bench.submit("a", "b")
    claims = await bench.claim()
    assert (ids(claims), claims.wait) == (["a"], timedelta(seconds=1))
    bench.clock.advance(999.999)
    claims = await bench.claim()
    assert (ids(claims), claims.wait) == ([], MICROSECOND)
    bench.clock.advance(0.001)
    assert ids(await bench.claim()) == ["b"]


async def test_who_waits_as_long_as_told_never_comes_too_early(bench):
    """Rates whose slots are no whole number of microseconds: the wait is rounded up."""
    await bench.configure(requests=Pace(rate=977, burst=1.5), input=Pace(rate=7_919, burst=13))
    await bench.submit(*(f"j{n}" for n in range(30)), cost=Cost(1, 7, 1))
    for _ in range(30):
        claims = await bench.claim(most=1)
        if not claims.jobs:
            bench.clock.advance(claims.wait)
            claims = await bench.claim(most=1)
        assert len(claims.jobs) == 1


async def test_what_may_go_at_once_after_a_rest_is_the_burst_and_no_more(bench):
    await bench.configure(requests=Pace(rate=60, burst=3))
    await bench.submit(*(f"j{n}" for n in range(5)))
    claims = await bench.claim()
    assert (ids(claims), claims.wait) == (["j0", "j1", "j2"], timedelta(seconds=1))
    bench.clock.advance(timedelta(seconds=10))
    assert ids(await bench.claim()) == ["j3", "j4"]


async def test_a_rest_longer_than_the_burst_earns_no_more_than_the_burst(bench):
    await bench.configure(requests=Pace(rate=60, burst=2))
    bench.clock.advance(timedelta(days=1))
    await bench.submit(*(f"j{n}" for n in range(5)))
    assert ids(await bench.claim()) == ["j0", "j1"]


async def test_a_request_larger_than_the_bucket_goes_on_a_full_bucket_and_leaves_a_debt(bench):
    await bench.configure(input=Pace(rate=60_000, burst=100))
    await bench.submit("small", cost=Cost(1, 50, 1))
    await bench.claim_one()
    await bench.submit("large", cost=Cost(1, 1_100, 1))
    await bench.submit("next", cost=Cost(1, 100, 1))
    assert (await bench.claim()).wait == timedelta(milliseconds=50)
    bench.clock.advance(49.999)
    assert ids(await bench.claim()) == []
    bench.clock.advance(0.001)
    claims = await bench.claim()
    assert ids(claims) == ["large"]
    assert (await bench.tats())["input"] == 1_100
    bench.clock.advance(1_099.999)
    assert ids(await bench.claim()) == []
    bench.clock.advance(0.001)
    assert ids(await bench.claim()) == ["next"]


@pytest.mark.parametrize("dimension", ["requests", "input", "output"])
async def test_each_dimension_binds_by_itself(bench, dimension):
    cost = Cost(1, 10, 20)
    units = getattr(cost, dimension)
    await bench.configure(**{dimension: Pace(rate=60 * units, burst=units)})
    await bench.submit("a", "b", cost=cost)
    claims = await bench.claim()
    assert (ids(claims), claims.wait) == (["a"], timedelta(seconds=1))


async def test_the_scarcest_dimension_decides(bench):
    await bench.configure(requests=Pace(60, 1), input=Pace(rate=60, burst=10), output=Pace(rate=600, burst=20))
    await bench.submit("a", "b", cost=Cost(1, 10, 20))
    await bench.claim_one()
    assert await bench.tats() == {"requests": 1_000, "input": 10_000, "output": 2_000}
    bench.clock.advance(9_999.999)
    assert ids(await bench.claim()) == []
    bench.clock.advance(0.001)
    assert ids(await bench.claim()) == ["b"]


async def test_a_new_budget_starts_empty_since_what_was_spent_may_be_forgotten(bench):
    assert await bench.queue.configure(CLASS, {**PLENTY, "requests": Pace(rate=60, burst=2)}) is True
    assert (await bench.tats())["requests"] == 2_000
    await bench.submit("a")
    bench.clock.advance(999.999)
    assert ids(await bench.claim()) == []
    bench.clock.advance(0.001)
    assert ids(await bench.claim()) == ["a"]


async def test_configuring_again_changes_the_rate_and_forgets_nothing(bench):
    await bench.configure(requests=ONE_A_SECOND)
    await bench.submit("a", "b", "c")
    await bench.claim_one()
    before = await bench.tats()
    assert await bench.queue.configure(CLASS, {**PLENTY, "requests": Pace(rate=600, burst=1)}) is False
    assert await bench.tats() == before
    bench.clock.advance(1_000)
    assert ids(await bench.claim()) == ["b"]
    bench.clock.advance(100)
    assert ids(await bench.claim()) == ["c"]


async def test_one_dimension_that_was_lost_starts_empty_and_the_others_go_on(bench):
    await bench.configure(requests=ONE_A_SECOND)
    await bench.redis.hdel(f"promptmill:budget:{CLASS}", "requests_tat")
    assert await bench.queue.configure(CLASS, {**PLENTY, "requests": ONE_A_SECOND}) is True
    assert await bench.tats() == {"requests": 1_000, "input": 0, "output": 0}


async def test_nobody_spends_from_a_blocked_budget_until_the_block_ends(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.queue.block(CLASS, timedelta(milliseconds=500), "rate_limited")
    claims = await bench.claim()
    assert (ids(claims), claims.wait) == ([], timedelta(milliseconds=500))
    bench.clock.advance(499.999)
    assert ids(await bench.claim()) == []
    bench.clock.advance(0.001)
    assert ids(await bench.claim()) == ["a"]


async def test_a_shorter_block_never_cuts_a_longer_one(bench):
    await bench.configure()
    await bench.queue.block(CLASS, timedelta(seconds=60), "spend_limit")
    before = await bench.dump()
    await bench.queue.block(CLASS, timedelta(seconds=59), "rate_limited")
    assert await bench.dump() == before
    await bench.queue.block(CLASS, timedelta(seconds=61), "rate_limited")
    assert await bench.redis.hget(f"promptmill:budget:{CLASS}", "reason") == b"rate_limited"


async def test_a_block_of_zero_lifts_the_block(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.queue.block(CLASS, timedelta(hours=1), "parked")
    await bench.queue.block(CLASS, timedelta(0), "")
    assert await bench.redis.hmget(f"promptmill:budget:{CLASS}", "blocked_until", "reason") == [None, None]
    assert ids(await bench.claim()) == ["a"]


async def test_a_block_of_less_than_a_millisecond_does_not_lift_the_block(bench):
    await bench.configure()
    await bench.queue.block(CLASS, timedelta(hours=1), "parked")
    await bench.queue.block(CLASS, MICROSECOND, "rate_limited")
    assert await bench.redis.hget(f"promptmill:budget:{CLASS}", "reason") == b"parked"


async def test_a_block_is_never_shorter_than_asked_for(bench):
    await bench.configure()
    bench.clock.advance(0.4)
    await bench.queue.block(CLASS, timedelta(seconds=1), "rate_limited")
    await bench.submit("a")
    bench.clock.advance(999.999)
    assert ids(await bench.claim()) == []


async def test_a_class_can_be_blocked_before_it_has_limits_and_stays_blocked(bench):
    await bench.queue.block(CLASS, timedelta(seconds=5), "parked")
    await bench.submit("a")
    assert (await bench.claim()).unconfigured == (CLASS,)
    await bench.configure()
    assert ids(await bench.claim()) == []
    bench.clock.advance(5_000)
    assert ids(await bench.claim()) == ["a"]


async def test_what_was_not_used_comes_back(bench):
    await bench.configure(output=Pace(rate=60_000, burst=1_000))
    await bench.submit("a", cost=Cost(1, 10, 1_000))
    claim = await bench.claim_one()
    await bench.queue.settle([Settlement(claim, Status.SUCCEEDED, used=Cost(1, 10, 400))])
    assert (await bench.tats())["output"] == 400


async def test_what_was_used_beyond_the_reservation_is_owed(bench):
    await bench.configure(output=Pace(rate=60_000, burst=1_000))
    await bench.submit("a", cost=Cost(1, 10, 100))
    claim = await bench.claim_one()
    await bench.queue.snooze(Snooze(claim, used=Cost(1, 10, 5_000)))
    assert (await bench.tats())["output"] == 5_000


async def test_where_nobody_knows_what_was_used_the_reservation_stands(bench):
    await bench.configure(input=Pace(60_000, 100), output=Pace(60_000, 1_000))
    await bench.submit("a", cost=Cost(1, 10, 100))
    claim = await bench.claim_one()
    before = await bench.tats()
    await bench.queue.settle([Settlement(claim, Status.FAILED, used=None)])
    assert await bench.tats() == before


async def test_a_request_stays_charged_whatever_it_used(bench):
    await bench.configure(requests=ONE_A_SECOND)
    await bench.submit("a")
    claim = await bench.claim_one()
    await bench.queue.snooze(Snooze(claim, sent=False, used=Cost(0, 0, 0)))
    assert (await bench.tats())["requests"] == 1_000


async def test_refunds_earn_no_more_than_a_full_bucket(bench):
    await bench.configure(output=Pace(rate=60_000, burst=1_000))
    await bench.submit("a", "b", cost=Cost(1, 10, 500))
    first = await bench.claim()
    bench.clock.advance(5_000)
    ends = [Settlement(claim, Status.SUCCEEDED, used=Cost(1, 10, 0)) for claim in first.jobs]
    await bench.queue.settle(ends)
    await bench.submit("c", "d", "e", cost=Cost(1, 10, 500))
    assert ids(await bench.claim()) == ["c", "d"]


async def test_a_refund_that_a_dead_worker_never_made_costs_its_reservation_once_and_nobody_more(bench):
    """Its answer may have been generated: the reservation stands until it has come back with time."""
    await bench.configure(output=Pace(rate=60_000, burst=1_000))
    await bench.submit("a", cost=Cost(1, 1, 900))
    await bench.claim_one(worker="dies", lease=timedelta(seconds=12))
    assert (await bench.tats())["output"] == 900
    bench.clock.advance(timedelta(seconds=12))
    again = await bench.claim_one(worker="lives")
    await bench.queue.settle([Settlement(again, Status.SUCCEEDED, used=Cost(1, 1, 100))])
    assert (await bench.tats())["output"] == 100


async def test_a_refund_lets_the_next_one_go_earlier(bench):
    await bench.configure(output=Pace(rate=60_000, burst=1_000))
    await bench.submit("a", "b", cost=Cost(1, 10, 1_000))
    first = await bench.claim_one()
    bench.clock.advance(500)
    assert ids(await bench.claim()) == []
    await bench.queue.settle([Settlement(first, Status.SUCCEEDED, used=Cost(1, 10, 500))])
    assert ids(await bench.claim()) == ["b"]


async def test_a_job_that_was_handed_out_only_to_be_ended_gets_nothing_back_since_it_paid_nothing(bench):
    await bench.configure(input=Pace(60_000, 1_000), output=Pace(60_000, 1_000))
    await bench.submit("paid", cost=Cost(1, 1_000, 1_000))
    await bench.claim_one()
    before = await bench.tats()
    await bench.submit("cancelled", "again", cost=Cost(1, 500, 500))
    await bench.queue.cancel(["cancelled", "again"])
    cancelled, again = (await bench.claim()).jobs
    nothing = Cost(0, 0, 0)
    await bench.queue.settle([Settlement(cancelled, Status.CANCELLED, used=nothing)])
    await bench.queue.snooze(Snooze(again, used=nothing))
    assert await bench.tats() == before
