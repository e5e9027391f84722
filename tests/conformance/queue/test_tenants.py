"""Tenants share a lane evenly: whoever submitted thousands does not hold up whoever submitted ten."""

from __future__ import annotations

import pytest

from promptmill.jobs import Lane
from promptmill.pacing import Cost, Pace
from promptmill.queue import Snooze, Submitted
from tests.support.queues import CLASS, ids, make_submission

SONNET = "sonnet-5"
TENANTS = f"promptmill:tenants:{CLASS}:2"


async def submit(bench, *job_ids, tenant=None, **fields):
    await bench.submit(*job_ids, tags={} if tenant is None else {"tenant": tenant}, **fields)


def names(prefix, jobs):
    return [f"{prefix}{number:03}" for number in range(jobs)]


@pytest.mark.parametrize("tenant", [None, "a"])
async def test_one_tenant_alone_is_served_first_come_first_served(bench, tenant):
    await bench.configure()
    await submit(bench, "z", "y", tenant=tenant)
    assert ids(await bench.claim(most=1)) == ["z"]
    await submit(bench, "x", "w", tenant=tenant)
    assert ids(await bench.claim()) == ["y", "x", "w"]


async def test_tenants_take_turns(bench):
    await bench.configure()
    await submit(bench, *names("a", 5), tenant="a")
    await submit(bench, *names("b", 2), tenant="b")
    assert ids(await bench.claim()) == ["a000", "b000", "a001", "b001", "a002", "a003", "a004"]


async def test_who_comes_later_starts_level_with_those_who_are_being_served(bench):
    await bench.configure()
    await submit(bench, *names("a", 9), tenant="a")
    assert ids(await bench.claim(most=5)) == names("a", 5)
    await submit(bench, *names("b", 3), tenant="b")
    assert ids(await bench.claim()) == ["a005", "b000", "a006", "b001", "a007", "b002", "a008"]


async def test_who_had_no_jobs_for_a_while_saved_nothing_up(bench):
    await bench.configure()
    await submit(bench, "b000", tenant="b")
    await submit(bench, *names("a", 6), tenant="a")
    assert ids(await bench.claim(most=5)) == ["a000", "b000", "a001", "a002", "a003"]
    await submit(bench, *names("c", 3), tenant="b")
    assert ids(await bench.claim(most=4)) == ["a004", "c000", "a005", "c001"]


async def test_lanes_and_budgets_count_by_themselves(bench):
    await bench.configure(CLASS)
    await bench.configure(SONNET)
    await submit(bench, *names("x", 9), tenant="a", budget=SONNET)
    await submit(bench, *names("y", 9), tenant="a", lane=Lane.OVERNIGHT)
    await submit(bench, *names("b", 2), tenant="b")
    await submit(bench, *names("a", 2), tenant="a")
    claimed = ids(await bench.claim(most=50))
    assert [job_id for job_id in claimed if job_id[0] in "ab"] == ["a000", "b000", "a001", "b001"]


async def test_turns_go_by_what_jobs_take_of_the_budget_and_not_by_their_number(bench):
    await bench.configure(requests=Pace(60, 60), input=Pace(6_000, 60_000))  # a request a second, 100 tokens a second
    await submit(bench, *names("large", 3), tenant="a", cost=Cost(requests=1, input=400, output=1))
    await submit(bench, *names("small", 9), tenant="b", cost=Cost(requests=1, input=50, output=1))
    claimed = ids(await bench.claim(most=20))
    assert [claimed.index(job_id) for job_id in names("large", 3)] == [3, 8, 11]  # each after four small ones


async def test_a_job_that_comes_back_goes_before_what_its_tenant_submitted_since(bench):
    await bench.configure()
    await submit(bench, *names("a", 3), tenant="a")
    claim = await bench.claim_one(most=1)
    await submit(bench, *names("b", 2), tenant="b")
    await bench.queue.snooze(Snooze(claim))
    assert ids(await bench.claim()) == ["a000", "a001", "b000", "a002", "b001"]


async def test_jobs_that_fall_back_share_the_other_budget_as_one_tenant(bench):
    await bench.configure(CLASS)
    await bench.configure(SONNET, requests=Pace(rate=60, burst=1), full=False)
    await submit(bench, *names("f", 3))
    for claim in (await bench.claim()).jobs:
        await bench.queue.snooze(Snooze(claim, route=1, budget=SONNET))
    await submit(bench, *names("s", 3), budget=SONNET)
    await bench.configure(SONNET)
    assert ids(await bench.claim()) == ["f000", "s000", "f001", "s001", "f002", "s002"]


async def test_an_adopted_job_takes_its_turn_with_its_tenant(bench):
    await bench.configure()
    await bench.redis.set("arq:job:b", b"whatever")
    await bench.redis.zadd("promptmill:queue", {"b": bench.clock()})
    foreign = await bench.claim_one()
    await submit(bench, *names("a", 3), tenant="a")
    await bench.queue.adopt(foreign, make_submission("b", tags={"tenant": "b"}))
    assert ids(await bench.claim()) == ["a000", "b", "a001", "a002"]


async def test_a_job_that_is_there_already_takes_no_turn(bench):
    await bench.configure()
    again = make_submission("b000", tags={"tenant": "b"})
    assert await bench.queue.submit([again, again, again]) == [Submitted.QUEUED, *[Submitted.THERE_ALREADY] * 2]
    await submit(bench, *names("a", 3), tenant="a")
    await submit(bench, "b001", tenant="b")
    assert ids(await bench.claim()) == ["a000", "b000", "a001", "b001", "a002"]


async def test_tenants_without_a_backlog_are_forgotten_when_there_are_too_many(bench):
    await bench.configure()
    await submit(bench, "b", "c", tenant="b")
    await bench.claim(most=2)
    await bench.redis.hset(TENANTS, mapping={f"t{n}": 1 for n in range(10_000)})
    await submit(bench, *names("a", 2), tenant="a")
    assert await bench.redis.hkeys(TENANTS) == [b"a"]
    assert ids(await bench.claim()) == names("a", 2)


async def test_no_stranger_fills_memory_with_names_of_tenants(bench):
    await bench.redis.hset(TENANTS, mapping={f"t{n}": 5 for n in range(10_001)})
    await submit(bench, "a", tenant="a")
    await submit(bench, "b", tenant="x" * 10_000)
    assert set(await bench.redis.hkeys(TENANTS)) == {b"a", b"x" * 100}
