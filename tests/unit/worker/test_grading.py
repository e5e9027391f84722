"""A share of the answers is graded by a model: by a job like any other, once each, whoever dies when."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from promptmill.errors import QueueFull, QueueUnavailable
from promptmill.queue import keys
from promptmill.results import Status
from tests.support.providers import answering, failing
from tests.support.workers import make_job, workshop
from worker import events

ENDED = ["record result", "recorded result", "submit grading", "submitted grading", "settle", "settled"]
STEPS = ["look up", "answered", *ENDED]
GRADE = '{"why": "It greets.", "grade": 9}'
EVERY = {"share": 1, "model": "claude-sonnet-5-5", "rubric": "Greets."}


@pytest.fixture
async def shop(tmp_path):
    async with workshop(tmp_path, grading=EVERY) as made:
        yield made


async def test_an_answer_is_graded_overnight_and_the_grading_is_paid_for_and_not_graded_itself(shop):
    shop.api.script = [answering("Hello."), answering(GRADE)]
    await shop.submit(make_job(tags={"team": "search", "kind": "greetings"}, run="run-1"))
    await shop.run_to_end()

    assert shop.steps.taken == [*STEPS, "look up", "answered", "record result", "recorded result", "settle", "settled"]
    grading = await shop.store.result("grade-of-job-1")
    assert (grading.quality["grade"], grading.lane, grading.run) == (0.9, "overnight", None)
    assert grading.tags["team"] == "search"
    assert (grading.asked_model, grading.kind) == ("claude-sonnet-5-5", "grades of claude-haiku-5-5: greetings")
    assert grading.cost_usd > Decimal(0)
    assert b"A good answer is: Greets." in shop.api.requests[1].body
    found = {one.metric: one for one in await shop.store.quality(since=shop.now(), kind=grading.kind)}
    assert found["grade"].whole.mean == 0.9
    assert await shop.redis.zcard(keys.QUEUE) == 0


async def test_without_the_setting_nothing_is_graded(tmp_path):
    async with workshop(tmp_path) as shop:
        await shop.submit(make_job())
        await shop.run_to_end()
        assert [result.job_id async for result in shop.store.results()] == ["job-1"]


async def test_a_failure_is_not_graded(shop):
    shop.api.script = [failing(400, "invalid_request_error")]
    await shop.submit(make_job())
    await shop.run_to_end()
    assert [result.job_id async for result in shop.store.results()] == ["job-1"]


@pytest.mark.parametrize("survived", range(len(STEPS)))
async def test_a_worker_dies_and_the_answer_is_graded_once(shop, survived):
    shop.api.script = [answering("Hello.")]
    await shop.submit(make_job())
    shop.steps.die_before(survived)
    lease = await shop.claim_one()
    running = asyncio.create_task(shop.run(lease))
    died = asyncio.create_task(shop.steps.died.wait())
    await asyncio.wait([running, died], return_when=asyncio.FIRST_COMPLETED)
    for task in (running, died):
        task.cancel()
    await asyncio.gather(running, died, return_exceptions=True)
    await shop.recorder.close()

    async with workshop(shop.settings.data_dir, redis=shop.redis, grading=EVERY) as other:
        other.clock.now = shop.clock.now
        answers = [] if await other.store.result("job-1") else [answering("Hello.")]
        other.api.script = [*answers, answering(GRADE)]
        other.clock.advance(other.settings.lease)
        await other.run_to_end(most=200)
        assert [result.job_id async for result in other.store.results()] == ["job-1", "grade-of-job-1"]
        assert len(other.api.requests) == len(answers) + 1, "neither is paid for twice (I6)"
        assert (await other.store.result("grade-of-job-1")).quality["grade"] == 0.9
        assert await other.redis.zcard(keys.QUEUE) == 0


async def test_an_answer_that_comes_up_again_long_after_it_was_graded_is_not_graded_again(shop):
    shop.api.script = [answering("Hello."), answering(GRADE)]
    await shop.submit(make_job())
    await shop.run_to_end()
    await shop.redis.delete(keys.RESULT + "job-1", keys.RESULT + "grade-of-job-1")
    await shop.submit(make_job())
    await shop.run_to_end()
    assert len(shop.api.requests) == 2


async def test_while_redis_is_away_the_grading_waits_and_nothing_is_settled(shop):
    shop.api.script = [answering("Hello."), answering(GRADE)]
    await shop.submit(make_job())
    shop.steps.fail("submit grading", QueueUnavailable("away"), QueueUnavailable("away"))
    await shop.run_to_end()
    assert (await shop.store.result("grade-of-job-1")).ok
    assert len(shop.naps.taken) == 2


async def test_a_redis_without_memory_costs_the_grade_and_not_the_answer(shop):
    await shop.submit(make_job())
    shop.steps.fail("submit grading", QueueFull("no memory"))
    with capture_logs() as logs:
        await shop.run_to_end()
    assert (await shop.left_in_redis()).status is Status.SUCCEEDED
    assert await shop.store.result("grade-of-job-1") is None
    assert [entry["job"] for entry in logs if entry["event"] == events.GRADING_SKIPPED] == ["grade-of-job-1"]


async def test_a_grading_that_cannot_be_made_costs_no_answer(tmp_path):
    async with workshop(tmp_path, grading=EVERY, budgets={"ours": {"models": ["our-model"]}}) as shop:
        material = "x" * (17 * 1024 * 1024)  # twice in one request it is more than the API takes
        shop.api.script = [answering(material)]
        job = make_job(request={**make_job().request, "messages": [{"role": "user", "content": material}]})
        await shop.submit(job)
        with capture_logs() as logs:
            await shop.run_to_end()
        assert (await shop.store.result("job-1")).ok
        assert [entry["what"] for entry in logs if entry["event"] == events.MEASURE_FAILED] == ["grading"]
