"""How long a client is told that a job, or a lane, will take."""

from __future__ import annotations

from datetime import timedelta

import pytest

from producers import Lane, ResultNotFound
from promptmill.models import UnknownModel
from promptmill.pacing import Pace
from promptmill.queue import Queue, Snooze, keys
from tests.support.queues import PLENTY, ManualClock
from tests.unit.producers.tiny_worker import TinyWorker

SECOND = timedelta(seconds=1)


@pytest.fixture
def clock(client):
    clock = ManualClock()
    client.queue = Queue(client.queue.redis, clock=clock)
    return clock


@pytest.fixture
async def one_a_second(client, clock):
    """A budget of a request a second and a worker that waits for it."""
    await client.queue.configure("haiku-5-5", {**PLENTY, "requests": Pace(60, 1)})
    await client.queue.claim(worker="w", lease=60 * SECOND, most=1, token_prefix="t")
    clock.advance(2 * SECOND)


@pytest.mark.usefixtures("clock")
async def test_without_workers_and_limits_nobody_knows(client):
    handle = await client.submit("hello")
    assert await handle.time_left() is None
    assert await client.lane_time_left("standard") is None
    assert await client.lane_time_left(Lane.OVERNIGHT) == timedelta(0)


@pytest.mark.usefixtures("one_a_second")
async def test_a_job_waits_for_those_before_it_in_its_lane_and_above(client, clock):
    handles = await client.submit_many(["hello"] * 60)
    await client.submit_many(["hello"] * 30, lane="interactive")
    await client.queue.redis.zadd(keys.IDLE, {"w": clock.now})
    assert await handles[0].time_left() == 20 * SECOND  # a twentieth of the slots is the standard lane's
    assert await handles[-1].time_left() == 90 * SECOND
    assert await client.lane_time_left("standard") == 90 * SECOND
    assert await client.lane_time_left("standard", "claude-opus-5-5") == timedelta(0)


@pytest.mark.usefixtures("one_a_second")
async def test_a_job_that_waits_has_its_wait_before_it(client, clock):
    handle = await client.submit("hello")
    (claim,) = (await client.queue.claim(worker="w", lease=60 * SECOND, most=1, token_prefix="u")).jobs
    await client.queue.snooze(Snooze(claim, wait=300 * SECOND))
    await client.queue.redis.zadd(keys.IDLE, {"w": clock.now})
    assert await handle.time_left() == 300 * SECOND


@pytest.mark.usefixtures("one_a_second")
async def test_a_running_job_takes_as_long_as_others(client, clock):
    first, second = await client.submit_many(["hello"] * 2)
    for prefix in "uv":
        await client.queue.claim(worker="w", lease=60 * SECOND, most=1, token_prefix=prefix)
        clock.advance(2 * SECOND)
    assert [await handle.time_left() for handle in (first, second)] == [2 * SECOND, 4 * SECOND]


async def test_a_job_that_has_ended_has_no_time_left_and_one_that_nobody_knows_is_not_found(client, worker):
    good, bad = await client.submit_many(["good", "fail"])
    await worker.drain()
    assert await good.time_left() == await bad.time_left() == timedelta(0)
    with pytest.raises(ResultNotFound):
        await client.time_left("nobody")


async def test_a_cancelled_job_is_as_good_as_ended(client):
    handle = await client.submit("hello")
    await handle.cancel()
    assert await handle.time_left() == timedelta(0)


async def test_of_a_job_that_an_arq_client_put_in_nobody_knows(client, redis):
    await redis.zadd(keys.QUEUE, {"foreign": 5})
    assert await client.time_left("foreign") is None


async def test_a_job_that_ends_between_two_looks_has_no_time_left(client, redis, monkeypatch):
    handle = await client.submit("hello")
    backlog = client.queue.backlog

    async def after_it_ended(*args, **kwargs):
        await TinyWorker(Queue(redis)).drain()
        return await backlog(*args, **kwargs)

    monkeypatch.setattr(client.queue, "backlog", after_it_ended)
    assert await handle.time_left() == timedelta(0)


async def test_a_model_without_limits_is_refused(client):
    with pytest.raises(UnknownModel):
        await client.lane_time_left("standard", "gpt-4")
