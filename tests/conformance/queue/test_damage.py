"""Keys that somebody deleted or overwrote: no job of them is lost, and none keeps the others up (I1, I8)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from promptmill.pacing import Pace
from promptmill.queue import Disposition, Renewal, Settlement, Snooze
from promptmill.results import Status
from tests.support.queues import CLASS, LEASE, ids, make_submission

UNSOUND_RECORDS = [
    b"",
    b"not json",
    b"null",
    b"7",
    b'"text"',
    b"{}",
    b'{"state": "r"}',
    b"[]",
    b"[null]",
    b'["r"]',
    b'["x",2,"haiku-5-5",1,10,20,1]',
    b'["r",0,"haiku-5-5",1,10,20,1]',
    b'["r",1.5,"haiku-5-5",1,10,20,1]',
    b'["r",2,7,1,10,20,1]',
    b'["r",2,"haiku-5-5","1",10,20,1]',
    b'["r",2,"haiku-5-5",1,null,20,1]',
    b'["r",2,"haiku-5-5",1,-10,20,1]',
    b'["r",2,"haiku-5-5",1,NaN,20,1]',
    b'["r",2,"haiku-5-5",1,1e999,20,1]',
    b'["r",2,"haiku-5-5",1,10,20,{}]',
    b'["r",2,"haiku-5-5",1,10,20,1,[]]',
    b'["r",2,"haiku-5-5",1,10,20,1,0,0,0,0,0,"burnt"]',
    b'["r",2,"haiku-5-5",1,10,20,1,0,0,0,0,0,0,7]',
    b"[" * 2_000 + b"]" * 2_000,
    b"\xff\xfe",
]


async def adopt_anew(bench, claim):
    assert claim.disposition is Disposition.FOREIGN
    await bench.queue.adopt(claim, make_submission(claim.job_id))


@pytest.mark.parametrize("record", UNSOUND_RECORDS, ids=lambda record: record[:40].decode("latin-1") or "nothing")
async def test_a_ready_job_whose_record_was_overwritten_is_adopted_from_its_payload(bench, record):
    await bench.configure()
    await bench.submit("a", "b")
    payload = await bench.redis.get("arq:job:a")
    await bench.redis.hset("promptmill:jobs", "a", record)
    claims = await bench.claim(most=2)
    assert ids(claims) == ["b"]
    claim = await bench.claim_one()
    assert (claim.job_id, claim.payload) == ("a", payload)
    await adopt_anew(bench, claim)
    assert (await bench.claim_one()).disposition is Disposition.RUN


@pytest.mark.parametrize("record", UNSOUND_RECORDS, ids=lambda record: record[:40].decode("latin-1") or "nothing")
async def test_a_job_that_waits_ends_or_runs_is_adopted_too_if_its_record_was_overwritten(bench, record):
    await bench.configure()
    await bench.submit("runs")
    await bench.submit("waits", not_before=bench.clock.time(5_000))
    await bench.submit("expires", deadline=bench.clock.time(5_000), lane="overnight")
    await bench.submit("ends", not_before=bench.clock.time(5_000))
    runs = await bench.claim_one(most=1)
    await bench.queue.cancel(["ends"])
    for job_id in ("runs", "waits", "expires", "ends"):
        await bench.redis.hset("promptmill:jobs", job_id, record)
    assert await bench.queue.settle([Settlement(runs, Status.SUCCEEDED)]) == [False]
    bench.clock.advance(LEASE)
    claims = [*(await bench.claim()).jobs, *(await bench.claim()).jobs]
    assert sorted(claim.job_id for claim in claims) == ["ends", "expires", "runs", "waits"]
    for claim in claims:
        await adopt_anew(bench, claim)
    runs_again = await bench.claim()
    assert sorted(ids(runs_again)) == ["ends", "expires", "runs", "waits"]
    assert {claim.disposition for claim in runs_again.jobs} == {Disposition.RUN}
    assert ids(await bench.claim()) == []


async def test_all_records_deleted_by_hand_lose_no_job(bench):
    await bench.configure()
    jobs = [f"j{number:03}" for number in range(300)]
    await bench.submit(*jobs)
    await bench.redis.delete("promptmill:jobs")
    seen = []
    for _ in range(20):
        claims = (await bench.claim(most=50)).jobs
        for claim in claims:
            await adopt_anew(bench, claim)
        seen += [claim.job_id for claim in claims]
        if len(seen) == 300:
            break
    assert sorted(seen) == jobs
    assert len((await bench.claim(most=300)).jobs) == 300


async def test_a_deleted_payload_is_reported_with_the_claim(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.redis.delete("arq:job:a")
    claim = await bench.claim_one()
    assert (claim.disposition, claim.payload) == (Disposition.RUN, None)
    assert await bench.queue.settle([Settlement(claim, Status.FAILED)]) == [True]


async def test_a_job_deleted_by_hand_whole_is_gone(bench):
    await bench.configure()
    await bench.submit("a", "b")
    await bench.redis.delete("arq:job:a")
    await bench.redis.hdel("promptmill:jobs", "a")
    await bench.redis.zrem("promptmill:queue", "a")
    assert ids(await bench.claim()) == ["b"]
    assert ids(await bench.claim()) == []
    assert await bench.redis.exists("promptmill:lane:haiku-5-5:2") == 0


async def test_a_deleted_queue_keeps_no_ready_job_from_being_claimed(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.redis.delete("promptmill:queue")
    assert ids(await bench.claim()) == ["a"]
    bench.clock.advance(LEASE)
    assert ids(await bench.claim()) == ["a"]


@pytest.mark.parametrize(
    "evicted",
    [("promptmill:lane:haiku-5-5:2",), ("promptmill:budgets",), ("promptmill:lane:haiku-5-5:2", "promptmill:budgets")],
    ids=["the lane", "the list of budgets", "both"],
)
async def test_ready_jobs_whose_lane_was_evicted_are_found_by_the_next_claim_that_finds_nothing(bench, evicted):
    await bench.configure()
    await bench.submit("a", "b")
    await bench.redis.delete(*evicted)
    claims = await bench.claim()
    assert (ids(claims), claims.wait) == ([], timedelta(0))
    assert ids(await bench.claim()) == ["a", "b"]
    assert ids(await bench.claim()) == []


async def test_jobs_to_be_ended_whose_list_was_evicted_are_ended_all_the_same(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.queue.cancel(["a"])
    await bench.redis.delete("promptmill:due")
    claims = await bench.claim()
    assert (ids(claims), claims.wait) == ([], timedelta(0))
    assert (await bench.claim_one()).disposition is Disposition.CANCELLED


async def test_a_job_that_runs_is_left_alone_while_arqs_abort_holds_it_at_the_head_of_the_queue(bench):
    await bench.configure()
    await bench.submit("a")
    claim = await bench.claim_one()
    await bench.redis.zadd("promptmill:queue", {"a": 1})
    assert ids(await bench.claim()) == []
    assert ids(await bench.claim()) == []
    assert await bench.queue.renew([claim], LEASE) == [Renewal.OK]


async def test_a_job_left_behind_in_a_lane_of_another_budget_is_sent_on_its_own(bench):
    """Else the one budget would be charged for a request that the other one's provider gets (I4)."""
    await bench.configure()
    await bench.configure("sonnet-5", requests=Pace(rate=60, burst=1))
    await bench.submit("a", budget="sonnet-5")
    await bench.redis.zadd("promptmill:lane:haiku-5-5:2", {"a": 1})
    assert (await bench.claim_one()).budget == "sonnet-5"
    assert (await bench.tats("sonnet-5"))["requests"] == 1_000
    assert (await bench.tats())["requests"] == 0
    assert await bench.redis.exists("promptmill:lane:haiku-5-5:2", "promptmill:lane:sonnet-5:2") == 0


