"""Jobs get into the queue once each, all or as many chunks as were answered, and say what became of them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from promptmill.errors import BadJob
from promptmill.queue import Settlement, Submitted
from promptmill.queue import queue as queue_module
from promptmill.results import Earlier, Status
from tests.support.queues import ids, make_submission


async def test_a_job_is_queued_once_however_often_it_is_submitted(bench):
    first, again = make_submission("a"), make_submission("a", payload=b"another")
    assert await bench.queue.submit([first]) == [Submitted.QUEUED]
    before = await bench.dump()
    assert await bench.queue.submit([again]) == [Submitted.THERE_ALREADY]
    after = await bench.dump()
    assert after == before


async def test_the_same_id_twice_in_one_call_is_queued_once(bench):
    answers = await bench.queue.submit([make_submission("a"), make_submission("b"), make_submission("a")])
    assert answers == [Submitted.QUEUED, Submitted.QUEUED, Submitted.THERE_ALREADY]
    assert await bench.redis.zcard("promptmill:queue") == 2


async def test_a_job_that_runs_is_there_already(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.claim_one()
    assert await bench.queue.submit([make_submission("a")]) == [Submitted.THERE_ALREADY]


async def test_a_job_whose_result_is_kept_has_ended_already(bench):
    await bench.configure()
    await bench.submit("a")
    claim = await bench.claim_one()
    await bench.queue.settle([Settlement(claim, Status.SUCCEEDED, b"{}", timedelta(hours=1))])
    assert await bench.queue.submit([make_submission("a")]) == [Submitted.ENDED_ALREADY]
    assert await bench.redis.zcard("promptmill:queue") == 0


async def test_a_job_whose_result_is_kept_no_longer_may_be_submitted_anew(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.queue.settle([Settlement(await bench.claim_one(), Status.SUCCEEDED)])
    assert await bench.queue.submit([make_submission("a")]) == [Submitted.QUEUED]


async def test_nothing_to_submit_is_no_call(bench):
    assert await bench.queue.submit([]) == []
    assert await bench.dump() == {}


async def test_more_jobs_than_one_call_takes_keep_their_order(bench):
    await bench.configure()
    submitted = [f"job-{number:04}" for number in range(2_500)]
    answers = await bench.queue.submit(make_submission(job_id) for job_id in submitted)
    assert answers == [Submitted.QUEUED] * 2_500
    assert ids(await bench.claim(most=2_500)) == submitted


async def test_a_call_takes_no_more_payload_than_redis_should_take_at_once(bench, monkeypatch):
    monkeypatch.setattr(queue_module, "CALL_BYTES", 250)
    taken: list[int] = []
    run = bench.queue._run

    async def counted(name, *args):
        taken.append((len(args) - 1) // 3)
        return await run(name, *args)

    monkeypatch.setattr(bench.queue, "_run", counted)
    answers = await bench.queue.submit([make_submission(payload=b"x" * 100) for _ in range(7)])
    assert answers == [Submitted.QUEUED] * 7
    assert taken == [3, 3, 1]


async def test_a_job_that_cannot_be_made_stops_the_chunks_after_it_and_leaves_no_task_behind(bench, monkeypatch):
    monkeypatch.setattr(queue_module, "SUBMIT_CHUNK", 2)

    def jobs():
        yield make_submission("a")
        yield make_submission("b")
        yield make_submission("c")
        raise BadJob("the fourth")

    with pytest.raises(BadJob, match="the fourth"):
        await bench.queue.submit(jobs())
    assert "c" not in {job_id.decode() for job_id in await bench.redis.zrange("promptmill:queue", 0, -1)}
    answers = await bench.queue.submit([make_submission(job_id) for job_id in "abc"])
    assert answers[2] is Submitted.QUEUED


async def test_a_run_counts_each_of_its_jobs_once(bench):
    jobs = [make_submission("a", run="r"), make_submission("b", run="r"), make_submission("c")]
    await bench.queue.submit(jobs)
    await bench.queue.submit(jobs)
    assert await bench.redis.hgetall("promptmill:run:r") == {b"submitted": b"2"}
    assert 0 < await bench.redis.ttl("promptmill:run:r") <= 30 * 24 * 3600


async def test_a_redriven_job_goes_on_counting_its_requests(bench):
    await bench.configure()
    await bench.queue.submit([make_submission("a").after(Earlier(3, Status.FAILED, None))])
    claim = await bench.claim_one()
    assert (claim.number, claim.attempts) == (4, 0)


async def test_a_run_has_as_many_ends_as_jobs_however_often_one_is_sent_again(bench):
    await bench.configure()
    await bench.submit("a", "b", run="r")
    costs = {"a": 500, "b": 7}

    async def end(status: Status) -> None:
        ended = [
            Settlement(claim, status, run="r", cost_nano_usd=costs[claim.job_id])
            for claim in (await bench.claim()).jobs
        ]
        await bench.queue.settle(ended)

    await end(Status.FAILED)
    again = make_submission("a", run="r").after(Earlier(1, Status.FAILED, Decimal("0.0000005")))
    for _ in range(2):  # the second time it is there already
        await bench.queue.submit([again])
    stored = await bench.redis.hgetall("promptmill:run:r")
    assert {name: stored[name] for name in (b"submitted", b"failed", b"cost_nano_usd")} == {
        b"submitted": b"2",
        b"failed": b"1",
        b"cost_nano_usd": b"7",
    }
    costs["a"] = 900
    await end(Status.SUCCEEDED)
    stored = await bench.redis.hgetall("promptmill:run:r")
    counted = ("submitted", "failed", "succeeded", "cost_nano_usd")
    assert [int(stored[name.encode()]) for name in counted] == [2, 1, 1, 907]


async def test_one_that_ended_without_a_cost_is_sent_again_too(bench):
    """Most dead letters were never answered. Redis 6.2 reads no number in what Lua makes of minus zero."""
    await bench.configure()
    await bench.submit("a", run="r")
    await bench.queue.settle([Settlement(await bench.claim_one(), Status.FAILED, run="r")])
    again = make_submission("a", run="r").after(Earlier(1, Status.FAILED, None))
    assert await bench.queue.submit([again]) == [Submitted.QUEUED]
    stored = await bench.redis.hgetall("promptmill:run:r")
    assert (stored[b"submitted"], stored[b"failed"], stored[b"cost_nano_usd"]) == (b"1", b"0", b"0")


async def test_a_run_that_was_forgotten_counts_what_is_sent_again_anew(bench):
    await bench.queue.submit([make_submission("a", run="r").after(Earlier(1, Status.FAILED, Decimal(1)))])
    assert await bench.redis.hgetall("promptmill:run:r") == {b"submitted": b"1"}


async def test_an_id_a_run_and_a_payload_in_any_script_arrive_as_they_are(bench):
    await bench.configure()
    await bench.queue.submit([make_submission("später/日本", run="läuft-🦀", payload=b"\x00\xff\xfe")])
    claim = await bench.claim_one()
    assert (claim.job_id, claim.payload) == ("später/日本", b"\x00\xff\xfe")
    assert await bench.redis.exists("promptmill:run:läuft-🦀")
