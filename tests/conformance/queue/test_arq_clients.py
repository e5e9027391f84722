"""Any arq client can put a job in, and arq's own `Job` handle reads what became of it."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arq.connections import ArqRedis
from arq.jobs import Job as ArqJob
from arq.jobs import JobStatus, ResultNotFound, SerializationError

from promptmill.errors import LeaseLost
from promptmill.jobs import Lane
from promptmill.lines import job_from_line
from promptmill.queue import Claim, Disposition, Settlement, Snooze, Submitted, keys, prepare
from promptmill.results import Attempt, Failure, Result, Status
from promptmill.settings import Settings
from promptmill.wire import Unreadable, deserialize, job_fields, pack_result, serialize, unpack_envelope
from tests.support.queues import CLASS, LEASE, MODEL, Bench, ids, make_submission

SETTINGS = Settings.load(environ={})


@pytest.fixture
def bench(redis) -> Bench:
    """On the host's own clock, since arq enters jobs by it; nothing here depends on how long anything takes."""
    bench = Bench.on(redis)
    bench.clock.now = float(int(datetime.now(UTC).timestamp() * 1000) + 1_000)
    return bench


@pytest.fixture
def arq(redis) -> ArqRedis:
    """A client as promptmill's documentation says to make one."""
    return ArqRedis(
        redis.connection_pool, job_serializer=serialize, job_deserializer=deserialize, default_queue_name=keys.QUEUE
    )


@pytest.fixture
def plain_arq(redis) -> ArqRedis:
    """A client with arq's default of pickle."""
    return ArqRedis(redis.connection_pool, default_queue_name=keys.QUEUE)


def adopted_from(claim: Claim, **overrides: Any):
    """What a worker makes of a stranger's job."""
    fields = {**job_fields(unpack_envelope(claim.payload or b"")), **overrides}
    return prepare(job_from_line(fields, model=MODEL, max_tokens=16, id=claim.job_id), SETTINGS)


async def test_a_job_from_an_arq_client_is_handed_out_to_be_adopted_without_any_budget(bench, arq):
    await arq.enqueue_job("run_prompt", {"prompt": "Hello"}, _job_id="a")
    claim = await bench.claim_one()
    assert (claim.job_id, claim.disposition, claim.budget, claim.number) == ("a", Disposition.FOREIGN, "", 1)
    assert dict(job_fields(unpack_envelope(claim.payload))) == {"prompt": "Hello"}


async def test_an_adopted_job_is_as_if_it_had_been_submitted(bench, arq):
    await bench.configure()
    await arq.enqueue_job("run_prompt", {"prompt": "Hello", "lane": "interactive", "run": "r"}, _job_id="a")
    await bench.submit("b")
    foreign = next(claim for claim in (await bench.claim()).jobs if claim.job_id == "a")
    submission = adopted_from(foreign)
    await bench.queue.adopt(foreign, submission)
    assert await bench.redis.ttl("arq:job:a") == -1
    claim = await bench.claim_one()
    assert (claim.job_id, claim.disposition, claim.number, claim.lane) == ("a", Disposition.RUN, 1, Lane.INTERACTIVE)
    assert (claim.budget, claim.reserved, claim.payload) == (CLASS, submission.cost, submission.payload)
    assert await bench.redis.hgetall("promptmill:run:r") == {b"submitted": b"1"}


async def test_a_deferred_job_is_adopted_when_its_time_has_come(bench, arq):
    at = bench.clock.time(60_000)
    await arq.enqueue_job("run_prompt", {"prompt": "Hello"}, _job_id="a", _defer_until=at)
    bench.clock.advance(59_999)
    assert ids(await bench.claim()) == []
    bench.clock.advance(1)
    assert (await bench.claim_one()).disposition is Disposition.FOREIGN


async def test_an_adopted_job_waits_for_the_time_that_it_states_itself(bench, arq):
    await bench.configure()
    await arq.enqueue_job("run_prompt", {"prompt": "x", "not_before": bench.clock.time(5_000)}, _job_id="a")
    claim = await bench.claim_one()
    await bench.queue.adopt(claim, adopted_from(claim))
    bench.clock.advance(4_999)
    assert ids(await bench.claim()) == []
    bench.clock.advance(1)
    assert (await bench.claim_one()).disposition is Disposition.RUN


