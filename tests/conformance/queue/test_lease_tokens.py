"""Who may write: only the holder of a lease, and only as long as nobody else took the job over (I2)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from promptmill.errors import LeaseLost
from promptmill.pacing import Cost, Pace
from promptmill.queue import Disposition, Renewal, Settlement, Snooze
from promptmill.results import Status
from tests.support.queues import CLASS, LEASE, ids, make_submission

TICK = 1
LEASE_MS = LEASE / timedelta(milliseconds=1)


@pytest.fixture
async def claim(bench):
    """Job `a`, leased by the worker `first`."""
    await bench.configure()
    await bench.submit("a", run="r")
    return await bench.claim_one(worker="first")


async def test_a_leased_job_is_nobody_elses_until_its_lease_ends(bench, claim):
    bench.clock.advance(LEASE_MS - TICK)
    assert ids(await bench.claim(worker="second")) == []
    bench.clock.advance(TICK)
    again = await bench.claim_one(worker="second")
    assert (again.job_id, again.number, again.lost) == (claim.job_id, 2, 1)


async def test_a_lease_begun_within_a_millisecond_is_not_cut_by_it(bench):
    await bench.configure()
    await bench.submit("a")
    bench.clock.advance(0.001)
    await bench.claim_one()
    bench.clock.advance(LEASE_MS - 0.001)
    assert ids(await bench.claim()) == []


async def test_the_claim_that_finds_nothing_says_when_the_lease_of_another_ends(bench, claim):
    bench.clock.advance(LEASE_MS - 300)
    assert (await bench.claim(worker="second")).wait == timedelta(milliseconds=300)


async def test_a_renewed_lease_lasts_from_the_renewal_on(bench, claim):
    bench.clock.advance(LEASE_MS - TICK)
    assert await bench.queue.renew([claim], LEASE) == [Renewal.OK]
    await bench.others_live_on(LEASE_MS - TICK)
    assert ids(await bench.claim(worker="second")) == []
    bench.clock.advance(TICK)
    assert ids(await bench.claim(worker="second")) == ["a"]


async def test_a_lease_that_ran_out_stands_until_somebody_else_takes_the_job(bench, claim):
    bench.clock.advance(LEASE_MS + 1_000)
    assert await bench.queue.renew([claim], LEASE) == [Renewal.OK]
    assert ids(await bench.claim(worker="second")) == []


async def test_each_worker_that_dies_with_a_job_is_counted(bench, claim):
    for lost in (1, 2, 3):
        bench.clock.advance(LEASE_MS)
        claim = await bench.claim_one()
        assert (claim.lost, claim.attempts) == (lost, 0)


async def test_a_lost_job_is_claimed_anew_only_if_there_is_budget(bench):
    await bench.configure(requests=Pace(rate=1, burst=1))
    await bench.submit("a")
    await bench.claim_one()
    bench.clock.advance(LEASE_MS)
    claims = await bench.claim()
    assert ids(claims) == []
    bench.clock.advance(60_000 - LEASE_MS)
    assert (await bench.claim_one()).number == 2


async def test_renewing_answers_for_each_job_in_order(bench):
    await bench.configure()
    await bench.submit("a", "b", "c")
    a, b, c = (await bench.claim()).jobs
    await bench.queue.settle([Settlement(b, Status.SUCCEEDED)])
    await bench.queue.cancel(["c"])
    assert await bench.queue.renew([a, b, c], LEASE) == [Renewal.OK, Renewal.LOST, Renewal.CANCELLED]


async def test_renewing_nothing_tells_that_somebody_lives_and_no_more(bench):
    assert await bench.queue.renew([], LEASE) == []
    assert (await bench.dump()).keys() == {"promptmill:heard"}


async def test_renewing_puts_back_a_place_in_the_queue_that_was_deleted_by_hand(bench, claim):
    await bench.redis.delete("promptmill:queue")
    assert await bench.queue.renew([claim], LEASE) == [Renewal.OK]
    await bench.others_live_on(LEASE_MS)
    assert ids(await bench.claim()) == ["a"]


async def lost_to_another(bench, claim):
    """The lease ran out and another worker took the job over."""
    bench.clock.advance(LEASE_MS)
    await bench.claim_one(worker="second")
    return claim


async def never_given(bench, claim):
    return replace(claim, token="made.up")


async def settled_already(bench, claim):
    await bench.queue.settle([Settlement(claim, Status.SUCCEEDED, b"{}", timedelta(hours=1), "r", Cost(1, 1, 1), 5)])
    return claim


async def given_back_already(bench, claim):
    await bench.queue.snooze(Snooze(claim, wait=timedelta(minutes=1)))
    return claim


async def of_no_job(bench, claim):
    return replace(claim, job_id="nobody")


without_lease = pytest.mark.parametrize(
    "why", [lost_to_another, never_given, settled_already, given_back_already, of_no_job]
)


@without_lease
async def test_who_does_not_hold_the_lease_settles_nothing(bench, claim, why):
    claim = await why(bench, claim)
    before = await bench.dump()
    settlement = Settlement(claim, Status.FAILED, b"{}", timedelta(hours=1), "r", Cost(1, 999, 999), 777)
    assert await bench.queue.settle([settlement]) == [False]
    assert await bench.dump() == before


@without_lease
async def test_who_does_not_hold_the_lease_gives_nothing_back(bench, claim, why):
    claim = await why(bench, claim)
    before = await bench.dump()
    snooze = Snooze(claim, timedelta(1), uses_attempt=True, used=Cost(1, 9, 9), route=1, budget="x", cost=Cost(1, 1, 1))
    with pytest.raises(LeaseLost):
        await bench.queue.snooze(snooze)
    assert await bench.dump() == before


@without_lease
async def test_who_does_not_hold_the_lease_adopts_nothing(bench, claim, why):
    claim = await why(bench, claim)
    before = await bench.dump()
    with pytest.raises(LeaseLost):
        await bench.queue.adopt(claim, make_submission(claim.job_id, budget="other", run="another"))
    assert await bench.dump() == before


@without_lease
async def test_who_does_not_hold_the_lease_prolongs_nothing(bench, claim, why):
    claim = await why(bench, claim)
    before = await bench.dump()
    assert await bench.queue.renew([claim], LEASE) == [Renewal.LOST]
    after = await bench.dump()
    del after["promptmill:heard"]  # all that it tells is that somebody lives
    assert after == before


async def test_one_lost_lease_among_many_keeps_only_its_own_job_from_being_settled(bench):
    await bench.configure()
    await bench.submit("a", "b", "c")
    a, b, c = (await bench.claim()).jobs
    stale = replace(b, token="made.up")
    answers = await bench.queue.settle([Settlement(claim, Status.SUCCEEDED) for claim in (a, stale, c)])
    assert answers == [True, False, True]
    assert list(await bench.redis.hkeys("promptmill:jobs")) == [b"b"]


async def test_the_same_job_twice_in_one_call_is_settled_once(bench, claim):
    ends = [Settlement(claim, Status.SUCCEEDED, run="r"), Settlement(claim, Status.FAILED, run="r")]
    assert await bench.queue.settle(ends) == [True, False]
    counted = await bench.redis.hgetall("promptmill:run:r")
    assert (counted.get(b"succeeded"), counted.get(b"failed")) == (b"1", None)


async def test_a_claim_whose_answer_was_never_heard_comes_due_with_its_lease(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.claim(worker="first")
    bench.clock.advance(LEASE_MS)
    again = await bench.claim_one(worker="first")
    assert (again.disposition, again.lost, again.budget) == (Disposition.RUN, 1, CLASS)
