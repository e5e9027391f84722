"""Answers of a provider, or of whatever stands between: each is named, recorded and can be read again; none is a crash
or a fault of ours, and what it says shows nowhere but in the result."""

from __future__ import annotations

import random
from itertools import count

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from promptmill.results import Result, Status
from promptmill.wire import deserialize, serialize
from tests.support.damage import damaged_bytes, damaged_json
from tests.support.effort import cases
from tests.support.providers import event, events_of, message, sending
from tests.support.workers import LONG, REQUEST, make_job
from worker.outcomes import Verdict, classify
from worker.provider.sightings import see_body
from worker.quality import Answer, measure

SECRET = "ANSWERMARK"
WHOLE = message(
    f"{SECRET} **says** 3.14, `x` and [1].",
    stop_details={"category": "none"},
    usage={
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_input_tokens": 3,
        "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
        "output_tokens_details": {"thinking_tokens": 2},
        "service_tier": "standard",
    },
)
WHOLE["content"] += [
    {"type": "thinking", "thinking": SECRET, "signature": "s"},
    {"type": "tool_use", "id": "t", "name": "n", "input": {"a": [1, {"b": None}]}},
]
ERROR = {
    "type": "error",
    "error": {"type": "overloaded_error", "message": "Overloaded.", "details": {"error_code": "x"}},
    "request_id": "req",
}
EVENTS = [
    *events_of(message(f"{SECRET} and more of it."))[:-2],
    event("content_block_start", index=1, content_block={"type": "tool_use", "id": "t", "name": "n", "input": {}}),
    event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"a":'}),
    event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": "1}"}),
    event("content_block_stop", index=1),
    *events_of(message())[-2:],
]
STATUSES = (200, 200, 201, 204, 302, 400, 401, 403, 404, 413, 418, 429, 500, 503, 529, 599)
HEADERS = {
    "content-type": ("application/json", "text/html", "text/event-stream", ""),
    "retry-after": ("", "-1", "1", "nan", "inf", "1e400", "99999999999", "Wed, 21 Oct 2026 07:28:00 GMT"),
    "retry-after-ms": ("", "0", "0.0001", "1e300", "x"),
    "request-id": ("", "x" * 4_000),
    "anthropic-ratelimit-requests-limit": ("", "-5", "1e99", "0", "x"),
    "anthropic-ratelimit-requests-remaining": ("-1", "nan", "9" * 400),
    "anthropic-ratelimit-requests-reset": ("yesterday", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00-23:00"),
}
SEEDS = st.integers(0, 2**64)
numbers = count(1)


@settings(max_examples=cases(400))
@given(seed=SEEDS)
def test_ten_damaged_bodies_are_named_and_what_is_taken_for_an_answer_can_be_measured(seed):
    chance = random.Random(seed)
    for _ in range(10):
        sighting = see_body(damaged_json(WHOLE, chance), status_code=200)
        policy = classify(sighting)
        assert policy.name != "internal_error"
        if policy.verdict is Verdict.ANSWERED:
            measured = measure(Answer.from_message(sighting.body), request=REQUEST, expectation=None)
            assert orjson.loads(orjson.dumps(measured)) == measured


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # as `configure_logs` has it
@settings(max_examples=cases(60))
@given(seed=SEEDS)
def test_eight_damaged_answers_leave_eight_jobs_each_with_an_end_or_a_place(loop, shop, seed):
    loop.run(answer(shop, random.Random(seed)))


async def answer(shop, chance):
    job_ids = [f"job-{next(numbers)}" for _ in range(8)]
    with capture_logs() as logs:
        for job_id in job_ids:
            streamed = chance.random() < 0.4
            await shop.submit(make_job(job_id, request=LONG if streamed else REQUEST, max_attempts=2))
            shop.api.script = [damaged_answer(chance, streamed=streamed)]
            await shop.run(await shop.claim_one())
            await shop.queue.block("haiku-5-5", shop.settings.backoff * 0, "")
            await shop.queue.cancel(job_ids)  # what went back is not sent again
            await shop.work()
    assert [entry for entry in logs if entry["event"] in {"job_crashed", "measure_failed"}] == []
    assert SECRET not in str(logs)
    for job_id in job_ids:
        result = await shop.store.result(job_id)
        assert result is not None, f"{job_id} has no end"
        faults = [attempt.failure for attempt in result.attempts if attempt.outcome == "internal_error"]
        assert faults == []
        assert SECRET not in str(result.error)
        assert Result.from_line(deserialize(serialize(result.to_line()))) == result
        if result.status is Status.SUCCEEDED:
            assert result.usage is not None
    await shop.redis.flushall()
    await shop.open_budgets()


def damaged_answer(chance, *, streamed):
    headers = {name: chance.choice(values) for name, values in HEADERS.items() if chance.random() < 0.2}
    if chance.random() < 0.4:
        return sending(chance.choice(STATUSES[2:]), damaged_json(ERROR, chance), headers)
    if not streamed:
        return sending(200, damaged_json(WHOLE, chance), headers)
    events = list(EVENTS)
    if chance.random() < 0.5:
        at = chance.randrange(len(events))
        kind, _, data = events[at].partition(b"\ndata: ")
        events[at] = kind + b"\ndata: " + damaged_json(orjson.loads(data), chance).replace(b"\n", b" ") + b"\n\n"
    if chance.random() < 0.3:
        chance.shuffle(events)
    whole = b"".join(events)
    body = damaged_bytes(whole, chance) if chance.random() < 0.5 else whole
    return sending(200, body, {"content-type": "text/event-stream", **headers})
