"""A worker dies between any two steps; another one finishes. Whatever the moment: one result, nothing lost, and no
request for an answer that had been committed (I1, I2, I6)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import orjson
import pytest

from promptmill.queue import keys
from promptmill.results import Status
from tests.support.providers import Held, Step, answering, failing
from tests.support.workers import Workshop, make_job, workshop
from worker.calls import StopReason

OTHER = "claude-sonnet-5-5"


@dataclass(frozen=True)
class Story:
    """One way of a job, and the steps that its first claim takes."""

    steps: list[str]
    script: list[Step]
    status: Status = Status.SUCCEEDED
    prepare: Callable[[Workshop], Awaitable[None]] | None = None
    stop: StopReason | None = None
    job: dict | None = None


async def _of_an_arq_client(shop: Workshop) -> None:
    await shop.redis.set(keys.PAYLOAD + "job-1", orjson.dumps({"f": "run_prompt", "a": ["Hi"], "k": {}, "et": 1}))
    await shop.redis.zadd(keys.QUEUE, {"job-1": 1_000})


async def _corrupt(shop: Workshop) -> None:
    await shop.redis.set(keys.PAYLOAD + "job-1", b"\x80")
    await shop.redis.zadd(keys.QUEUE, {"job-1": 1_000})


async def _cancelled(shop: Workshop) -> None:
    await shop.submit(make_job())
    await shop.queue.cancel(["job-1"])


async def _expired(shop: Workshop) -> None:
    await shop.submit(make_job(deadline=shop.now() + timedelta(seconds=1)))
    shop.clock.advance(timedelta(seconds=1))


ENDED = ["record result", "recorded result", "settle", "settled"]
BACK = ["record attempt", "recorded attempt", "snooze", "snoozed"]

STORIES = {
    "answered": Story(["look up", "answered", *ENDED], [answering()]),
    "dead letter": Story(
        ["look up", "answered", *ENDED], [failing(400, "invalid_request_error")], status=Status.FAILED
    ),
    "retried": Story(["look up", "answered", "report", *BACK], [failing(500, "api_error"), answering()]),
    "rate limited": Story(
        ["look up", "answered", *BACK[:2], "block", *BACK[2:]], [failing(429, "rate_limit_error"), answering()]
    ),
    "refused as an account": Story(["look up", "answered", "report", *BACK], [failing(401), answering()]),
    "falls back": Story(
        ["look up", "answered", *BACK],
        [answering(None, stop_reason="refusal"), answering()],
        job={"fallbacks": (OTHER,)},
    ),
    "taken in": Story(["look up", "adopt"], [answering()], prepare=_of_an_arq_client),
    "buried": Story(["look up", *ENDED], [answering()], status=Status.FAILED, prepare=_corrupt),
    "cancelled": Story(["look up", *ENDED], [answering()], status=Status.CANCELLED, prepare=_cancelled),
    "expired": Story(["look up", *ENDED], [answering()], status=Status.EXPIRED, prepare=_expired),
    "cancelled under way": Story(
        ["look up", *ENDED], [answering()], status=Status.CANCELLED, stop=StopReason.CANCELLED
    ),
    "handed back": Story(["look up", *BACK], [answering()], stop=StopReason.SHUTDOWN),
}


async def begin(shop: Workshop, story: Story) -> None:
    """Bring one job under way, up to wherever the worker dies."""
    if story.prepare is None:
        await shop.submit(make_job(**(story.job or {})))
    else:
        await story.prepare(shop)
    held = Held()
    shop.api.script = [held] if story.stop else list(story.script)
    lease = await shop.claim_one()
    running = asyncio.create_task(shop.run(lease))
    died = asyncio.create_task(shop.steps.died.wait())
    if story.stop:
        arrived = asyncio.create_task(shop.api.arrival())
        await asyncio.wait([arrived, died], return_when=asyncio.FIRST_COMPLETED)
        if story.stop is StopReason.CANCELLED:
            await shop.queue.cancel(["job-1"])
        if arrived.done():
            lease.call.stop(story.stop)
        await _gone(arrived)
    await asyncio.wait([running, died], return_when=asyncio.FIRST_COMPLETED)
    await _gone(running, died)
    await shop.recorder.close()


async def _gone(*tasks: asyncio.Task) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("name", STORIES)
async def test_these_are_all_the_steps(shop, name):
    await begin(shop, STORIES[name])
    assert shop.steps.taken == STORIES[name].steps


@pytest.mark.parametrize(
    ("name", "survived"),
    [(name, number) for name, story in STORIES.items() for number in range(len(story.steps))],
)
async def test_a_worker_dies_and_another_one_finishes(shop, name, survived):
    story = STORIES[name]
    shop.steps.die_before(survived)
    await begin(shop, story)
    assert shop.steps.taken == story.steps[:survived]
    before = len(shop.api.requests)

    async with workshop(shop.settings.data_dir, redis=shop.redis) as other:
        other.clock.now = shop.clock.now
        went_back = "snooze" in shop.steps.taken and len(story.script) > 1
        other.api.script = story.script[1:] if went_back else list(story.script)
        other.clock.advance(other.settings.lease)
        await other.run_to_end(most=200)
        after = len(other.api.requests)

        result = await other.store.result("job-1")
        assert result.status is story.status
        assert [stored.job_id async for stored in other.store.results()] == ["job-1"], "one result (I2)"
        numbers = [attempt.number for attempt in result.attempts]
        assert numbers == sorted(set(numbers)), "each request has a number of its own"
        left = await other.left_in_redis()
        assert left.status is story.status, "whoever waits for it hears of it"
        assert await other.redis.zcard(keys.QUEUE) == await other.redis.hlen(keys.JOBS) == 0, "nothing is left (I1)"
        assert await other.redis.get(keys.PAYLOAD + "job-1") is None
        assert (await other.store.dead_letter("job-1") is not None) == (story.status is Status.FAILED)

    needed = _requests_needed(story)
    if "recorded result" in shop.steps.taken and story.status is Status.SUCCEEDED:
        assert after == 0, "an answer that was committed is not paid for again (I6)"
    assert needed <= before + after <= needed + 1, "at most what was in flight is sent again"


def _requests_needed(story: Story) -> int:
    if story.stop is StopReason.SHUTDOWN:
        return 1
    if story.status in {Status.CANCELLED, Status.EXPIRED} or story.prepare is _corrupt:
        return 0
    return len(story.script)
