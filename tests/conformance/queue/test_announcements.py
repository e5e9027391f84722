"""What the queue says to those who wait: results, pub/sub messages, counters of runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from promptmill.pacing import Cost
from promptmill.queue import Settlement, Snooze
from promptmill.results import Status

HOUR = timedelta(hours=1)


@asynccontextmanager
async def listening(redis, *channels: str) -> AsyncIterator[list[tuple[str, bytes]]]:
    """The messages on `channels` that were said within the block; complete when it is left."""
    heard: list[tuple[str, bytes]] = []
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(*channels)
        for _ in channels:
            assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
        yield heard
        await redis.publish(channels[0], "that is all")
        while (message := await pubsub.get_message(timeout=5))["data"] != b"that is all":
            heard.append((message["channel"].decode(), message["data"]))


async def test_whoever_waits_for_a_job_hears_how_it_ended(bench):
    await bench.configure()
    await bench.submit("a", "b")
    a, b = (await bench.claim()).jobs
    async with listening(bench.redis, "promptmill:done:a", "promptmill:done:b") as heard:
        await bench.queue.settle([Settlement(a, Status.SUCCEEDED), Settlement(b, Status.FAILED)])
    assert heard == [("promptmill:done:a", b"succeeded"), ("promptmill:done:b", b"failed")]


async def test_the_result_is_there_when_its_end_is_announced_and_not_longer_than_asked_for(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.queue.settle([Settlement(await bench.claim_one(), Status.SUCCEEDED, b"the result", HOUR)])
    assert await bench.redis.get("arq:result:a") == b"the result"
    assert 3_590 < await bench.redis.ttl("arq:result:a") <= 3_600


@pytest.mark.parametrize(("result", "keep"), [(b"", HOUR), (b"the result", timedelta(0))])
async def test_no_result_is_left_where_none_is_wanted(bench, result, keep):
    await bench.configure()
    await bench.submit("a")
    await bench.queue.settle([Settlement(await bench.claim_one(), Status.SUCCEEDED, result, keep)])
    assert await bench.redis.keys("arq:*") == []


async def test_nothing_of_a_settled_job_lingers(bench):
    await bench.configure()
    await bench.submit("a")
    before = set(await bench.redis.keys("*")) - {b"arq:job:a", b"promptmill:jobs", b"promptmill:queue"}
    claim = await bench.claim_one(most=1)
    await bench.queue.settle([Settlement(claim, Status.SUCCEEDED)])
    assert set(await bench.redis.keys("*")) == before - {b"promptmill:lane:haiku-5-5:2"}


async def test_whoever_follows_a_run_hears_of_each_of_its_jobs(bench):
    await bench.configure()
    await bench.submit("a", "b", run="r")
    a, b = (await bench.claim()).jobs
    async with listening(bench.redis, "promptmill:run-done:r") as heard:
        await bench.queue.settle([Settlement(b, Status.SUCCEEDED, run="r"), Settlement(a, Status.EXPIRED, run="r")])
    assert heard == [("promptmill:run-done:r", b"b"), ("promptmill:run-done:r", b"a")]


async def test_a_run_counts_ends_by_status_tokens_and_money(bench):
    await bench.configure()
    await bench.submit("a", "b", "c", run="r")
    a, b, c = (await bench.claim()).jobs
    ends = [
        Settlement(a, Status.SUCCEEDED, run="r", used=Cost(1, 100, 20), cost_nano_usd=7_000),
        Settlement(b, Status.SUCCEEDED, run="r", used=Cost(1, 11, 3), cost_nano_usd=500),
        Settlement(c, Status.CANCELLED, run="r", used=None),
    ]
    await bench.queue.settle(ends)
    counted = {name.decode(): int(value) for name, value in (await bench.redis.hgetall("promptmill:run:r")).items()}
    assert counted == {
        "submitted": 3,
        "succeeded": 2,
        "cancelled": 1,
        "input_tokens": 111,
        "output_tokens": 23,
        "cost_nano_usd": 7_500,
    }
    assert 0 < await bench.redis.ttl("promptmill:run:r") <= 30 * 24 * 3600


async def test_a_job_without_a_run_counts_for_none(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.queue.settle([Settlement(await bench.claim_one(), Status.SUCCEEDED, used=Cost(1, 1, 1))])
    assert await bench.redis.keys("promptmill:run:*") == []


async def test_every_worker_hears_that_a_job_which_runs_is_to_be_stopped(bench):
    await bench.configure()
    await bench.submit("runs", "queued")
    await bench.claim_one(most=1)
    async with listening(bench.redis, "promptmill:cancel") as heard:
        await bench.queue.cancel(["queued", "runs", "unknown", "runs"])
    assert heard == [("promptmill:cancel", b"runs")]


async def test_giving_a_job_back_announces_nothing(bench):
    await bench.configure()
    await bench.submit("a", run="r")
    claim = await bench.claim_one()
    async with listening(bench.redis, "promptmill:done:a", "promptmill:run-done:r") as heard:
        await bench.queue.snooze(Snooze(claim))
    assert heard == []