async def test_a_job_whose_adopter_died_is_handed_out_again(bench, arq):
    await arq.enqueue_job("run_prompt", {"prompt": "Hello"}, _job_id="a")
    first = await bench.claim_one()
    bench.clock.advance(LEASE)
    second = await bench.claim_one()
    assert (second.disposition, second.lost) == (Disposition.FOREIGN, 1)
    with pytest.raises(LeaseLost):
        await bench.queue.adopt(first, adopted_from(first))
    await bench.queue.adopt(second, adopted_from(second))


async def test_a_pickle_is_handed_out_unread_to_be_buried(bench, plain_arq):
    await plain_arq.enqueue_job("run_prompt", {"prompt": "Hello"}, _job_id="a")
    claim = await bench.claim_one()
    assert pickle.loads(claim.payload)["f"] == "run_prompt"
    with pytest.raises(Unreadable, match="pickle is never loaded"):
        unpack_envelope(claim.payload)
    assert await bench.queue.settle([Settlement(claim, Status.FAILED)]) == [True]
    assert await bench.dump() == {"promptmill:idle": await idle(bench)}


async def idle(bench):
    return (await bench.dump())["promptmill:idle"]


async def test_a_strangers_job_that_was_cancelled_is_only_ended(bench, arq):
    await arq.enqueue_job("run_prompt", {"prompt": "Hello"}, _job_id="a")
    assert await bench.queue.cancel(["a"]) == {"a": "CANCELLED"}
    assert (await bench.claim_one()).disposition is Disposition.CANCELLED


async def test_a_job_cancelled_while_it_was_being_adopted_is_only_ended(bench, arq):
    await bench.configure()
    await arq.enqueue_job("run_prompt", {"prompt": "x", "not_before": bench.clock.time(5_000)}, _job_id="a")
    claim = await bench.claim_one()
    assert await bench.queue.cancel(["a"]) == {"a": "STOPPING"}
    await bench.queue.adopt(claim, adopted_from(claim))
    assert (await bench.claim_one()).disposition is Disposition.CANCELLED


async def test_a_strangers_job_that_is_given_back_unadopted_is_handed_out_to_be_adopted_again(bench, arq):
    await arq.enqueue_job("run_prompt", {"prompt": "Hello"}, _job_id="a")
    claim = await bench.claim_one()
    await bench.queue.snooze(Snooze(claim, sent=False))
    claim = await bench.claim_one()
    assert claim.disposition is Disposition.FOREIGN
    await bench.queue.snooze(Snooze(claim, wait=timedelta(seconds=1)))
    assert ids(await bench.claim()) == []
    bench.clock.advance(1_000)
    assert (await bench.claim_one()).disposition is Disposition.FOREIGN
    assert await bench.redis.smembers("promptmill:budgets") == set()


async def test_more_strangers_than_a_worker_has_room_for_are_left_to_the_next_claim(bench, arq):
    for number in range(5):
        await arq.enqueue_job("run_prompt", {"prompt": "x"}, _job_id=f"a{number}")
    assert len((await bench.claim(most=3)).jobs) == 3
    assert len((await bench.claim(most=3)).jobs) == 2


async def test_an_id_that_is_no_utf8_can_be_claimed_and_settled(bench):
    await bench.redis.zadd("promptmill:queue", {b"\xff\x00id": bench.clock.now})
    claim = await bench.claim_one()
    assert (claim.key, claim.payload) == (b"\xff\x00id", None)
    await bench.queue.renew([claim], LEASE)
    assert await bench.queue.cancel([claim.job_id]) == {claim.job_id: "STOPPING"}
    assert await bench.queue.settle([Settlement(claim, Status.FAILED, b"{}", timedelta(hours=1))]) == [True]
    assert await bench.redis.get(b"arq:result:\xff\x00id") == b"{}"


async def test_an_arq_client_does_not_queue_a_job_of_ours_again(bench, arq):
    await bench.submit("a")
    assert await arq.enqueue_job("run_prompt", {"prompt": "x"}, _job_id="a") is None


