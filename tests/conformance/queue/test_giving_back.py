"""Jobs that go back to the queue, wait for a time of their own, or are no longer wanted after one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from promptmill.jobs import Lane
from promptmill.pacing import Cost, Pace
from promptmill.queue import Disposition, Snooze
from tests.support.queues import CLASS, LEASE, ids

SONNET = "sonnet-5"


async def taken(bench, job_id="a", **fields):
    await bench.configure()
    await bench.submit(job_id, **fields)
    return await bench.claim_one()


async def test_a_job_given_back_without_a_wait_is_ready_at_once(bench):
    await bench.queue.snooze(Snooze(await taken(bench)))
    again = await bench.claim_one()
    assert (again.number, again.attempts, again.lost) == (2, 0, 0)


async def test_a_snoozed_job_comes_back_exactly_when_its_wait_is_over(bench):
    await bench.queue.snooze(Snooze(await taken(bench), wait=timedelta(seconds=30)))
    bench.clock.advance(29_999)
    claims = await bench.claim()
    assert (ids(claims), claims.wait) == ([], timedelta(milliseconds=1))
    bench.clock.advance(1)
    assert ids(await bench.claim()) == ["a"]


async def test_a_snooze_is_never_shorter_than_asked_for(bench):
    claim = await taken(bench)
    bench.clock.advance(0.4)
    await bench.queue.snooze(Snooze(claim, wait=timedelta(seconds=1)))
    bench.clock.advance(999.9)
    assert ids(await bench.claim()) == []


async def test_waiting_is_not_failing(bench):
    """Snoozes are counted apart from attempts (I3)."""
    claim = await taken(bench)
    for number in range(2, 6):
        await bench.queue.snooze(Snooze(claim, uses_attempt=number % 2 == 0))
        claim = await bench.claim_one()
        assert (claim.number, claim.attempts) == (number, number // 2)


async def test_the_number_of_a_request_that_was_never_sent_is_given_out_again(bench):
    claim = await taken(bench)
    await bench.queue.snooze(Snooze(claim, sent=False))
    again = await bench.claim_one()
    assert again.number == 1
    await bench.queue.snooze(Snooze(again, sent=True))
    assert (await bench.claim_one()).number == 2


async def test_a_job_goes_on_with_another_model_under_its_budget_and_at_its_cost(bench):
    claim = await taken(bench, lane=Lane.INTERACTIVE)
    await bench.queue.snooze(Snooze(claim, route=1, budget=SONNET, cost=Cost(1, 77, 88)))
    assert (await bench.claim()).unconfigured == (SONNET,)
    await bench.configure(SONNET, input=Pace(60_000, 1_000))
    again = await bench.claim_one()
    assert (again.route, again.budget, again.reserved, again.lane) == (1, SONNET, Cost(1, 77, 88), Lane.INTERACTIVE)
    assert (await bench.tats(SONNET))["input"] == 77


async def test_the_budget_that_was_charged_gets_the_refund_and_not_the_next_one(bench):
    await bench.configure(CLASS, input=Pace(60_000, 1_000))
    await bench.configure(SONNET, input=Pace(60_000, 1_000))
    await bench.submit("a", cost=Cost(1, 100, 1))
    claim = await bench.claim_one()
    sonnet = await bench.tats(SONNET)
    await bench.queue.snooze(Snooze(claim, used=Cost(1, 0, 0), route=1, budget=SONNET, cost=Cost(1, 500, 1)))
    assert (await bench.tats(CLASS))["input"] == 0
    assert await bench.tats(SONNET) == sonnet


async def test_a_job_without_a_change_of_route_is_as_before(bench):
    claim = await taken(bench, cost=Cost(1, 7, 8))
    await bench.queue.snooze(Snooze(claim, route=1, budget=SONNET, cost=Cost(1, 77, 88)))
    await bench.configure(SONNET)
    claim = await bench.claim_one()
    await bench.queue.snooze(Snooze(claim, wait=timedelta(seconds=1)))
    bench.clock.advance(1_000)
    again = await bench.claim_one()
    assert (again.route, again.budget, again.reserved) == (1, SONNET, Cost(1, 77, 88))


async def test_a_job_is_not_claimed_before_its_time(bench):
    await bench.configure()
    await bench.submit("a", not_before=bench.clock.time(5_000))
    bench.clock.advance(4_999)
    claims = await bench.claim()
    assert (ids(claims), claims.wait) == ([], timedelta(milliseconds=1))
    bench.clock.advance(1)
    assert ids(await bench.claim()) == ["a"]


async def test_a_time_that_has_passed_holds_nobody_back(bench):
    await bench.configure()
    await bench.submit("a", not_before=bench.clock.time(-5_000))
    await bench.submit("b", not_before=bench.clock.time(0))
    await bench.submit("c", not_before=datetime(1, 1, 1, tzinfo=UTC))
    assert ids(await bench.claim()) == ["a", "b", "c"]


async def test_a_ready_job_is_claimed_up_to_its_deadline_and_only_to_be_ended_from_it_on(bench):
    await bench.configure(requests=Pace(rate=60, burst=2))
    await bench.submit("early", "late", deadline=bench.clock.time(5_000))
    bench.clock.advance(4_999)
    (early,) = (await bench.claim(most=1)).jobs
    assert (early.job_id, early.disposition) == ("early", Disposition.RUN)
    budget = await bench.redis.hgetall(f"promptmill:budget:{CLASS}")
    bench.clock.advance(1)
    late = await bench.claim_one(most=1)
    assert (late.job_id, late.disposition) == ("late", Disposition.EXPIRED)
    assert await bench.redis.hgetall(f"promptmill:budget:{CLASS}") == budget


async def test_a_deadline_is_seen_although_there_is_no_budget(bench):
    await bench.configure(requests=Pace(rate=1, burst=1))
    await bench.submit("spent")
    await bench.claim_one()
    await bench.submit("a", deadline=bench.clock.time(2_000))
    bench.clock.advance(2_000)
    assert (await bench.claim_one()).disposition is Disposition.EXPIRED


async def test_a_snoozed_job_comes_back_at_its_deadline_if_that_is_sooner(bench):
    claim = await taken(bench, deadline=bench.clock.time(5_000))
    await bench.queue.snooze(Snooze(claim, wait=timedelta(hours=1)))
    bench.clock.advance(4_999)
    assert ids(await bench.claim()) == []
    bench.clock.advance(1)
    assert (await bench.claim_one()).disposition is Disposition.EXPIRED


async def test_a_deferred_job_whose_deadline_passes_before_anybody_looks_is_not_sent(bench):
    await bench.configure()
    await bench.submit("a", not_before=bench.clock.time(1_000), deadline=bench.clock.time(2_000))
    bench.clock.advance(60_000)
    assert (await bench.claim_one()).disposition is Disposition.EXPIRED


async def test_a_leased_job_may_be_answered_after_its_deadline(bench):
    claim = await taken(bench, deadline=bench.clock.time(5_000))
    bench.clock.advance(6_000)
    await bench.queue.renew([claim], LEASE)
    assert ids(await bench.claim()) == []


async def test_a_job_that_is_given_back_after_its_deadline_is_only_ended(bench):
    claim = await taken(bench, deadline=bench.clock.time(5_000))
    bench.clock.advance(6_000)
    await bench.queue.snooze(Snooze(claim))
    assert (await bench.claim_one()).disposition is Disposition.EXPIRED


async def test_a_worker_that_dies_after_the_deadline_leaves_a_job_that_is_only_ended(bench):
    await taken(bench, deadline=bench.clock.time(5_000))
    bench.clock.advance(LEASE)
    claim = await bench.claim_one()
    assert (claim.disposition, claim.lost) == (Disposition.EXPIRED, 1)


@pytest.mark.parametrize("deadline", [datetime(1970, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)])
async def test_a_deadline_at_the_beginning_of_time_has_passed(bench, deadline):
    await bench.configure()
    await bench.submit("a", deadline=deadline)
    assert (await bench.claim_one()).disposition is Disposition.EXPIRED


async def test_a_deadline_at_the_end_of_time_is_far_off(bench):
    await bench.configure()
    await bench.submit("a", deadline=datetime.max.replace(tzinfo=UTC))
    assert (await bench.claim_one()).disposition is Disposition.RUN


async def test_nobody_is_sent_past_his_deadline_however_many_come_due_at_once(bench):
    """One call looks at a bounded number of what is due; until all was looked at, nothing is sent."""
    await bench.configure(CLASS)
    await bench.configure(SONNET, requests=Pace(rate=1, burst=1))
    others = [f"j{number:03}" for number in range(200)]
    await bench.submit(*others, budget=SONNET, not_before=bench.clock.time(1_000))
    await bench.submit("late", budget=CLASS, deadline=bench.clock.time(1_001))
    bench.clock.advance(1_001)
    claims = [*(await bench.claim()).jobs, *(await bench.claim()).jobs]
    assert [claim.disposition for claim in claims if claim.job_id == "late"] == [Disposition.EXPIRED]


async def test_a_job_that_was_never_sent_goes_back_without_a_trace(bench):
    await bench.configure()
    await bench.submit("a", deadline=bench.clock.time(60_000))
    before = await bench.dump()
    await bench.queue.snooze(Snooze(await bench.claim_one(most=1), sent=False, used=Cost(0, 0, 0)))
    after = await bench.dump()
    assert {key: after[key] for key in before if "budget:" not in key} == {
        key: value for key, value in before.items() if "budget:" not in key
    }
