"""Tool calls in an answer: how many, and whether their arguments are what the tool asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from worker.quality.answer import Answer
from worker.quality.patterns import Deadline
from worker.quality.schema import satisfies

_MAX_CHECKED: Final = 20


def tool_calls(answer: Answer) -> int:
    """Count the tools that the answer asks to be called. Cannot see: tools that the API itself runs."""
    return sum(1 for _ in _calls(answer))


def tool_calls_fit(answer: Answer, request: Mapping[str, Any]) -> bool | None:
    """Whether every tool call names a tool of the request and satisfies its `input_schema`; None without any to check.

    Sees: the first 20 calls, against JSON Schema (draft 2020-12). Leaves out: an answer that was cut in the middle of
    a call, tools that have no schema in the request (the API's own, such as `bash`), and schemas that cannot be
    checked (see the expectation's `json_schema`). Cannot see: whether the call is the right one, and whether its
    arguments are true.
    """
    if answer.stop_reason == "max_tokens":
        return None
    calls = list(_calls(answer))[:_MAX_CHECKED]
    if not calls:
        return None
    tools = request.get("tools")
    if not isinstance(tools, list):
        return None
    by_name = {tool.get("name"): tool for tool in tools if isinstance(tool, Mapping) and _is_text(tool.get("name"))}
    if len(by_name) < len(tools):  # a whole set of tools, whose names stand elsewhere
        by_name = {call["name"]: {} for call in calls if _is_text(call.get("name"))} | by_name
    deadline = Deadline()
    verdicts = [_fits(call, by_name, deadline) for call in calls]
    if False in verdicts:
        return False
    return True if True in verdicts else None


def _fits(call: Mapping[str, Any], tools: Mapping[Any, Mapping[str, Any]], deadline: Deadline) -> bool | None:
    name = call.get("name")
    if not _is_text(name) or name not in tools:
        return False
    schema = tools[name].get("input_schema")
    return satisfies(call.get("input"), schema, deadline) if isinstance(schema, dict) else None


def _calls(answer: Answer) -> Iterator[Mapping[str, Any]]:
    blocks = (answer.message or {}).get("content")
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, Mapping) and block.get("type") == "tool_use":
            yield block


def _is_text(value: object) -> bool:
    return isinstance(value, str)
