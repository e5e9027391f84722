"""What reaches the server: the job's request, whole and once."""

from __future__ import annotations

import itertools

import orjson
import pytest

from tests.support.providers import ScriptedApi, answering, failing
from tests.support.workers import KEY, LONG, REQUEST, make_job, make_settings

FIELDS = {
    "plain": {},
    "system as text": {"system": "Be brief."},
    "system as blocks": {"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]},
    "tools": {
        "tools": [{"name": "look_up", "description": "", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    },
    "thinking": {"thinking": {"type": "enabled", "budget_tokens": 1_024}},
    "output format": {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
    "sampling that this SDK no longer knows": {"temperature": 0.2, "top_p": 1, "top_k": 5},
    "fields of the future": {"mood": "cheerful", "plan": {"steps": [1, 2.5, None, {"deep": [[], {}]}], "ok": False}},
    "null at the top": {"stop_sequences": None, "metadata": None},
    "null inside": {"metadata": {"user_id": None}, "tools": [{"name": "n", "input_schema": {"default": None}}]},
    "empty values": {"stop_sequences": [], "metadata": {}, "system": ""},
    "a field named like one of the SDK's options": {"timeout": 3, "extra_body": {"a": 1}, "output_format": "x"},
    "fields with camel case and dashes": {"serviceTier": "auto", "x-y": 1},
    "any text": {"system": 'NUL \x00, quotes ", backslash \\, \u2028, \N{GRINNING FACE}, e\u0301, \ufeff, \x7f'},
    "numbers": {"seed": 2**53 + 1, "weight": 1e-9, "big": 1.7976931348623157e308},
    "image": {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
                    {"type": "text", "text": "What is this?"},
                    {"type": "hologram", "unknown": {"to": ["this", "SDK"]}},
                ],
            },
            {"role": "assistant", "content": "It is"},
        ]
    },
}


def as_sent(body):
    """Each field as the bytes it has as JSON, the order of keys inside it included."""
    return {name: orjson.dumps(value) for name, value in body.items()}


@pytest.mark.parametrize(("base", "what"), list(itertools.product(["whole", "streamed"], FIELDS)))
async def test_the_request_reaches_the_server_as_it_was_submitted(base, what):
    request = {**(REQUEST if base == "whole" else LONG), **FIELDS[what]}
    job = make_job(request=request)
    api = ScriptedApi(answering())
    async with api.provider(make_settings()) as provider:
        await provider.send(job.request, job_id=job.id)
    expected = request if base == "whole" else {**request, "stream": True}
    assert as_sent(api.requests[0].json) == as_sent(expected)


@pytest.mark.parametrize(("base", "sent"), [(REQUEST, False), (LONG, True)], ids=["whole", "streamed"])
async def test_a_request_that_says_it_wants_no_stream_gets_what_its_length_needs(base, sent):
    request = make_job(request={**base, "stream": False}).request
    api = ScriptedApi(answering())
    async with api.provider(make_settings()) as provider:
        exchange = await provider.send(request, job_id="job-1")
    assert api.requests[0].json == {**base, "stream": sent}
    assert exchange.message["content"][0]["text"] == "Hello."


async def test_a_megabyte_of_prompt_arrives_whole():
    request = {**REQUEST, "messages": [{"role": "user", "content": "\N{GRINNING FACE}e" * 200_000}]}
    api = ScriptedApi(answering())
    async with api.provider(make_settings()) as provider:
        await provider.send(request, job_id="job-1")
    assert api.requests[0].json == request


@pytest.mark.parametrize("request_body", [REQUEST, LONG], ids=["whole", "streamed"])
async def test_a_request_carries_the_key_the_version_and_the_job(request_body):
    api = ScriptedApi(answering())
    async with api.provider(make_settings()) as provider:
        await provider.send(request_body, job_id="run/7-\N{GRINNING FACE}")
    (request,) = api.requests
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["anthropic-version"] == "2026-10-21"
    assert request.headers["x-promptmill-job"] == "run/7-?"
    assert "x-api-key" not in request.headers


@pytest.mark.parametrize(
    ("max_tokens", "streamed"), [(4_096, False), (4_097, True), (21_333, True), (21_334, True), (64_000, True)]
)
async def test_a_long_answer_is_streamed(max_tokens, streamed):
    api = ScriptedApi(answering())
    async with api.provider(make_settings()) as provider:
        await provider.send({**REQUEST, "max_tokens": max_tokens}, job_id="job-1")
    assert api.requests[0].streamed is streamed


@pytest.mark.parametrize(("max_tokens", "streamed"), [(21_333, False), (21_334, True)])
async def test_an_answer_that_may_take_more_than_ten_minutes_is_always_streamed(max_tokens, streamed):
    api = ScriptedApi(answering())
    async with api.provider(make_settings(stream_above_tokens=1_000_000)) as provider:
        await provider.send({**REQUEST, "max_tokens": max_tokens}, job_id="job-1")
    assert api.requests[0].streamed is streamed


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
async def test_what_the_sdk_would_retry_is_sent_once(status):
    api = ScriptedApi(failing(status, headers={"x-should-retry": "true", "retry-after": "0"}))
    async with api.provider(make_settings()) as provider:
        await provider.send(REQUEST, job_id="job-1")
    assert len(api.requests) == 1


async def test_the_environment_does_not_make_the_sdk_send_elsewhere(monkeypatch):
    """Only settings decide: a stray variable would send paid prompts to another account."""
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "sk-ant-somebody-else")
    api = ScriptedApi(answering())
    async with api.provider(make_settings()) as provider:
        await provider.send(REQUEST, job_id="job-1")
    assert api.requests[0].headers.get_list("authorization") == [f"Bearer {KEY}"]
