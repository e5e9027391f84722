"""What a client puts into the queue, in which form, and in how many round trips."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from producers import BadJob, Client, Job, Lane, QueueUnavailable, Submitted
from promptmill.errors import BadSettings
from promptmill.models import UnknownModel
from promptmill.queue import keys
from promptmill.queue.queue import SUBMIT_CHUNK
from promptmill.wire import unpack_envelope, unpack_job
from tests.unit.producers.signs import until


async def queued(redis, job_id) -> Job:
    return unpack_job(unpack_envelope(await redis.get(keys.PAYLOAD + job_id)), job_id=job_id)


class CountingQueue:
    """Stands in front of a queue and notes the size of each call."""

    def __init__(self, queue) -> None:
        self.queue = queue
        self.calls = []
        self.called = asyncio.Event()
        self.let_through = asyncio.Event()
        self.let_through.set()

    async def submit(self, submissions):
        submissions = list(submissions)
        self.calls.append(len(submissions))
        self.called.set()
        await self.let_through.wait()
        return await self.queue.submit(submissions)


async def test_a_text_becomes_a_job_with_the_model_and_length_of_the_settings(client, redis):
    handle = await client.submit("Why is the sky blue?")

    job = await queued(redis, handle.job_id)
    assert handle.submitted is Submitted.QUEUED
    assert job.request == {
        "model": "claude-haiku-5-5",
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    }
    assert job.lane is Lane.STANDARD


async def test_fields_may_stand_beside_a_text_or_alone_or_in_a_mapping(client, redis):
    beside = await client.submit("hello", id="a", tags={"page": "home"}, max_tokens=7)
    alone = await client.submit(prompt="hello", id="b", lane="overnight")
    mapping = await client.submit({"custom_id": "c", "params": {"messages": [{"role": "user", "content": "hello"}]}})

    assert (await queued(redis, beside.job_id)).tags == {"page": "home"}
    assert (await queued(redis, alone.job_id)).lane is Lane.OVERNIGHT
    assert mapping.job_id == "c"


async def test_a_job_is_queued_as_it_is_and_takes_no_fields_beside_it(client, redis):
    request = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "new": 1}
    job = Job(id="mine", request=request)

    await client.submit(job)

    assert (await queued(redis, "mine")).request == request
    with pytest.raises(BadJob, match="expected a Job alone, got lane"):
        await client.submit(job, lane="overnight")


async def test_what_is_no_prompt_is_refused_before_redis_is_asked(client, redis):
    with pytest.raises(BadJob, match="expected a prompt, a Job or a mapping, got int"):
        await client.submit(7)
    with pytest.raises(BadJob, match="did you mean 'prompt'"):
        await client.submit(promt="x")
    with pytest.raises(UnknownModel):
        await client.submit("x", model="gpt-4")
    with pytest.raises(BadJob, match="UTF-8"):
        await client.submit("half a pair: \ud800")
    assert await redis.keys("*") == []


async def test_the_same_id_twice_is_one_job(client, redis, worker):
    first = await client.submit("hello", id="order-7")
    second = await client.submit("hello", id="order-7")

    assert (first.submitted, second.submitted) == (Submitted.QUEUED, Submitted.THERE_ALREADY)
    both = asyncio.gather(first.result(), second.result())
    await worker.drain()
    assert [result.text for result in await both] == ["HELLO", "HELLO"]
    assert worker.requests == ["order-7"]


async def test_an_id_whose_result_is_kept_is_not_asked_again(client, worker):
    await client.submit("hello", id="order-7")
    await worker.drain()

    again = await client.submit("hello", id="order-7")

    assert again.submitted is Submitted.ENDED_ALREADY
    assert (await again.result()).text == "HELLO"
    assert await worker.drain() == 0


async def test_many_are_queued_in_order_with_the_same_fields(client, redis):
    handles = await client.submit_many((f"prompt {n}" for n in range(1_500)), lane="overnight")

    place = await redis.zrange(f"{keys.LANE}haiku-5-5:3", 0, -1)
    assert [handle.job_id for handle in handles] == [job_id.decode() for job_id in place]
    assert len(handles) == 1_500


async def test_one_bad_job_among_many_is_named_and_none_is_queued(client, redis):
    with pytest.raises(BadJob, match="job 3: prompt: expected a text that is not blank"):
        await client.submit_many(["a", "b", " ", "d"])
    with pytest.raises(BadJob, match="job 2: no rate limits are known for model 'gpt-4'"):
        await client.submit_many(["a", {"prompt": "b", "model": "gpt-4"}])
    assert await redis.keys("*") == []


async def test_nothing_to_submit_asks_nothing(client, redis):
    assert await client.submit_many([]) == []
    assert await redis.keys("*") == []


async def test_what_many_tasks_submit_at_once_shares_round_trips(client):
    counting = client._outbox._queue = CountingQueue(client.queue)
    counting.let_through.clear()

    first = asyncio.create_task(client.submit("first"))
    await counting.called.wait()
    others = [asyncio.create_task(client.submit(f"prompt {n}")) for n in range(999)]
    await asyncio.sleep(0)
    counting.let_through.set()
    handles = await asyncio.gather(first, *others)

    assert counting.calls == [1, 999]
    assert len({handle.job_id for handle in handles}) == 1_000


async def test_single_jobs_get_in_between_the_chunks_of_a_large_submission(client, redis):
    large = asyncio.create_task(client.submit_many(["x"] * (3 * SUBMIT_CHUNK), lane="standard"))
    await until(lambda: redis.zcard(keys.QUEUE))
    await client.submit("hurry", id="single")
    await large

    order = [job_id.decode() for job_id in await redis.zrange(f"{keys.LANE}haiku-5-5:2", 0, -1)]
    assert order.index("single") < 3 * SUBMIT_CHUNK


async def test_a_caller_that_gives_up_takes_nothing_from_the_others(client):
    counting = client._outbox._queue = CountingQueue(client.queue)
    counting.let_through.clear()
    given_up = asyncio.create_task(client.submit("one"))
    kept = asyncio.create_task(client.submit("two"))
    await counting.called.wait()

    given_up.cancel()
    counting.let_through.set()

    assert (await kept).submitted is Submitted.QUEUED
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_redis_being_away_is_said_and_the_next_submission_tries_again(client, monkeypatch):
    real = client.queue.submit

    async def away(submissions):
        raise QueueUnavailable("Redis does not answer")

    monkeypatch.setattr(client.queue, "submit", away)
    with pytest.raises(QueueUnavailable):
        await client.submit("hello")
    monkeypatch.setattr(client.queue, "submit", real)
    assert (await client.submit("hello")).submitted is Submitted.QUEUED


async def test_a_redis_that_refuses_connections_is_unavailable(settings, unused_tcp_port):
    async with Client(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{unused_tcp_port}"})) as client:
        with pytest.raises(QueueUnavailable, match="Redis does not answer"):
            await client.submit("hello")
        with pytest.raises(QueueUnavailable):
            await client.status("x")
        with pytest.raises(QueueUnavailable):
            await client.cancel("x")


async def test_what_is_under_way_when_the_client_closes_is_said_to_be_unqueued(settings, redis):
    client = Client(settings, redis=redis)
    counting = client._outbox._queue = CountingQueue(client.queue)
    counting.let_through.clear()
    submitting = asyncio.create_task(client.submit("hello"))
    await counting.called.wait()

    await client.aclose()

    with pytest.raises(QueueUnavailable, match="closed"):
        await submitting


async def test_a_client_without_an_address_says_which_setting_is_missing(settings, monkeypatch):
    monkeypatch.delenv("PROMPTMILL_REDIS_URL", raising=False)
    with pytest.raises(BadSettings, match="PROMPTMILL_REDIS_URL"):
        Client(settings)


async def test_ask_goes_first_and_is_not_asked_for_when_nobody_waits_any_more(client, redis, worker):
    before = datetime.now(UTC)
    asking = asyncio.create_task(client.ask("quick", id="q", timeout=60))
    await until(lambda: redis.exists(keys.PAYLOAD + "q"))

    job = await queued(redis, "q")
    assert job.lane is Lane.INTERACTIVE
    assert before + timedelta(seconds=60) <= job.deadline <= datetime.now(UTC) + timedelta(seconds=60)
    await worker.drain()
    assert (await asking).text == "QUICK"


async def test_ask_keeps_the_lane_and_deadline_it_is_given(client, redis, worker):
    deadline = datetime(2099, 1, 1, tzinfo=UTC)
    prompt = {"prompt": "quick", "id": "q", "lane": "overnight", "deadline": deadline}
    asking = asyncio.create_task(client.ask(prompt, timeout=60))
    await until(lambda: redis.exists(keys.PAYLOAD + "q"))

    job = await queued(redis, "q")
    assert (job.lane, job.deadline) == (Lane.OVERNIGHT, deadline)
    await worker.drain()
    assert (await asking).ok


async def test_cancelling_says_what_each_job_came_to(client, worker, redis):
    queued_job = await client.submit("queued", not_before=datetime(2099, 1, 1, tzinfo=UTC))
    running = await client.submit("running")
    await worker.claim()

    assert await client.cancel([queued_job.job_id, running.job_id, "nobody"]) == {
        queued_job.job_id: "CANCELLED",
        running.job_id: "STOPPING",
        "nobody": "UNKNOWN",
    }
    assert await queued_job.cancel() == "CANCELLED"
    assert await client.cancel("nobody") == {"nobody": "UNKNOWN"}
    await worker.drain()
    assert (await queued_job.result()).status == "cancelled"
