"""What answers say of the provider's own buckets, and what comes of it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from promptmill.jobs import Lane
from promptmill.pacing import Charge, Cost, Pace, Reading
from promptmill.queue import Settlement
from promptmill.queue.queue import NewLimit
from promptmill.results import Status
from tests.support.queues import CLASS, PLENTY, START, ids

TEN_A_SECOND = Pace(rate=594, burst=1, limit=600)
HOUR = timedelta(hours=1)


async def limits(bench):
    """Rate and burst of requests, as the next claim will find them."""
    stored = await bench.redis.hmget(f"promptmill:budget:{CLASS}", "requests_rate", "requests_burst")
    return tuple(round(float(number), 6) for number in stored)


async def field(bench, name):
    stored = await bench.redis.hget(f"promptmill:budget:{CLASS}", name)
    return None if stored is None else float(stored)


async def send(bench, job_id="a", *, requests=TEN_A_SECOND, wait=True, **fields):
    """Claim a job; the charge of its request."""
    if not await bench.redis.exists(f"promptmill:budget:{CLASS}"):
        await bench.configure(requests=requests)
    await bench.submit(job_id, **fields)
    claims = await bench.claim(lease=HOUR)
    if not claims.jobs and wait:
        bench.clock.advance(claims.wait)
        claims = await bench.claim(lease=HOUR)
    (claim,) = claims.jobs
    return claim.charge


def requests(limit=None, remaining=None):
    return {"requests": Reading(limit, remaining)}


async def distance(bench, *, after_ms=1_000):
    """How long (ms) after one request the next may go."""
    bench.clock.advance(after_ms)
    await send(bench, "x", wait=False)
    return round((await bench.tats())["requests"], 1)


async def test_a_claim_tells_when_it_was_charged_and_what_was_spent_by_then(bench):
    first = await send(bench, "a", cost=Cost(1, 10, 20))
    bench.clock.advance(1_000.5)
    second = await send(bench, "b", cost=Cost(1, 30, 5))
    assert first == Charge(START, Cost(1, 10, 20))
    assert second == Charge(START + 1_000.5, Cost(2, 40, 25))


async def test_what_was_really_used_corrects_what_was_spent(bench):
    await bench.configure()
    await bench.submit("a", cost=Cost(1, 10, 20))
    claim = await bench.claim_one()
    await bench.queue.settle([Settlement(claim, Status.SUCCEEDED, used=Cost(1, 12, 5))])
    assert (await send(bench, "b", cost=Cost(1, 1, 1))).spent == Cost(2, 13, 6)


async def test_a_claim_that_sends_nothing_was_charged_nothing(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.queue.cancel(["a"])
    assert (await bench.claim_one()).charge is None


@pytest.mark.parametrize("limit", [300, 1_200])
async def test_the_providers_limit_replaces_the_setting_and_is_news_once(bench, limit):
    charge = await send(bench, requests=Pace(594, 1.5, 600))
    assert await bench.queue.observe(CLASS, charge, requests(limit)) == [NewLimit("requests", 600, limit)]
    assert await limits(bench) == (0.99 * limit, 1 + 0.5 * limit / 600)
    bench.clock.advance(1_000)
    charge = await send(bench, "b")
    assert await bench.queue.observe(CLASS, charge, requests(limit)) == []


async def test_a_limit_as_it_was_set_is_no_news(bench):
    assert await bench.queue.observe(CLASS, await send(bench), requests(600)) == []
    assert await limits(bench) == (594, 1)


async def test_a_worker_that_starts_later_with_a_wrong_setting_changes_nothing(bench):
    await bench.queue.observe(CLASS, await send(bench), requests(300))
    await bench.configure(requests=Pace(1_188, 2, 1_200), full=False)
    assert await limits(bench) == (297, 1.25)


async def test_headroom_and_burst_of_a_setting_still_count_under_the_providers_limit(bench):
    await bench.queue.observe(CLASS, await send(bench), requests(300))
    await bench.configure(requests=Pace(480, 7, 600), full=False)
    assert await limits(bench) == (240, 4)


async def test_a_pinned_budget_keeps_to_its_setting_and_remembers_what_was_said(bench):
    await bench.queue.configure(CLASS, {**PLENTY, "requests": TEN_A_SECOND}, pinned=True)
    bench.clock.advance(10_000)
    assert await bench.queue.observe(CLASS, await send(bench), requests(300)) == [NewLimit("requests", 600, 300)]
    assert await limits(bench) == (594, 1)
    assert await field(bench, "requests_limit") == 300
    await bench.queue.configure(CLASS, {**PLENTY, "requests": TEN_A_SECOND}, pinned=False)
    assert await limits(bench) == (297, 1)


async def test_a_limit_lowered_under_way_stretches_what_is_sent_from_then_on(bench):
    charge = await send(bench)
    await bench.queue.observe(CLASS, charge, requests(60))
    assert await distance(bench) == pytest.approx(1_000 / 0.99, abs=0.1)


async def test_the_answer_to_the_newest_request_wins(bench):
    older = await send(bench, "a")
    bench.clock.advance(1_000)
    newer = await send(bench, "b")
    await bench.queue.observe(CLASS, newer, requests(600, 300))
    assert await bench.queue.observe(CLASS, older, requests(10, 1)) == []
    assert await limits(bench) == (594, 1)
    assert (await field(bench, "requests_left"), await field(bench, "seen_at")) == (300, newer.at)


async def test_an_answer_that_says_nothing_of_what_is_left_makes_it_unknown(bench):
    await bench.queue.observe(CLASS, await send(bench, "a"), requests(600, 300))
    bench.clock.advance(1_000)
    await bench.queue.observe(CLASS, await send(bench, "b"), requests(600))
    assert await field(bench, "requests_left") is None


async def test_an_answer_from_before_redis_forgot_the_budget_counts_for_nothing(bench):
    await send(bench, "a")
    bench.clock.advance(1_000)
    charge = await send(bench, "b")
    await bench.redis.delete(f"promptmill:budget:{CLASS}")
    assert await bench.queue.observe(CLASS, charge, requests(60, 1)) == []
    assert not await bench.redis.exists(f"promptmill:budget:{CLASS}")
    await bench.configure(requests=TEN_A_SECOND)
    assert await bench.queue.observe(CLASS, charge, requests(60, 1)) == []
    assert await limits(bench) == (594, 1)


async def test_an_answer_from_the_future_counts_for_nothing(bench):
    charge = await send(bench)
    bench.clock.advance(-1_000)
    assert await bench.queue.observe(CLASS, charge, requests(60, 1)) == []


async def seen(bench, *left, depth=100):
    """Answers of which the first found the bucket as full as it gets."""
    for number, remaining in enumerate((depth, *left)):
        charge = await send(bench, f"job-{number}")
        await bench.queue.observe(CLASS, charge, requests(600, remaining))
        bench.clock.advance(1)


async def test_requests_keep_to_the_pace_while_nobody_knows_how_full_the_bucket_is(bench):
    await bench.queue.observe(CLASS, await send(bench), requests(600))
    assert await distance(bench) == pytest.approx(100 / 0.99, abs=0.1)


async def test_while_a_deep_bucket_is_more_than_half_full_no_headroom_is_needed(bench):
    await seen(bench, 60)
    assert await distance(bench) == 100


async def test_headroom_is_kept_where_the_bucket_is_not_deep(bench):
    await seen(bench, 30, depth=49)
    assert await distance(bench) == pytest.approx(100 / 0.99, abs=0.1)


async def test_of_an_owners_headroom_no_more_than_a_hundredth_is_given_up(bench):
    await send(bench, requests=Pace(300, 1, 600))
    bench.clock.advance(1_000)
    await seen(bench, 60)
    assert await distance(bench) == pytest.approx(200 * 0.99, abs=0.1)


async def test_below_half_of_its_depth_a_bucket_slows_down_whoever_is_known_to_drink_from_it(bench):
    await seen(bench, 15)
    # A second later it holds ten more: half of the half.
    assert await distance(bench) == pytest.approx(200, abs=1)


async def test_an_empty_bucket_lets_a_twentieth_through(bench):
    await seen(bench, 0)
    assert await distance(bench, after_ms=202) == pytest.approx(100 * 20, rel=0.02)


async def test_a_bucket_that_nobody_tells_of_any_more_fills_in_our_mind(bench):
    await seen(bench, 15)
    bench.clock.advance(4_000)
    assert await distance(bench) == 100


async def test_what_was_charged_since_the_answer_is_taken_off(bench):
    await bench.queue.configure(CLASS, {**PLENTY, "input": Pace(594_000, 100_000, 600_000)})
    await bench.redis.hset(f"promptmill:budget:{CLASS}", "input_tat", START)
    for number, left in enumerate((100_500, 60_500)):
        charge = await send(bench, f"job-{number}", cost=Cost(1, 1, 1))
        await bench.queue.observe(CLASS, charge, {"input": Reading(600_000, left)})
        bench.clock.advance(1)
    tat = (await bench.tats())["input"]
    await send(bench, "big", cost=Cost(1, 35_000, 1))
    assert (await bench.tats())["input"] - max(tat, 0) == pytest.approx(3_500, abs=1)
    await send(bench, "next", cost=Cost(1, 100, 1), wait=False)  # on 25,000 of 50,000
    assert (await bench.tats())["input"] == pytest.approx(3_500 + 20, abs=1)


async def test_an_answer_that_is_older_than_two_fillings_says_nothing(bench):
    await seen(bench, 0, depth=20)
    bench.clock.advance(3_000.5)
    assert await distance(bench) == pytest.approx(100 / 0.99, abs=0.1)


async def test_a_bucket_of_two_requests_steers_nothing(bench):
    await seen(bench, 0, depth=2)
    assert await distance(bench) == pytest.approx(100 / 0.99, abs=0.1)


async def test_a_bucket_of_one_request_leaves_room_for_what_the_way_adds(bench):
    await send(bench, requests=Pace(60, 1.05, 60))
    bench.clock.advance(1_000)
    charge = await send(bench, "first")
    await bench.queue.observe(CLASS, charge, requests(60, 0))
    assert await distance(bench) == pytest.approx(1_050, abs=0.1)


async def test_a_worker_that_comes_late_makes_up_for_it_where_the_bucket_is_deep(bench):
    await seen(bench, 90)
    await bench.submit(*(f"late-{number}" for number in range(9)))
    bench.clock.advance(1_000)
    assert len((await bench.claim()).jobs) == 1 + 5  # half a second of ten a second, and the one whose turn it is


async def test_a_worker_that_comes_late_makes_up_for_nothing_where_others_drink_from_the_bucket(bench):
    await seen(bench, 15)
    await bench.submit(*(f"late-{number}" for number in range(9)))
    bench.clock.advance(1_000)
    assert len((await bench.claim()).jobs) == 1


async def test_rounded_remainders_are_taken_for_the_least_that_they_may_be(bench):
    charge = await send(bench)
    await bench.queue.observe(CLASS, charge, {"input": Reading(None, 50_000), "output": Reading(None, 0)})
    assert (await field(bench, "input_left"), await field(bench, "output_left")) == (49_500, 0)


async def test_a_depth_is_never_thought_to_be_more_than_a_minute(bench):
    await bench.queue.observe(CLASS, await send(bench), requests(600, 10**9))
    assert await field(bench, "requests_depth") == 600


async def test_a_depth_keeps_its_length_in_time_when_the_limit_changes(bench):
    await bench.queue.observe(CLASS, await send(bench), requests(600, 100))
    bench.clock.advance(1)
    await send(bench, "b")
    bench.clock.advance(1_000)
    await bench.queue.observe(CLASS, await send(bench, "c"), requests(300, 20))
    assert await field(bench, "requests_depth") == pytest.approx(50, abs=0.1)


async def test_a_depth_that_is_not_seen_again_is_forgotten_by_halves_an_hour(bench):
    await bench.queue.observe(CLASS, await send(bench), requests(600, 100))
    bench.clock.advance(timedelta(hours=1))
    await bench.queue.observe(CLASS, await send(bench, "b"), requests(600, 20))
    assert await field(bench, "requests_depth") == pytest.approx(60)


async def others(bench, *left, spacing_ms=10_000.0):
    """What is estimated after answers at such distances, of which the first found the bucket full."""
    for number, remaining in enumerate((500, *left)):
        charge = await send(bench, f"job-{number}")
        await bench.queue.observe(CLASS, charge, requests(600, remaining))
        bench.clock.advance(spacing_ms)
    return await field(bench, "requests_others")


async def test_use_by_others_is_what_came_in_and_neither_was_ours_nor_is_left(bench):
    # Of the hundred that came in one was ours; 49 are missing.
    assert await others(bench, 400, 450) == pytest.approx(0.49)


async def test_use_by_others_is_unknown_while_the_bucket_may_be_running_over(bench):
    assert await others(bench, 500, 500) is None


async def test_use_by_others_is_unknown_where_a_large_request_of_ours_hides_that_the_bucket_is_full(bench):
    """Each answer is seen just after its own request: what came in between may have run over."""
    assert await others(bench, 420, 420) is None


async def test_use_by_others_is_unknown_where_the_bucket_was_empty(bench):
    assert await others(bench, 0, 0) is None


async def test_a_full_bucket_that_we_use_to_the_full_leaves_nothing_to_others(bench):
    for number in range(2):
        await send(bench, f"first-{number}")
    charge = Charge(bench.clock(), Cost(2, 0, 0))
    await bench.queue.observe(CLASS, charge, requests(600, 500))
    for number in range(100):
        bench.clock.advance(100 / 0.99)
        charge = await send(bench, f"job-{number}", wait=False)
    await bench.queue.observe(CLASS, charge, requests(600, 500))
    assert await field(bench, "requests_others") == pytest.approx(0.01, abs=0.001)


async def test_only_what_is_urgent_passes_a_debt_of_tokens(bench):
    await bench.queue.configure(CLASS, {**PLENTY, "input": Pace(594_000, 10_000, 600_000)})
    await bench.redis.hset(f"promptmill:budget:{CLASS}", "input_tat", START)
    charge = await send(bench, "first", cost=Cost(1, 1, 1))
    await bench.queue.observe(CLASS, charge, {"input": Reading(600_000, 500_500)})
    await send(bench, "long", cost=Cost(1, 50_000, 1), lane=Lane.OVERNIGHT)
    await bench.submit("standard", cost=Cost(1, 100, 1), lane=Lane.STANDARD)
    assert ids(await bench.claim()) == []
    await bench.submit("screen", cost=Cost(1, 100, 1), lane=Lane.INTERACTIVE)
    assert ids(await bench.claim()) == ["screen"]


async def test_what_is_urgent_leaves_half_of_the_bucket_and_runs_ten_seconds_ahead_at_most(bench):
    await bench.queue.configure(CLASS, {**PLENTY, "input": Pace(594_000, 10_000, 600_000)})
    await bench.redis.hset(f"promptmill:budget:{CLASS}", "input_tat", START)
    charge = await send(bench, "first", cost=Cost(1, 1, 1))
    await bench.queue.observe(CLASS, charge, {"input": Reading(600_000, 500_500)})
    await send(bench, "long", cost=Cost(1, 150_000, 1), lane=Lane.OVERNIGHT)
    await bench.submit("screen", cost=Cost(1, 100, 1), lane=Lane.INTERACTIVE)
    claims = await bench.claim()
    assert ids(claims) == []  # a debt of 15 s, less the burst of one
    assert (
        timedelta(seconds=3.9)
        < (await field(bench, "input_tat") - START) * timedelta(milliseconds=1) - timedelta(seconds=11)
        < timedelta(seconds=4.1)
    )
    bench.clock.advance(4_000)
    assert ids(await bench.claim()) == ["screen"]
