from __future__ import annotations

from typing import Any

import pytest

from worker.quality import Answer, measure

WEATHER = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ANYTHING = {"name": "anything", "input_schema": {}}
BASH = {"type": "bash_20250124", "name": "bash"}


def call(name: Any, arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": name, "input": arguments}


def measured(*calls: Any, tools: Any = (WEATHER, ANYTHING, BASH), stop_reason: str = "tool_use") -> tuple[int, Any]:
    answer = Answer.from_message({"content": list(calls), "stop_reason": stop_reason})
    request = {"tools": list(tools) if isinstance(tools, tuple) else tools}
    values = measure(answer, request=request, expectation=None)
    return values["tool_calls"], values["tool_calls_fit"]


@pytest.mark.parametrize(
    ("calls", "fits"),
    [
        ([], None),
        ([{"type": "text", "text": "Hello."}], None),
        ([{"type": "server_tool_use", "name": "web_search", "input": {}}], None),
        ([call("weather", {"city": "Bern"})], True),
        ([call("weather", {"town": "Bern"})], False),
        ([call("weather", '{"city": "Bern"}')], False),
        ([call("weather", None)], False),
        ([call("wether", {"city": "Bern"})], False),
        ([call(None, {})], False),
        ([call(["weather"], {})], False),
        ([call("bash", {"command": "ls"})], None),
        ([call("weather", {"city": "Bern"}), call("bash", {}), call("anything", 5)], True),
        ([call("weather", {"city": "Bern"}), call("weather", {})], False),
    ],
)
def test_each_call_has_to_fit_the_tool_that_it_names(calls: list[Any], fits: bool | None) -> None:  # noqa: FBT001
    assert measured(*calls) == (sum(block["type"] == "tool_use" for block in calls), fits)


def test_a_call_that_was_cut_is_not_judged() -> None:
    assert measured(call("weather", {}), stop_reason="max_tokens") == (1, None)


def test_where_a_set_of_tools_is_named_elsewhere_unknown_names_may_be_among_them() -> None:
    toolset = {"type": "mcp_toolset", "mcp_server_name": "files"}
    assert measured(call("read", {}), tools=(WEATHER, toolset)) == (1, None)
    assert measured(call("weather", {}), tools=(WEATHER, toolset)) == (1, False)


@pytest.mark.parametrize("tools", [None, "weather", {}, 5])
def test_a_request_whose_tools_cannot_be_read_judges_nothing(tools: Any) -> None:
    assert measured(call("weather", {}), tools=tools) == (1, None)


def test_a_schema_that_cannot_be_checked_gives_no_verdict() -> None:
    odd = {"name": "odd", "input_schema": {"type": "no such type"}}
    assert measured(call("odd", {}), tools=(odd,)) == (1, None)
