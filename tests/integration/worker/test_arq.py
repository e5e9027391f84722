"""What arq promises its users and still holds here: any client, other functions, cron jobs, abort, health check."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from arq.connections import ArqRedis
from arq.cron import cron
from arq.jobs import Job as ArqJob
from arq.jobs import SerializationError
from arq.worker import func
from structlog.testing import capture_logs

from promptmill.queue import keys
from promptmill.results import Status
from promptmill.wire import deserialize, serialize
from tests.support.providers import Held, answering
from tests.support.workers import REQUEST, make_job
from worker.engine import arq_pool

SHORT = timedelta(milliseconds=300)


@pytest.fixture
async def arq(valkey_url):
    """A client as an application has it: arq's own, told to write JSON."""
    async with arq_pool(valkey_url) as client:
        yield client
        await client.connection_pool.disconnect()


def handle(arq, job_id: str) -> ArqJob:
    return ArqJob(job_id, arq, _queue_name=keys.QUEUE, _deserializer=deserialize)


async def test_any_arq_client_may_enqueue_a_prompt_and_read_its_answer(mill, arq):
    async with mill.worker():
        job = await arq.enqueue_job("run_prompt", {"prompt": "Say hello.", "tags": {"app": "web"}})
        answer = await job.result(timeout=10, poll_delay=0.01)
    assert (answer["status"], answer["text"], answer["tags"]) == ("succeeded", "Hello.", {"app": "web"})
    info = await job.result_info()
    assert (info.function, info.success, info.job_try, info.queue_name) == ("run_prompt", True, 1, keys.QUEUE)


async def test_a_plain_arq_client_needs_nothing_of_promptmill(mill, valkey_url):
    """Only JSON instead of pickle, and the queue's name."""
    path = valkey_url.removeprefix("unix://")
    plain = ArqRedis.from_url(f"unix://{path}")
    plain.job_serializer, plain.job_deserializer = serialize, deserialize
    plain.default_queue_name, plain.expires_extra_ms = keys.QUEUE, 86_400_000
    async with plain, mill.worker():
        await plain.enqueue_job("run_prompt", "Say hello.", _job_id="job-1")
        await mill.ends.of("job-1")
    assert (await mill.store.result("job-1")).ok


async def test_the_same_id_is_enqueued_once(mill, arq):
    await mill.submit(make_job())
    assert await arq.enqueue_job("run_prompt", {"prompt": "Again."}, _job_id="job-1") is None
    async with mill.worker():
        await mill.ends.of("job-1")
    assert await arq.enqueue_job("run_prompt", {"prompt": "Again."}, _job_id="job-1") is None
    assert len(mill.api.requests) == 1


async def test_a_job_that_an_arq_client_enqueued_outlives_arqs_own_expiry(mill, arq):
    """arq lets a payload expire after a day; taken in, it is kept until its job has ended."""
    mill.api.script = [Held()]
    await arq.enqueue_job("run_prompt", "Say hello.", _job_id="job-1")
    assert await mill.redis.ttl(keys.PAYLOAD + "job-1") > 0
    async with mill.worker():
        await mill.api.arrival()
        assert await mill.redis.ttl(keys.PAYLOAD + "job-1") == -1


@contextlib.asynccontextmanager
async def worker_with(mill, *functions, cron_jobs=(), **settings):
    """A worker with more to do than prompts."""
    async with mill.worker(idle=False, **settings) as worker:
        for function in functions:
            worker.engine.functions[function.name] = function
        for job in cron_jobs:
            worker.engine.functions[job.name] = job
        worker.engine.cron_jobs = list(cron_jobs)
        yield worker


async def test_another_function_is_run_and_leaves_its_result_as_arq_does(mill, arq):
    async def add(ctx, a, b=0):
        assert (ctx["job_id"], ctx["job_try"], type(ctx["enqueue_time"])) == ("sum", 1, datetime)
        return a + b

    async with worker_with(mill, func(add, name="add")):
        job = await arq.enqueue_job("add", 2, b=3, _job_id="sum")
        assert await job.result(timeout=10, poll_delay=0.01) == 5
    assert await mill.redis.zcard(keys.QUEUE) == 0
    assert mill.api.requests == []


async def test_a_function_that_fails_leaves_its_failure_and_stops_nothing(mill, arq):
    async def fail(_ctx):
        raise ValueError("PROMPTMARK")

    with capture_logs() as logs:
        async with worker_with(mill, func(fail, name="fail")):
            job = await arq.enqueue_job("fail", _job_id="bad")
            with pytest.raises(SerializationError):
                await job.result(timeout=10, poll_delay=0.01)
            await mill.submit(make_job())
            await mill.ends.of("job-1")
    assert "PROMPTMARK" not in repr(logs)
    assert [entry["job"] for entry in logs if entry["event"] == "job_crashed"] == ["bad"]


