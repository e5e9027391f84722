"""The client for code without asyncio: threads, forks and closing."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from producers import JobState, KeyReused, QueueUnavailable, ResultNotFound, Submitted, SyncClient
from promptmill.queue import Queue, connect
from promptmill.tasks import end
from tests.unit.producers.tiny_worker import TinyWorker


@pytest.fixture
def serving(server):
    """A worker in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def in_thread(work):
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    async def begin():
        redis = connect(server.url)
        return redis, asyncio.create_task(TinyWorker(Queue(redis)).serve())

    redis, serving = in_thread(begin())
    yield
    in_thread(end(serving))
    in_thread(redis.aclose())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def client(settings):
    with SyncClient(settings) as client:
        yield client


def test_three_lines_ask_and_get_an_answer(client, serving):
    assert client.ask("hello", timeout=60).text == "HELLO"


def test_every_method_of_the_client_is_there(client, serving):
    handle = client.submit("hello", id="a")
    assert handle.result(60).text == "HELLO"
    assert handle.status().state is JobState.SUCCEEDED
    assert handle.time_left() == client.time_left("a") == client.lane_time_left("standard") == timedelta(0)
    assert handle.cancel() == "UNKNOWN"
    assert client.cancel(["a"]) == {"a": "UNKNOWN"}
    many = client.submit_many(iter(["x", "y"]), lane="interactive")
    assert [one.result(60).text for one in many] == ["X", "Y"]
    assert client.submit("hello", id="a").submitted is Submitted.ENDED_ALREADY
    assert client.result("a").text == "HELLO"
    with pytest.raises(ResultNotFound):
        client.status("nobody")


def test_an_idempotency_key_stands_for_one_request(client, serving):
    first, second = (client.submit("hello", idempotency_key="click 7") for _ in range(2))
    assert [handle.result(60).text for handle in (first, second)] == ["HELLO", "HELLO"]
    assert first.job_id == second.job_id
    with pytest.raises(KeyReused):
        client.ask("goodbye", timeout=60, idempotency_key="click 7")
    with pytest.raises(KeyReused):
        replace(first, request_ref="of something else").result(60)


def test_threads_share_one_client(client, serving):
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda n: client.ask(f"prompt {n}", timeout=60).text, range(200)))
    assert answers == [f"PROMPT {n}" for n in range(200)]


def test_a_timeout_is_raised_in_the_calling_thread(client):
    handle = client.submit("hello")
    with pytest.raises(TimeoutError, match="has not ended within"):
        handle.result(0.01)


def test_closing_ends_what_other_threads_wait_for(settings):
    client = SyncClient(settings)
    handle = client.submit("hello")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(handle.result)
        portal = client._portal
        while not asyncio.run_coroutine_threadsafe(_waits(portal), portal._loop).result():
            pass
        client.close()
        with pytest.raises(QueueUnavailable, match="closed"):
            waiting.result(60)
    assert client.status(handle.job_id).state is JobState.READY  # a call after closing starts anew
    client.close()


async def _waits(portal) -> bool:
    return bool(portal._client._listener._waits)


def test_after_a_fork_the_child_has_a_thread_and_connections_of_its_own(client, serving):
    assert client.ask("before", timeout=60).text == "BEFORE"
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, client.ask("in the child", timeout=60).text.encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        assert answer.read() == "IN THE CHILD"
    os.waitpid(child, 0)
    assert client.ask("after", timeout=60).text == "AFTER"


def test_a_client_that_was_never_used_starts_no_thread(settings):
    before = threading.active_count()
    with SyncClient(settings):
        assert threading.active_count() == before
