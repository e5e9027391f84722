"""Waiting for results: before and after they are there, in any number, with callers that give up."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

from producers import Client, QueueUnavailable, Result, ResultNotFound, Status
from producers import listener as listener_module
from producers.listener import RECHECK
from promptmill.errors import BadSettings
from promptmill.queue import keys
from promptmill.wire import Unreadable, pack_result
from tests.unit.producers.signs import listened_for, unlistened
from tests.unit.producers.tiny_worker import START


async def test_waiting_that_starts_before_the_result_is_there(client, redis, worker):
    handle = await client.submit("hello")
    waiting = asyncio.create_task(handle.result())
    await listened_for(redis, handle.job_id)
    assert not waiting.done()

    await worker.drain()

    assert (await waiting).text == "HELLO"


async def test_waiting_that_starts_after_the_result_is_there(client, worker):
    handle = await client.submit("hello")
    await worker.drain()

    assert (await handle.result()).text == "HELLO"
    assert (await client.result(handle.job_id)).text == "HELLO"


async def test_a_result_that_arrives_between_subscribing_and_looking_is_not_lost(client, worker, monkeypatch):
    """The job ends after its channel was subscribed to and before the first look at Redis."""
    handle = await client.submit("hello")
    real = client.queue.redis.pipeline
    ended = False

    class EndsFirst:
        def __init__(self, **options) -> None:
            self.pipeline = real(**options)

        async def __aenter__(self):
            nonlocal ended
            if not ended:
                ended = True
                monkeypatch.setattr(client.queue.redis, "pipeline", real)
                await worker.drain()
            return await self.pipeline.__aenter__()

        async def __aexit__(self, *error):
            return await self.pipeline.__aexit__(*error)

    monkeypatch.setattr(client.queue.redis, "pipeline", EndsFirst)
    assert (await handle.result(10)).text == "HELLO"
    assert ended


async def test_a_job_nobody_knows_is_said_to_be_unknown_at_once(client):
    with pytest.raises(ResultNotFound, match="no job 'nobody' is queued"):
        await client.result("nobody", timeout=10)


async def test_a_job_that_keeps_no_result_ends_for_whoever_waits(client, redis, worker):
    handle = await client.submit("hello", keep_result=0)
    waiting = asyncio.create_task(handle.result())
    await listened_for(redis, handle.job_id)

    await worker.drain()

    with pytest.raises(ResultNotFound):
        await waiting


async def test_a_failed_job_has_a_result_too(client, worker):
    handle = await client.submit("please fail")
    await worker.drain()

    result = await handle.result()

    assert not result.ok
    assert result.error.name == "invalid_request"


async def test_a_result_that_cannot_be_read_fails_its_own_wait_only(client, redis, worker):
    good = await client.submit("hello", id="good")
    await redis.set(keys.RESULT + "bad", b"\x80\x04pickle")
    waiting = asyncio.create_task(good.result())

    with pytest.raises(Unreadable):
        await client.result("bad")
    await worker.drain()
    assert (await waiting).text == "HELLO"


async def test_thousands_of_waits_use_one_connection(client, redis, worker):
    handles = await client.submit_many([f"prompt {n}" for n in range(3_000)])
    waiting = asyncio.gather(*[handle.result() for handle in handles])
    await listened_for(redis, handles[-1].job_id)

    await worker.drain()

    assert [result.text for result in await waiting] == [f"PROMPT {n}" for n in range(3_000)]
    assert len(asyncio.all_tasks()) < 12


async def test_a_timeout_names_the_job_and_leaves_it_queued(client, worker):
    handle = await client.submit("hello")

    with pytest.raises(TimeoutError, match=f"job '{handle.job_id}' has not ended within 0.01 s"):
        await handle.result(timedelta(milliseconds=10))

    await worker.drain()
    assert (await handle.result(10)).text == "HELLO"


async def test_a_timeout_of_the_caller_is_not_taken_for_our_own(client):
    handle = await client.submit("hello")

    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.01):
            await handle.result(60)

    assert "has not ended" not in str(caught.value)


async def test_one_caller_that_gives_up_leaves_the_result_to_the_other(client, redis, worker):
    handle = await client.submit("hello")
    gives_up, stays = asyncio.create_task(handle.result()), asyncio.create_task(handle.result())
    await listened_for(redis, handle.job_id)

    gives_up.cancel()
    await asyncio.gather(gives_up, return_exceptions=True)
    await worker.drain()

    assert (await stays).text == "HELLO"


async def test_when_the_last_caller_has_gone_nobody_listens_any_more(client, redis, worker):
    handle = await client.submit("hello")
    waiting = asyncio.create_task(handle.result())
    await listened_for(redis, handle.job_id)

    waiting.cancel()
    await unlistened(redis, handle.job_id)

    again = asyncio.create_task(handle.result())
    await listened_for(redis, handle.job_id)
    await worker.drain()
    assert (await again).text == "HELLO"


async def test_giving_up_and_waiting_again_at_once_misses_nothing(client, redis, worker):
    """The channel is still subscribed to, so no confirmation will come; the job may have ended in between."""
    inbox = client._listener._changed
    take, go_on = inbox.take, asyncio.Event()
    go_on.set()

    async def take_when_allowed(most):
        changed = await take(most)
        await go_on.wait()
        return changed

    inbox.take = take_when_allowed
    handle = await client.submit("hello")
    first = asyncio.create_task(handle.result())
    await listened_for(redis, handle.job_id)

    go_on.clear()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await worker.drain()
    again = asyncio.create_task(handle.result(10))
    await asyncio.sleep(0)
    go_on.set()

    assert (await again).text == "HELLO"


async def test_who_asks_while_others_are_told_gets_an_answer_of_their_own(client, redis, worker, monkeypatch):
    """One caller is told that the job is unknown; it is submitted and awaited before that caller has noticed."""
    handle = await client.submit("hello")
    await worker.drain()
    real = listener_module._result
    later = []

    def unknown_at_first(job_id, value):
        if not later:
            asyncio.get_running_loop().call_soon(lambda: later.append(asyncio.create_task(handle.result(10))))
            later.append(None)
            raise ResultNotFound(job_id)
        return real(job_id, value)

    monkeypatch.setattr(listener_module, "_result", unknown_at_first)
    with pytest.raises(ResultNotFound):
        await handle.result(10)
    assert (await later[1]).text == "HELLO"


async def test_a_job_that_was_unknown_can_be_submitted_and_awaited_at_once(client, worker):
    for _ in range(20):
        with pytest.raises(ResultNotFound):
            await client.result("mine", 10)
    handle = await client.submit("hello", id="mine")
    waiting = asyncio.create_task(handle.result(10))
    await worker.drain()
    assert (await waiting).text == "HELLO"


async def test_closing_ends_every_wait(settings, redis):
    client = Client(settings, redis=redis)
    handle = await client.submit("hello")
    waiting = asyncio.create_task(handle.result())
    await listened_for(redis, handle.job_id)

    await client.aclose()

    with pytest.raises(QueueUnavailable, match="closed"):
        await waiting


async def test_what_no_reconnection_mends_is_raised_by_every_wait(client, monkeypatch):
    handles = await client.submit_many(["a", "b"])

    async def refused(*_):
        raise BadSettings("Redis refused the user or password")

    monkeypatch.setattr("producers.listener._Session.run", refused)
    problems = await asyncio.gather(*[handle.result() for handle in handles], return_exceptions=True)
    assert [type(problem) for problem in problems] == [BadSettings, BadSettings]


async def test_a_result_that_nobody_announced_is_found_by_the_recheck(settings, redis):
    """As after a message that was lost with a connection that nobody knows to be dead."""
    async with Client(settings, redis=redis, recheck=timedelta(milliseconds=20)) as client:
        handle = await client.submit("hello")
        waiting = asyncio.create_task(handle.result(10))
        await listened_for(redis, handle.job_id)

        result = Result(job_id=handle.job_id, status=Status.SUCCEEDED, text="HELLO")
        await redis.set(keys.RESULT + handle.job_id, pack_result(result, queue=keys.QUEUE, enqueued_at=START))

        assert (await waiting).text == "HELLO"


async def test_a_connection_over_which_nothing_comes_back_is_given_up(settings, redis, worker, monkeypatch):
    silent = asyncio.Event()
    real = PubSub.get_message
    sessions = []

    async def get_message(pubsub, **options):
        if pubsub not in sessions:
            sessions.append(pubsub)
        if len(sessions) == 1:
            silent.set()
            await asyncio.Event().wait()
        return await real(pubsub, **options)

    monkeypatch.setattr(PubSub, "get_message", get_message)
    async with Client(settings, redis=redis, recheck=timedelta(milliseconds=20)) as client:
        handle = await client.submit("hello")
        waiting = asyncio.create_task(handle.result(10))
        await silent.wait()
        await worker.drain()

        assert (await waiting).text == "HELLO"
        assert len(sessions) == 2
        # Of the first session nothing goes on.
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert len([name for name in names if name.startswith("promptmill results: ")]) == 4


async def test_redis_failing_a_look_up_is_not_the_callers_business(client, worker, monkeypatch):
    real = client.queue.redis.pipeline
    failures = [RedisConnectionError("gone")]

    def fails_once(**options):
        if failures:
            raise failures.pop()
        return real(**options)

    handle = await client.submit("hello")
    await worker.drain()
    monkeypatch.setattr(client.queue.redis, "pipeline", fails_once)

    assert (await handle.result(10)).text == "HELLO"
    assert not failures


def test_the_recheck_is_rare():
    assert timedelta(seconds=10) <= RECHECK <= timedelta(minutes=1)
