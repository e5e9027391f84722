"""What is queued is counted and costed as the claim script would charge it, and looking changes nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from promptmill.foresight import NOTHING, Learned, Work
from promptmill.jobs import Lane
from promptmill.pacing import Cost, Pace
from promptmill.queue import Settlement, Snooze, keys
from promptmill.results import Status
from tests.support.queues import CLASS, START, make_submission

FIVE_SECONDS = timedelta(seconds=5)
REQUEST = {"model": "claude-haiku-5-5", "max_tokens": 1_000, "messages": [{"role": "user", "content": "Hello"}]}


async def submit(bench, *costs, lane="standard", **fields):
    jobs = [make_submission(f"{lane}-{n}", cost=cost, lane=lane, **fields) for n, cost in enumerate(costs)]
    await bench.queue.submit(jobs)


async def test_nothing_is_queued_where_nothing_was_ever_put(bench):
    seen = await bench.queue.backlog(CLASS)
    assert (seen.now, seen.budget, seen.free_slots, seen.running) == (START, None, False, 0)
    assert all(lane.ready == NOTHING for lane in seen.lanes.values())


async def test_every_lane_tells_what_its_jobs_will_cost_and_looking_changes_nothing(bench):
    await bench.configure()
    await submit(bench, Cost(1, 10, 20), Cost(1, 30, 40))
    await submit(bench, Cost(1, 100, 200), lane="overnight")
    await bench.submit("other", budget="opus-5")
    before = await bench.dump()
    seen = await bench.queue.backlog(CLASS)
    assert {lane: found.ready for lane, found in seen.lanes.items()} == {
        Lane.INTERACTIVE: NOTHING,
        Lane.STANDARD: Work(2, 40, 60),
        Lane.OVERNIGHT: Work(1, 100, 200),
    }
    assert await bench.dump() == before


async def test_the_budget_comes_along_as_it_stands(bench):
    await bench.configure(requests=Pace(60, 2))
    await bench.queue.block(CLASS, FIVE_SECONDS, "rate_limited")
    seen = await bench.queue.backlog(CLASS)
    assert seen.budget.paces["requests"] == Pace(60, 2)
    assert seen.budget.tats["input"] == START
    assert (seen.budget.blocked_until, seen.reason, seen.parked_until) == (START + 5_000, "rate_limited", None)
    assert seen.budget.ramp.share == 0.5


async def test_costs_are_what_the_claim_script_reserves_by_what_was_learned(bench):
    await bench.configure()

    async def put(job_id, max_tokens=1_000):
        request = {**REQUEST, "max_tokens": max_tokens}
        job = make_submission(job_id, request=request, tags={"kind": "summary"}, cost=Cost(1, 101, 500))
        await bench.queue.submit([job])

    await put("first")
    await bench.queue.settle([Settlement(await bench.claim_one(), Status.SUCCEEDED, used=Cost(1, 333, 60))])
    await put("next")
    await put("short", max_tokens=30)
    seen = await bench.queue.backlog(CLASS)
    assert seen.learned == {"summary": Learned(460.0, pytest.approx(1.2088, abs=1e-4))}
    claims = (await bench.claim()).jobs
    reserved = [Work(1, claim.reserved.input, claim.reserved.output) for claim in claims]
    assert seen.lanes[Lane.STANDARD].ready == sum(reserved, NOTHING)
    assert (await bench.queue.backlog(CLASS)).lanes[Lane.STANDARD].running == sum(reserved, NOTHING)


async def test_of_what_runs_it_tells_how_long_it_has_been_running(bench):
    await bench.configure()
    await submit(bench, Cost(1, 10, 20), Cost(1, 10, 20))
    await bench.claim_one(most=1)
    bench.clock.advance(4_000)
    await bench.claim_one(most=1)
    bench.clock.advance(1_000)
    seen = await bench.queue.backlog(CLASS, before="standard-0")
    assert (seen.running, seen.mean_age_ms, seen.job_age_ms, seen.call_ms) == (2, 3_000, 5_000, 6_000)


async def test_a_short_wait_is_counted_and_a_long_one_is_not(bench):
    await bench.configure()
    await submit(bench, Cost(1, 10, 20), not_before=bench.clock.time(30_000))
    await submit(bench, Cost(1, 10, 20), not_before=bench.clock.time(90_000), lane="overnight")
    seen = await bench.queue.backlog(CLASS)
    assert seen.lanes[Lane.STANDARD].ready == Work(1, 10, 20)
    assert seen.lanes[Lane.OVERNIGHT].ready == NOTHING


async def test_before_a_job_only_those_count_that_go_first(bench):
    await bench.configure()
    await submit(bench, *[Cost(1, 10, 20)] * 5)
    await submit(bench, *[Cost(1, 10, 20)] * 3, lane="overnight")

    async def ahead(job_id):
        seen = await bench.queue.backlog(CLASS, before=job_id)
        assert seen.lanes[Lane.OVERNIGHT].ready.requests == 3
        return seen.job_is_queued, seen.lanes[Lane.STANDARD].ready.requests

    assert [await ahead(f"standard-{n}") for n in (0, 3, 4)] == [(True, 0), (True, 3), (True, 4)]
    assert await ahead("nobody") == (False, 5)


async def test_a_job_that_waits_keeps_its_place(bench):
    await bench.configure()
    await submit(bench, *[Cost(1, 10, 20)] * 5)
    first, second = (await bench.claim(most=2)).jobs
    await bench.queue.snooze(Snooze(second, wait=FIVE_SECONDS))
    await bench.queue.snooze(Snooze(first))
    seen = await bench.queue.backlog(CLASS, before="standard-1")
    assert seen.lanes[Lane.STANDARD].ready.requests == 1


async def test_a_worker_with_a_free_slot_is_seen_until_it_stops_coming(bench):
    await bench.configure()
    assert not (await bench.queue.backlog(CLASS)).free_slots
    await bench.claim()
    assert (await bench.queue.backlog(CLASS)).free_slots
    bench.clock.advance(60_000)
    assert not (await bench.queue.backlog(CLASS)).free_slots


@pytest.mark.parametrize("order", ["ascending", "alternating"])
async def test_of_a_long_queue_a_sample_tells_nearly_as_much(bench, order):
    await bench.configure()
    inputs = [n if order == "ascending" else 1 + 999 * (n % 2) for n in range(1, 2_001)]
    await submit(bench, *[Cost(1, tokens, 20) for tokens in inputs])
    seen = (await bench.queue.backlog(CLASS, sample=100)).lanes[Lane.STANDARD].ready
    assert seen.requests == pytest.approx(2_000)
    assert seen.input == pytest.approx(sum(inputs), rel=0.02)


async def test_what_runs_is_found_among_any_number_of_jobs_that_wait_for_tomorrow(bench):
    await bench.configure()
    await submit(bench, *[Cost(1, 10, 20)] * 1_000, not_before=bench.clock.time(86_400_000), lane="overnight")
    await submit(bench, *[Cost(1, 10, 20)] * 3)
    await bench.claim()
    seen = await bench.queue.backlog(CLASS, sample=30)
    assert seen.running == 3
    assert seen.lanes[Lane.OVERNIGHT].ready == NOTHING


@pytest.mark.parametrize("record", [None, b"not json", b'["r",2]', b'["r",2,"haiku-5-5","x",1,1]'])
async def test_a_record_that_is_damaged_or_gone_is_passed_over(bench, record):
    await bench.configure()
    await submit(bench, Cost(1, 10, 20), Cost(1, 10, 20))
    await bench.redis.hdel(keys.JOBS, "standard-0")
    if record is not None:
        await bench.redis.hset(keys.JOBS, "standard-0", record)
    assert (await bench.queue.backlog(CLASS)).lanes[Lane.STANDARD].ready == Work(2, 20, 40)