async def test_we_do_not_queue_an_arq_clients_job_again(bench, arq):
    await arq.enqueue_job("run_prompt", {"prompt": "x"}, _job_id="a")
    assert await bench.queue.submit([make_submission("a")]) == [Submitted.THERE_ALREADY]


async def test_arqs_handle_reads_a_job_of_ours(bench, arq):
    await bench.submit("ready")
    await bench.submit("later", not_before=bench.clock.time(3_600_000))
    ready, later, nobody = (ArqJob(job_id, arq, keys.QUEUE, deserialize) for job_id in ("ready", "later", "nobody"))
    assert await ready.status() is JobStatus.queued
    assert await later.status() is JobStatus.deferred
    assert await nobody.status() is JobStatus.not_found
    info = await ready.info()
    assert (info.function, info.args[0]["request"]["model"], info.job_try) == ("run_prompt", MODEL, None)
    assert await nobody.info() is None
    with pytest.raises(ResultNotFound):
        await nobody.result(timeout=0)
    with pytest.raises(TimeoutError):
        await ready.result(timeout=0, poll_delay=0)


def result_of(job_id: str, status: Status) -> Result:
    at = datetime(2026, 11, 22, 12, tzinfo=UTC)
    attempt = Attempt(1, MODEL, at, at + timedelta(seconds=2), "succeeded")
    error = None if status is Status.SUCCEEDED else Failure("refused", "no")
    return Result(job_id, status, text="42", attempts=(attempt,), error=error, finished_at=at + timedelta(seconds=3))


async def settled(bench, job_id: str, status: Status) -> Result:
    await bench.configure()
    await bench.submit(job_id)
    result = result_of(job_id, status)
    packed = pack_result(result, queue=keys.QUEUE, enqueued_at=result.finished_at - timedelta(minutes=1))
    await bench.queue.settle([Settlement(await bench.claim_one(), status, packed, timedelta(hours=1))])
    return result


async def test_arqs_handle_reads_a_result_of_ours(bench, arq):
    result = await settled(bench, "a", Status.SUCCEEDED)
    handle = ArqJob("a", arq, keys.QUEUE, deserialize)
    assert await handle.status() is JobStatus.complete
    assert await handle.result(timeout=0) == json.loads(json.dumps(result.to_line()))
    info = await handle.result_info()
    assert (info.success, info.job_try, info.function, info.queue_name) == (True, 1, "run_prompt", keys.QUEUE)
    assert (info.start_time, info.finish_time) == (result.attempts[0].started_at, result.finished_at)
    assert (await handle.info()).score is None


async def test_arqs_handle_raises_for_a_dead_letter_of_ours(bench, arq):
    result = await settled(bench, "a", Status.FAILED)
    with pytest.raises(SerializationError) as raised:
        await ArqJob("a", arq, keys.QUEUE, deserialize).result(timeout=0)
    assert raised.value.args[0]["error"] == result.error.to_line()


async def test_an_abort_by_arq_loses_no_job_that_runs_even_if_its_worker_dies(bench, arq):
    """arq moves the job to the head of the queue, where it would never come due; the cancellation mends that."""
    await bench.configure()
    await bench.submit("a")
    await bench.claim_one()
    with pytest.raises(TimeoutError):
        await ArqJob("a", arq, keys.QUEUE, deserialize).abort(timeout=0, poll_delay=0)
    assert await bench.redis.zscore("promptmill:queue", "a") == 1
    assert await bench.queue.cancel(["a"]) == {"a": "STOPPING"}
    bench.clock.advance(timedelta(minutes=1))
    claim = await bench.claim_one()
    assert (claim.disposition, claim.lost) == (Disposition.CANCELLED, 1)


async def test_an_abort_by_arq_ends_a_job_that_waits(bench, arq):
    await bench.configure()
    await bench.submit("a", not_before=bench.clock.time(3_600_000))
    with pytest.raises(TimeoutError):
        await ArqJob("a", arq, keys.QUEUE, deserialize).abort(timeout=0, poll_delay=0)
    assert await bench.queue.cancel(["a"]) == {"a": "CANCELLED"}
    assert (await bench.claim_one()).disposition is Disposition.CANCELLED
