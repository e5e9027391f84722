"""The way of one job: every way there is, and in which order the steps are taken."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from promptmill.claude_code import Rewrite, restore
from promptmill.grading import grading_job
from promptmill.pacing import Pace
from promptmill.queue import keys, prepare
from promptmill.results import Status, Usage
from promptmill.wire import unpack_envelope, unpack_job
from tests.support.providers import answering, failing, message
from tests.support.queues import PLENTY
from tests.support.workers import LONG, REQUEST, make_job, workshop
from tests.unit.worker.tables import ANSWERED, MOVED, OTHER, TRIED, is_gone, outcomes
from worker import events

SECOND = timedelta(seconds=1)


async def test_a_job_is_answered_recorded_and_settled(shop):
    await shop.submit(make_job(tags={"app": "demo"}, run="run-1", position=7, lane="interactive"))
    await shop.work()

    assert shop.steps.taken == ANSWERED
    result = await shop.store.result("job-1")
    assert (result.status, result.text, result.message) == (Status.SUCCEEDED, "Hello.", message())
    assert result.usage == Usage(input_tokens=10, output_tokens=5)
    assert result.cost_usd == Decimal("0.0000035")
    assert (result.lane, result.tags, result.run, result.position) == ("interactive", {"app": "demo"}, "run-1", 7)
    assert result.request_ref == make_job().request_ref
    assert result.worker == shop.name
    assert result.quality["words"] == 1
    (attempt,) = result.attempts
    assert (attempt.number, attempt.outcome, attempt.status_code, attempt.request_id) == (1, "succeeded", 200, "req_ok")
    assert result.latency == attempt.duration > timedelta(0)
    assert await is_gone(shop)
    assert shop.pipeline.tally.ended[Status.SUCCEEDED] == 1


TOOL = {"name": "add", "input_schema": {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}}


@pytest.mark.parametrize(
    ("given", "outcome"), [({"a": 1}, "succeeded"), ({"a": "one"}, "unfit_tool_input"), ({}, "unfit_tool_input")]
)
async def test_a_tool_call_that_does_not_fit_is_an_answer_with_a_name_of_its_own(shop, given, outcome):
    call = {"type": "tool_use", "id": "t", "name": "add", "input": given}
    shop.api.script = [answering(None, content=[call], stop_reason="tool_use")]
    await shop.submit(make_job(request={**REQUEST, "tools": [TOOL]}))
    await shop.work()
    result = await shop.store.result("job-1")
    assert (result.status, outcomes(result)) == (Status.SUCCEEDED, [outcome])
    assert result.quality["tool_calls_fit"] is (outcome == "succeeded")


async def test_an_answer_that_was_cut_is_kept_and_called_so(shop):
    shop.api.script = [answering("Hel", stop_reason="max_tokens")]
    await shop.submit(make_job())
    await shop.work()
    result = await shop.store.result("job-1")
    assert (result.status, result.text, outcomes(result)) == (Status.SUCCEEDED, "Hel", ["cut_at_max_tokens"])
    assert len(shop.api.requests) == 1, "it was paid for, and would be cut again"


async def test_whoever_waits_reads_the_same_result_in_redis(shop):
    await shop.submit(make_job())
    await shop.work()
    stored, left = await shop.store.result("job-1"), await shop.left_in_redis()
    assert left == stored
    assert 0 < await shop.redis.ttl(keys.RESULT + "job-1") <= 3_600


@pytest.mark.parametrize(("keep", "seconds"), [(timedelta(0), -2), (timedelta(minutes=1), 60)])
async def test_a_job_says_how_long_its_result_is_kept_in_redis(shop, keep, seconds):
    await shop.submit(make_job(keep_result=keep))
    await shop.work()
    assert await shop.redis.ttl(keys.RESULT + "job-1") == seconds
    assert (await shop.store.result("job-1")).ok


async def test_an_answer_for_claude_code_comes_without_its_trigger_words_and_says_what_was_changed(shop):
    said = "I think it is done. `think`"
    shop.api.script = [answering(said)]
    await shop.submit(make_job(for_claude_code=True, expect={"contains": "think it"}))
    await shop.work()
    result = await shop.store.result("job-1")
    assert result.text == "I believe it is done. `think`"
    assert result.rewrites == (Rewrite(old_start=2, new_start=2, old="think", new="believe"),)
    assert result.message == message(said)
    assert restore(result.text, result.rewrites) == said
    assert result.quality["instruction_following"] == 1, "measured is what the model wrote"
    assert await shop.left_in_redis() == result


async def test_an_answer_that_goes_elsewhere_is_left_as_it_is(shop):
    shop.api.script = [answering("I think so.")]
    await shop.submit(make_job())
    await shop.work()
    result = await shop.store.result("job-1")
    assert (result.text, result.rewrites) == ("I think so.", None)


async def test_an_answer_is_kept_as_it_is_if_it_cannot_be_rewritten(shop, monkeypatch):
    def fault(_text):
        raise RecursionError

    monkeypatch.setattr("promptmill.results.sanitize_for_claude_code", fault)
    shop.api.script = [answering("I think so.")]
    await shop.submit(make_job(for_claude_code=True))
    with capture_logs() as logs:
        await shop.work()
    assert (await shop.store.result("job-1")).text == "I think so."
    assert [entry["what"] for entry in logs if entry["event"] == "measure_failed"] == ["claude_code"]


async def test_a_long_answer_is_streamed_and_tells_its_first_byte(shop):
    await shop.submit(make_job(request=LONG))
    await shop.work()
    result = await shop.store.result("job-1")
    assert result.text == "Hello."
    assert result.attempts[0].first_byte is not None


async def test_queue_time_counts_from_when_the_job_was_due(shop):
    await shop.submit(make_job("now"), make_job("later", not_before=shop.now() + 30 * SECOND))
    shop.clock.advance(40 * SECOND)
    await shop.work()
    assert (await shop.store.result("now")).queue_time == 40 * SECOND
    assert (await shop.store.result("later")).queue_time == 10 * SECOND


@pytest.mark.parametrize("step", [answering, lambda **how: failing(400, "invalid_request_error", **how)])
async def test_what_any_answer_says_of_a_limit_reaches_the_budget(shop, step):
    shop.api.script = [step(headers={"anthropic-ratelimit-requests-limit": "600"})]
    await shop.submit(make_job())
    with capture_logs() as logs:
        await shop.work()
        await shop.queue.observed.wait()
    assert float(await shop.redis.hget(keys.BUDGET + "haiku-5-5", "requests_rate")) == 600
    (said,) = (entry for entry in logs if entry["event"] == events.LIMIT_DIFFERS)
    assert (said["dimension"], said["limit"], said["obeyed"]) == ("requests", 600, True)


async def test_what_was_used_corrects_the_budget_and_the_run(shop):
    shop.api.script = [answering(usage={"input_tokens": 70, "cache_read_input_tokens": 5_000, "output_tokens": 9})]
    pace = {**PLENTY, "input": Pace(60_000, 1_000), "output": Pace(60_000, 1_000)}
    await shop.queue.configure("haiku-5-5", pace)
    await shop.submit(make_job(run="run-1"))
    before = shop.clock.now
    await shop.work()
    budget = await shop.redis.hgetall(f"{keys.BUDGET}haiku-5-5")
    assert [float(budget[name]) - before for name in (b"input_tat", b"output_tat")] == [70, 9]
    run = await shop.redis.hgetall(f"{keys.RUN}run-1")
    assert (run[b"succeeded"], run[b"input_tokens"], run[b"output_tokens"]) == (b"1", b"70", b"9")


@pytest.mark.parametrize(
    "counted",
    [{"count_cache_reads": True}, {"budgets": {"haiku-5-5": {"count_cache_reads": True}}}],
    ids=["all", "one"],
)
async def test_tokens_read_from_the_cache_count_where_the_limit_is_of_that_kind(tmp_path, counted):
    async with workshop(tmp_path, **counted) as shop:
        shop.api.script = [answering(usage={"input_tokens": 70, "cache_read_input_tokens": 5_000, "output_tokens": 9})]
        await shop.queue.configure("haiku-5-5", {**PLENTY, "input": Pace(60_000, 1_000)})
        await shop.submit(make_job())
        before = shop.clock.now
        await shop.work()
        assert float(await shop.redis.hget(f"{keys.BUDGET}haiku-5-5", "input_tat")) - before == 5_070


async def test_a_price_that_is_not_known_is_said_once_and_left_empty(shop):
    async with workshop(shop.settings.data_dir, redis=shop.redis, budgets={"mine": {"models": ("my-model",)}}) as own:
        await own.queue.configure("mine", PLENTY)
        await own.redis.hset(f"{keys.BUDGET}mine", mapping={f"{d}_tat": "0" for d in PLENTY})
        await own.submit(*(make_job(f"job-{n}", request={**REQUEST, "model": "my-model"}) for n in range(3)))
        with capture_logs() as logs:
            await own.work()
        assert [(await own.store.result(f"job-{n}")).cost_usd for n in range(3)] == [None] * 3
        assert [entry for entry in logs if entry["event"] == "price_unknown"] == [
            {"event": "price_unknown", "log_level": "warning", "model": "my-model"}
        ]


# tried again --------------------------------------------------------------------------------------------------------


async def test_a_job_that_failed_and_was_then_answered_keeps_both_attempts(shop):
    shop.api.script = [failing(500, "api_error", "Internal server error."), answering()]
    await shop.submit(make_job())
    await shop.work()

    assert shop.steps.taken == TRIED
    assert [attempt.outcome for attempt in (await shop.store.attempts(["job-1"]))["job-1"]] == ["server_error"]
    assert (await shop.record_of())["attempts"] == 0, "nothing tells yet that it is the job's own fault"
    shop.clock.advance(SECOND - timedelta(milliseconds=1))
    assert await shop.work() == 0
    shop.clock.advance(timedelta(milliseconds=1))
    await shop.work()

    result = await shop.store.result("job-1")
    assert [(attempt.number, attempt.outcome) for attempt in result.attempts] == [(1, "server_error"), (2, "succeeded")]
    first = result.attempts[0]
    assert (first.status_code, first.request_id, first.model) == (500, "req_bad", "claude-haiku-5-5")
    assert first.failure.to_line() == {
        "name": "server_error",
        "message": "the API failed: Internal server error.",
        "blame": "provider",
    }
    assert shop.steps.taken == TRIED + ANSWERED
    assert await is_gone(shop)


async def test_a_job_whose_attempts_are_used_up_becomes_a_dead_letter(shop):
    shop.api.script = [failing(409, "conflict_error", "Oops.")]
    await shop.submit(make_job(max_attempts=3, run="run-1", position=2))
    payload = await shop.redis.get(keys.PAYLOAD + "job-1")
    await shop.run_to_end()

    result = await shop.store.result("job-1")
    assert (result.status, result.error.name, result.run, result.position) == (
        Status.FAILED,
        "conflict",
        "run-1",
        2,
    )
    assert outcomes(result) == ["conflict"] * 3
    letter = await shop.store.dead_letter("job-1")
    assert (letter.reason, letter.message) == ("conflict", "the API reported a conflict: Oops.")
    assert (letter.payload, letter.attempts, letter.redrivable) == (payload, 3, True)
    assert unpack_job(unpack_envelope(letter.payload), job_id="job-1") == make_job(
        max_attempts=3, run="run-1", position=2
    )
    assert len(shop.api.requests) == 3
    assert await is_gone(shop)


async def test_what_would_fail_again_is_not_tried_again(shop):
    shop.api.script = [failing(400, "invalid_request_error", "max_tokens: too many")]
    await shop.submit(make_job())
    await shop.work()
    assert shop.steps.taken == ANSWERED
    assert (await shop.left_in_redis()).error.message == (
        "the request is not valid: mend it, then redrive: max_tokens: too many"
    )
    assert len(shop.api.requests) == 1


async def test_a_refusal_keeps_what_was_said_and_what_it_cost(shop):
    shop.api.script = [answering("I would rather", stop_reason="refusal")]
    await shop.submit(make_job())
    await shop.work()
    result = await shop.store.result("job-1")
    assert (result.status, result.error.name, result.text) == (Status.FAILED, "refused", "I would rather")
    assert result.cost_usd == Decimal("0.0000035")


async def test_a_fallback_is_asked_on_its_own_budget(shop):
    shop.api.script = [answering(None, stop_reason="refusal"), answering(model=OTHER)]
    await shop.submit(make_job(fallbacks=(OTHER,), request={**REQUEST, "system": "Be brief."}))
    await shop.work()
    record = await shop.record_of()
    assert (record["route"], record["budget"], record["attempts"], record["state"]) == (1, "sonnet-5", 1, "r")

    await shop.work()
    asked = [request.json for request in shop.api.requests]
    assert asked[1] == {**asked[0], "model": OTHER}
    result = await shop.store.result("job-1")
    assert (result.status, result.model) == (Status.SUCCEEDED, OTHER)
    assert [attempt.model for attempt in result.attempts] == ["claude-haiku-5-5", OTHER]
    assert (result.asked_model, result.kind) == (
        "claude-haiku-5-5",
        prepare(make_job(request=asked[0]), shop.settings).kind,
    )
    usage = Usage(input_tokens=10, output_tokens=5)
    assert [attempt.usage for attempt in result.attempts] == [usage, usage]
    assert result.cost_usd == Decimal("0.0000035") + Decimal("0.00007"), "the refusal was billed too"


async def test_a_retry_that_another_worker_makes_knows_the_attempts_before(shop):
    shop.api.script = [failing(500, "api_error")]
    await shop.submit(make_job())
    await shop.work()
    async with workshop(shop.settings.data_dir, redis=shop.redis) as other:
        other.clock.advance(10 * SECOND)
        await other.work()
        result = await other.store.result("job-1")
    assert outcomes(result) == ["server_error", "succeeded"]


@pytest.mark.parametrize(
    "step",
    [failing(429, "rate_limit_error"), failing(401, "authentication_error"), failing(529), failing(503)],
    ids=["429", "401", "529", "503"],
)
async def test_waiting_uses_up_no_attempt_however_often(shop, step):
    shop.api.script = [*[step] * 10, answering()]
    await shop.submit(make_job(max_attempts=1))
    await shop.run_to_end(most=3_000)
    result = await shop.store.result("job-1")
    assert result.status is Status.SUCCEEDED
    assert [attempt.number for attempt in result.attempts] == list(range(1, 12))


async def test_a_429_stops_everybody_on_that_budget_and_nobody_else(shop):
    shop.api.script = [failing(429, "rate_limit_error", headers={"retry-after": "7"}), answering()]
    await shop.submit(make_job("a"))
    await shop.work()
    assert shop.steps.taken == [*MOVED[:4], "block", "snooze", "snoozed"], "blocked before the job is free to go"
    assert await shop.blocked_for() == 7 * SECOND

    await shop.submit(make_job("b"), make_job("elsewhere", request={**REQUEST, "model": OTHER}))
    async with workshop(shop.settings.data_dir, redis=shop.redis) as another_worker:
        assert await shop.blocked_for() == 7 * SECOND
        await another_worker.work()
        assert another_worker.api.jobs == ["elsewhere"]
    shop.clock.advance(7 * SECOND)
    await shop.work()
    assert shop.api.jobs == ["a", "a", "b"]


async def test_a_429_gives_back_the_tokens_that_were_not_counted(shop):
    shop.api.script = [failing(429, "rate_limit_error")]
    await shop.queue.configure("haiku-5-5", {**PLENTY, "input": Pace(60_000, 1_000)})
    await shop.submit(make_job())
    before = shop.clock.now
    await shop.work()
    assert float(await shop.redis.hget(f"{keys.BUDGET}haiku-5-5", "input_tat")) == before


async def test_the_answer_of_a_grading_job_is_a_metric_of_its_own_result(shop):
    graded = make_job(tags={"kind": "faq"})
    await shop.submit(graded)
    await shop.work()
    shop.api.script = [answering('{"why": "It greets.", "grade": 9}')]
    await shop.submit(grading_job(graded, await shop.store.result("job-1"), model=OTHER))
    await shop.work()
    result = await shop.store.result("grade-of-job-1")
    assert (result.quality["grade"], result.lane, result.tags["grades"]) == (0.9, "overnight", "job-1")
    assert (await shop.store.result("job-1")).quality["grade"] is None