async def test_a_function_that_returns_what_json_lacks_has_failed(mill, arq):
    async def strange(_ctx):
        return object()

    async with worker_with(mill, func(strange, name="strange")):
        job = await arq.enqueue_job("strange", _job_id="odd")
        await mill.ends.of("odd")
        info = await job.result_info()
    assert (info.success, info.result) == (False, "object is not JSON")


async def test_a_function_that_takes_too_long_is_stopped(mill, arq):
    async def endless(_ctx):
        await asyncio.Event().wait()

    async with worker_with(mill, func(endless, name="endless", timeout=0.05)):
        job = await arq.enqueue_job("endless", _job_id="late")
        await mill.ends.of("late")
        info = await job.result_info()
    assert (info.success, info.result) == (False, "TimeoutError: ")


async def test_a_function_under_way_is_left_to_its_lease_at_a_shutdown(mill, arq):
    began = asyncio.Event()

    async def endless(_ctx):
        began.set()
        await asyncio.Event().wait()

    async def quick(_ctx):
        return "done"

    async with worker_with(mill, func(endless, name="work"), lease=SHORT, grace=timedelta(0)) as stops:
        job = await arq.enqueue_job("work", _job_id="moves on")
        await began.wait()
        stops.engine.handle_sig(15)
        await stops.ended()
    async with worker_with(mill, func(quick, name="work"), lease=SHORT):
        assert await job.result(timeout=10, poll_delay=0.01) == "done"


async def test_a_function_that_nobody_here_has_is_a_dead_letter(mill, arq):
    async with mill.worker():
        await arq.enqueue_job("send_email", "a@example.org", _job_id="mail")
        await mill.ends.of("mail")
    assert (await mill.store.dead_letter("mail")).reason == "unknown_function"


async def test_a_cron_job_runs_once_among_two_workers(mill):
    runs = asyncio.Queue()

    async def tick(ctx):
        runs.put_nowait(ctx["job_id"])

    def every_second():
        return cron(tick, name="tick", second=set(range(60)))  # each worker has its own, as two processes would

    async with (
        worker_with(mill, cron_jobs=[every_second()]) as first,
        worker_with(mill, cron_jobs=[every_second()]) as second,
    ):
        ran = [await runs.get(), await runs.get()]
        for worker in (first, second):
            await _beats(worker, 1)
    while not runs.empty():
        ran.append(runs.get_nowait())
    assert len(ran) == len(set(ran))
    assert all(job_id.startswith("tick:") for job_id in ran)


async def _beats(worker, number: int) -> None:
    """Return after so many heartbeats: whatever a worker does at each of them, it has done."""
    beaten = asyncio.Queue()
    beat = worker.engine.heart_beat

    async def tell():
        await beat()
        beaten.put_nowait(None)

    worker.engine.heart_beat = tell
    for _ in range(number):
        await beaten.get()


async def test_abort_stops_a_job_under_way(mill, arq):
    mill.api.script = [Held()]
    async with mill.worker():
        await mill.submit(make_job())
        await mill.api.arrival()
        assert await handle(arq, "job-1").abort(timeout=10, poll_delay=0.01) is True
    assert (await mill.store.result("job-1")).status is Status.CANCELLED
    assert await mill.redis.zcard("arq:abort") == 0


async def test_abort_ends_a_job_that_waits_without_a_request(mill, arq):
    async with mill.worker():
        await mill.submit(make_job(not_before=datetime.now(UTC) + timedelta(hours=1)))
        assert await handle(arq, "job-1").abort(timeout=10, poll_delay=0.01) is True
    assert (await mill.store.result("job-1")).status is Status.CANCELLED
    assert mill.api.requests == []


async def test_abort_of_a_job_that_was_answered_already_says_so(mill, arq):
    async with mill.worker():
        await mill.submit(make_job())
        await mill.ends.of("job-1")
        assert await handle(arq, "job-1").abort(timeout=10, poll_delay=0.01) is False


async def test_an_abort_of_nobodys_job_stops_nothing(mill):
    await mill.redis.zadd("arq:abort", {b"\xff\xfe": 1, "unknown": 2})
    async with mill.worker() as worker:
        await _beats(worker, 1)
        await mill.submit(make_job())
        await mill.ends.of("job-1")
    assert await mill.redis.zcard("arq:abort") == 0


async def test_the_health_check_key_is_there_while_the_worker_runs(mill):
    async with mill.worker() as worker:
        await _beats(worker, 1)
        info = await mill.redis.get(keys.QUEUE + ":health-check")
        assert b"queued=0" in info
    assert await mill.redis.get(keys.QUEUE + ":health-check") is None


async def test_the_store_is_asked_before_a_prompt_of_an_arq_client_is_sent(mill, arq):
    async with mill.worker():
        await mill.submit(make_job(keep_result=timedelta(0)))
        await mill.ends.of("job-1")
        mill.api.script = [answering("Another.")]
        job = await arq.enqueue_job("run_prompt", {"params": REQUEST}, _job_id="job-1")
        assert (await job.result(timeout=10, poll_delay=0.01))["text"] == "Hello."
    assert len(mill.api.requests) == 1