async def test_an_entry_in_two_lanes_is_leased_once(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.redis.zadd("promptmill:lane:haiku-5-5:1", {"a": 1})
    assert ids(await bench.claim()) == ["a"]
    assert await bench.redis.exists("promptmill:lane:haiku-5-5:1", "promptmill:lane:haiku-5-5:2") == 0


async def test_a_settled_job_that_lingers_in_a_lane_is_not_run(bench):
    await bench.configure()
    await bench.submit("a", "b")
    claim = await bench.claim_one(most=1)
    await bench.queue.settle([Settlement(claim, Status.SUCCEEDED)])
    await bench.redis.zadd("promptmill:lane:haiku-5-5:1", {"a": 1})
    await bench.redis.zadd("promptmill:due", {"a": 1})
    assert ids(await bench.claim()) == ["b"]


async def test_an_entry_among_those_to_be_ended_that_does_not_belong_there_ends_nobody(bench):
    await bench.configure()
    await bench.submit("runs", "ready")
    await bench.claim_one(most=1)
    await bench.redis.zadd("promptmill:due", {"runs": 1, "ready": 2})
    (claim,) = (await bench.claim()).jobs
    assert (claim.job_id, claim.disposition) == ("ready", Disposition.RUN)


async def test_a_job_to_be_ended_whose_record_was_deleted_is_adopted_by_the_next_claim_at_once(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.queue.cancel(["a"])
    await bench.redis.delete("promptmill:jobs")
    claims = await bench.claim()
    assert (ids(claims), claims.wait) == ([], timedelta(0))
    assert (await bench.claim_one()).disposition is Disposition.FOREIGN


async def test_one_call_mends_a_bounded_number_of_jobs(bench):
    await bench.configure()
    await bench.submit(*(f"j{number}" for number in range(300)))
    await bench.redis.delete("promptmill:jobs")
    claims = await bench.claim(most=10)
    assert (ids(claims), claims.wait) == ([], timedelta(0))
    assert await bench.redis.zcard("promptmill:lane:haiku-5-5:2") == 300 - 110


async def test_a_deleted_budget_starts_empty_once_it_is_configured_again(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.redis.delete(f"promptmill:budget:{CLASS}")
    assert (await bench.claim()).unconfigured == (CLASS,)
    await bench.configure(requests=Pace(rate=60, burst=1), full=False)
    assert ids(await bench.claim()) == []
    bench.clock.advance(1_000)
    assert ids(await bench.claim()) == ["a"]


async def test_a_budget_deleted_while_a_job_runs_is_not_brought_back_by_half_by_its_refund(bench):
    await bench.configure()
    await bench.submit("a", "b")
    a, b = (await bench.claim()).jobs
    await bench.redis.delete(f"promptmill:budget:{CLASS}")
    assert await bench.queue.settle([Settlement(a, Status.SUCCEEDED, used=a.reserved)]) == [True]
    await bench.queue.snooze(Snooze(b, used=b.reserved))
    assert await bench.redis.exists(f"promptmill:budget:{CLASS}") == 0


async def test_everything_deleted_at_once_leaves_a_queue_that_takes_new_jobs(bench):
    await bench.configure()
    await bench.submit("a", "b")
    claim = await bench.claim_one(most=1)
    await bench.redis.flushall()
    assert await bench.queue.settle([Settlement(claim, Status.SUCCEEDED)]) == [False]
    await bench.configure()
    await bench.submit("a")
    assert ids(await bench.claim()) == ["a"]
