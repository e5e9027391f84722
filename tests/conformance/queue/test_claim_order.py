"""Who is claimed first: by lane, then by submission; budgets take turns and know nothing of each other."""

from __future__ import annotations

from datetime import timedelta

from promptmill.jobs import Lane
from promptmill.pacing import Cost, Pace
from promptmill.queue import Disposition
from promptmill.queue.claims import LANES
from tests.support.queues import CLASS, LEASE, ids, make_submission

SONNET = "sonnet-5"


async def test_within_a_lane_the_first_submitted_is_the_first_claimed(bench):
    await bench.configure()
    await bench.submit("a", "b")
    await bench.submit("c")
    assert ids(await bench.claim(most=2)) == ["a", "b"]
    assert ids(await bench.claim()) == ["c"]


async def test_lanes_go_in_their_order_whenever_their_jobs_came(bench):
    await bench.configure()
    await bench.submit("night", lane=Lane.OVERNIGHT)
    await bench.submit("day", lane=Lane.STANDARD)
    await bench.submit("now", lane=Lane.INTERACTIVE)
    assert ids(await bench.claim()) == ["now", "day", "night"]


async def test_a_lower_lane_goes_first_once_it_is_owed_its_share_and_not_a_moment_before(bench):
    await bench.configure(requests=Pace(rate=60, burst=10))
    await bench.submit("o1", "o2", lane=Lane.OVERNIGHT)
    await bench.submit("i1", "i2", "i3", lane=Lane.INTERACTIVE)
    assert ids(await bench.claim(most=1, lease=timedelta(hours=1))) == ["i1"]
    bench.clock.advance(49_999.999)  # one second of the budget is two percent of that
    assert ids(await bench.claim(most=1)) == ["i2"]
    bench.clock.advance(0.001)
    assert ids(await bench.claim(most=2)) == ["o1", "i3"]
    assert ids(await bench.claim(most=1)) == ["o2"]


async def test_a_claim_says_all_that_was_known_of_the_job(bench):
    await bench.configure()
    submission = make_submission("a", lane=Lane.OVERNIGHT, cost=Cost(1, 123, 45))
    await bench.queue.submit([submission])
    claim = await bench.claim_one(worker="w")
    assert (claim.job_id, claim.disposition, claim.token) == ("a", Disposition.RUN, "w.1.1")
    assert (claim.number, claim.attempts, claim.lost, claim.route) == (1, 0, 0, 0)
    assert (claim.lane, claim.budget, claim.reserved) == (Lane.OVERNIGHT, CLASS, Cost(1, 123, 45))
    assert claim.payload == submission.payload


async def test_a_claim_takes_no_more_than_it_was_asked_for(bench):
    await bench.configure()
    await bench.submit("a", "b", "c")
    claims = await bench.claim(most=2)
    assert (ids(claims), claims.wait) == (["a", "b"], None)


async def test_budgets_take_turns_so_that_one_with_much_to_spend_does_not_fill_every_slot(bench):
    await bench.configure(CLASS)
    await bench.configure(SONNET)
    await bench.submit("h1", "h2", "h3", budget=CLASS)
    await bench.submit("s1", "s2", "s3", budget=SONNET)
    claimed = ids(await bench.claim(most=4))
    assert sorted(claimed) == ["h1", "h2", "s1", "s2"]


async def test_an_exhausted_budget_does_not_hold_another_one_up(bench):
    await bench.configure(CLASS, requests=Pace(60, 1))
    await bench.configure(SONNET)
    await bench.submit("h1", "h2", budget=CLASS)
    await bench.submit("s1", "s2", budget=SONNET, lane=Lane.OVERNIGHT)
    assert sorted(ids(await bench.claim())) == ["h1", "s1", "s2"]


async def test_a_lane_waits_for_its_head_even_where_a_smaller_job_behind_it_would_fit(bench):
    await bench.configure(input=Pace(60_000, 100))
    await bench.submit("spent", cost=Cost(1, 100, 1))
    await bench.claim_one()
    await bench.submit("large", cost=Cost(1, 100, 1))
    await bench.submit("small", cost=Cost(1, 1, 1))
    bench.clock.advance(50)
    assert ids(await bench.claim()) == []
    bench.clock.advance(50)
    assert ids(await bench.claim()) == ["large"]


async def test_classes_without_limits_are_reported_and_their_jobs_left_alone(bench):
    await bench.configure(CLASS)
    await bench.submit("a", budget="opus-5")
    await bench.submit("b", budget=SONNET)
    await bench.submit("c", budget=CLASS)
    claims = await bench.claim()
    assert (ids(claims), sorted(claims.unconfigured)) == (["c"], ["opus-5", SONNET])
    await bench.configure("opus-5")
    claims = await bench.claim()
    assert (ids(claims), claims.unconfigured) == (["a"], (SONNET,))


async def test_a_class_without_limits_and_without_jobs_is_not_reported(bench):
    await bench.submit("a")
    await bench.configure()
    await bench.claim_one()
    await bench.redis.delete(f"promptmill:budget:{CLASS}")
    assert (await bench.claim()).unconfigured == ()


async def test_a_budget_that_lost_some_of_its_fields_is_reported_as_having_no_limits(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.redis.hdel(f"promptmill:budget:{CLASS}", "input_burst")
    assert (await bench.claim()).unconfigured == (CLASS,)
    await bench.configure()
    assert ids(await bench.claim()) == ["a"]


async def test_a_job_that_comes_back_keeps_its_place_in_its_lane(bench):
    await bench.configure()
    await bench.submit("a", "b", "c")
    await bench.claim_one(most=1)
    bench.clock.advance(LEASE)
    assert ids(await bench.claim()) == ["a", "b", "c"]


async def test_scripts_know_a_lane_by_its_place_in_the_order_in_which_lanes_go():
    assert LANES == (Lane.INTERACTIVE, Lane.STANDARD, Lane.OVERNIGHT)
