"""What the API refuses before any limit is looked at."""

import orjson
import pytest

from promptmill.testing.simulator.replies import ErrorReply

GOOD = {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
TOOL = {"name": "look", "input_schema": {"type": "object"}}


def refused(plan) -> tuple[int, str, str]:
    assert isinstance(plan.does, ErrorReply)
    return plan.does.status, plan.does.kind, plan.does.message


@pytest.mark.parametrize("missing", ["model", "max_tokens", "messages"])
def test_a_missing_field_is_named(desk, missing):
    body = {key: value for key, value in GOOD.items() if key != missing}
    assert refused(desk.ask_raw(orjson.dumps(body))) == (400, "invalid_request_error", f"{missing}: Field required")


@pytest.mark.parametrize("gone", ["temperature", "top_p", "top_k"])
def test_sampling_parameters_are_gone(desk, gone):
    status, kind, message = refused(desk.ask(**{gone: 0}))
    assert (status, kind) == (400, "invalid_request_error")
    assert message.startswith(f"{gone}: ")


@pytest.mark.parametrize("model", ["claude-2", "gpt-7", "claude-3-5-haiku-20241022"])
def test_unknown_and_retired_models_are_not_found(desk, model):
    assert refused(desk.ask(model=model)) == (404, "not_found_error", f"model: {model}")


@pytest.mark.parametrize(
    "change",
    [
        {"model": ""},
        {"model": 5},
        {"max_tokens": "100"},
        {"max_tokens": True},
        {"max_tokens": -1},
        {"max_tokens": 10**9},
        {"messages": []},
        {"messages": "Hello"},
        {"messages": ["Hello"]},
        {"messages": [{"role": "system", "content": "Hello"}]},
        {"messages": [{"role": "assistant", "content": "Hello"}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": []}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [{"text": "Hello"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [5]}]}]},
        {"system": 5},
        {"stream": "yes"},
        {"metadata": "me"},
        {"stop_sequences": "END"},
        {"stop_sequences": [" "]},
        {"thinking": {"type": "deep"}},
        {"thinking": {"type": "enabled"}},
        {"thinking": {"type": "enabled", "budget_tokens": 100}},
        {"thinking": {"type": "enabled", "budget_tokens": 2_000}},
        {"tools": {"name": "look"}},
        {"tools": [{"input_schema": {}}]},
        {"tools": [{"name": "look", "input_schema": 5}]},
        {"tool_choice": {"type": "any"}},
        {"tools": [TOOL], "tool_choice": {"type": "perhaps"}},
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "hear"}},
        {"output_config": {"format": {"type": "yaml"}}},
        {"output_config": {"format": {"type": "json_schema"}}},
        {"no_such_field": 1},
    ],
    ids=str,
)
def test_a_malformed_request_is_refused_with_400(desk, change):
    status, kind, _ = refused(desk.ask_raw(orjson.dumps(GOOD | change)))
    assert (status, kind) == (400, "invalid_request_error")


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"null", b'"hello"', b'{"model": "\xff"}'])
def test_a_body_that_is_not_a_json_object_is_refused_with_400(desk, raw):
    assert refused(desk.ask_raw(raw))[:2] == (400, "invalid_request_error")


def test_a_body_too_large_to_be_read_is_refused_with_413(desk):
    assert refused(desk.ask_raw(None))[:2] == (413, "request_too_large")


def test_a_prompt_longer_than_the_context_window_is_refused(desk):
    status, _, message = refused(desk.ask("x" * 700_004, model="claude-haiku-4-5"))
    assert (status, message) == (400, "prompt is too long: 200002 tokens, at most 200000")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic a2V5", "key"])
def test_a_request_without_a_bearer_token_is_refused_with_401(desk, authorization):
    plan = desk.provider.create(orjson.dumps(GOOD), authorization=authorization, job=None)
    assert refused(plan)[:2] == (401, "authentication_error")


def test_a_rejected_key_is_refused_with_401_and_never_told(desk_with):
    desk = desk_with(rejected_keys={"sk-old"})
    status, kind, message = refused(desk.ask(key="sk-old"))
    assert (status, kind) == (401, "authentication_error")
    assert "sk-old" not in message
    assert desk.ask(key="sk-new").does.answer


def test_the_key_is_checked_before_anything_else(desk):
    assert refused(desk.ask_raw(b"{", key=""))[0] == 401


def test_refused_requests_cost_nothing(desk_with):
    desk = desk_with(limits={"rpm": 60, "burst": 1})
    desk.ask(temperature=1)
    desk.ask(key="")
    assert desk.ask().does.answer
