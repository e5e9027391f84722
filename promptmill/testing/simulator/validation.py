"""What the API refuses before it looks at any limit. Every check raises `RejectedError`."""

from collections.abc import Collection
from typing import Any

import orjson

from promptmill.testing.simulator.models import Model, find_model
from promptmill.testing.simulator.prompt import Prompt
from promptmill.testing.simulator.replies import ErrorReply, RejectedError, invalid

MOST_BYTES = 32 * 1024 * 1024

_FIELDS = frozenset(
    {
        "cache_control",
        "container",
        "context_management",
        "diagnostics",
        "inference_geo",
        "max_tokens",
        "mcp_servers",
        "messages",
        "metadata",
        "model",
        "output_config",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "thinking",
        "tool_choice",
        "tools",
        "user_profile_id",
    }
)
_GONE = frozenset({"temperature", "top_p", "top_k"})
# Tuples: what came may be a list, which cannot be looked up in a set.
_ROLES = ("user", "assistant")
_THINKING = ("adaptive", "between_tools", "disabled", "enabled")
_TOOL_CHOICES = ("any", "auto", "none", "tool")
_LEAST_THINKING = 1_024


def check_key(authorization: str, rejected: Collection[str]) -> None:
    """Refuse a request without a bearer token, or with a rejected one."""
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise RejectedError(
            ErrorReply(401, "authentication_error", "Expected the header Authorization: Bearer <API key>.")
        )
    if key.strip() in rejected:
        raise RejectedError(ErrorReply(401, "authentication_error", "The API key is not valid."))


def too_large() -> RejectedError:
    """Return the 413 for a body over 32 MB."""
    return RejectedError(
        ErrorReply(413, "request_too_large", f"The request is larger than the {MOST_BYTES} bytes allowed.")
    )


def parse(raw: bytes) -> dict[str, Any]:
    """Parse the body: a JSON object."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise invalid(f"The request body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise invalid(f"The request body is expected to be a JSON object, got {type(body).__name__}.")
    return body


def check_create(body: dict[str, Any]) -> Model:
    """Check the body of `POST /v1/messages` and return its model."""
    _check_fields(body, required=("model", "max_tokens", "messages"))
    model = _check_model(body["model"])
    _check_max_tokens(body, model)
    _check_common(body)
    _check_stops(body)
    _check_kind(body, "stream", bool)
    return model


def check_count(body: dict[str, Any]) -> Model:
    """Check the body of `POST /v1/messages/count_tokens` and return its model."""
    _check_fields(body, required=("model", "messages"))
    model = _check_model(body["model"])
    _check_common(body)
    return model


def check_length(prompt: Prompt) -> None:
    """Refuse a prompt that does not fit the model's context window."""
    most = prompt.model.max_input_tokens
    if prompt.tokens > most:
        raise invalid(f"prompt is too long: {prompt.tokens} tokens, at most {most}")


def _check_fields(body: dict[str, Any], *, required: tuple[str, ...]) -> None:
    for name in required:
        if name not in body:
            raise invalid(f"{name}: Field required")
    for name in body.keys() - _FIELDS:
        if name in _GONE:
            raise invalid(f"{name}: this parameter is no longer supported")
        raise invalid(f"{name}: Extra inputs are not permitted")


def _check_model(name: Any) -> Model:
    if not isinstance(name, str) or not name:
        raise invalid("model: expected a non-empty string")
    model = find_model(name)
    if model is None or model.lifecycle == "retired":
        raise RejectedError(ErrorReply(404, "not_found_error", f"model: {name}"))
    return model


def _check_max_tokens(body: dict[str, Any], model: Model) -> None:
    most = body["max_tokens"]
    if not isinstance(most, int) or isinstance(most, bool) or most < 0:
        raise invalid(f"max_tokens: expected an integer of 0 or more, got {most!r}")
    if most > model.max_tokens:
        raise invalid(f"max_tokens: {most} > {model.max_tokens}, the most {model.id} can generate")


def _check_common(body: dict[str, Any]) -> None:
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        raise invalid("messages: expected a list of at least one message")
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise invalid(f"messages.{at}.role: expected 'user' or 'assistant'")
        _check_content(f"messages.{at}.content", message.get("content"), may_be_empty=False)
    if messages[0]["role"] != "user":
        raise invalid("messages.0.role: the first message is expected to be the user's")
    if body.get("system") is not None:
        _check_content("system", body["system"], may_be_empty=True)
    _check_kind(body, "metadata", dict)
    _check_thinking(body)
    _check_tools(body)
    _check_format(body)


def _check_content(where: str, content: Any, *, may_be_empty: bool) -> None:
    if isinstance(content, str):
        if not content and not may_be_empty:
            raise invalid(f"{where}: expected content that is not empty")
        return
    if not isinstance(content, list) or not (content or may_be_empty):
        raise invalid(f"{where}: expected a string or a list of content blocks")
    for at, block in enumerate(content):
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise invalid(f"{where}.{at}: expected a content block with a type")
        if block["type"] == "text" and not isinstance(block.get("text"), str):
            raise invalid(f"{where}.{at}.text: expected a string")
        inner = block.get("content")
        if block["type"] == "tool_result" and inner is not None:
            _check_content(f"{where}.{at}.content", inner, may_be_empty=True)


def _check_stops(body: dict[str, Any]) -> None:
    stops = body.get("stop_sequences")
    if stops is None:
        return
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop.strip() for stop in stops):
        raise invalid("stop_sequences: expected a list of strings that are not blank")


def _check_kind(body: dict[str, Any], name: str, kind: type) -> None:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise invalid(f"{name}: expected {kind.__name__}, got {type(value).__name__}")


def _check_thinking(body: dict[str, Any]) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    if not isinstance(thinking, dict) or thinking.get("type") not in _THINKING:
        raise invalid(f"thinking.type: expected one of {', '.join(_THINKING)}")
    if thinking["type"] != "enabled":
        return
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < _LEAST_THINKING:
        raise invalid(f"thinking.budget_tokens: expected {_LEAST_THINKING} or more, got {budget!r}")
    if "max_tokens" in body and budget >= body["max_tokens"]:
        raise invalid("thinking.budget_tokens: expected less than max_tokens")


def _check_tools(body: dict[str, Any]) -> None:
    _check_kind(body, "tools", list)
    tools = body.get("tools") or []
    for at, tool in enumerate(tools):
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            raise invalid(f"tools.{at}.name: Field required")
        if not isinstance(tool.get("input_schema", {}), dict):
            raise invalid(f"tools.{at}.input_schema: expected an object")
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not isinstance(choice, dict) or choice.get("type") not in _TOOL_CHOICES:
        raise invalid(f"tool_choice.type: expected one of {', '.join(_TOOL_CHOICES)}")
    if choice["type"] in {"any", "tool"} and not tools:
        raise invalid("tool_choice: tools are required with this choice")
    if choice["type"] == "tool" and choice.get("name") not in [tool["name"] for tool in tools]:
        raise invalid(f"tool_choice.name: expected the name of one of the tools, got {choice.get('name')!r}")


def _check_format(body: dict[str, Any]) -> None:
    _check_kind(body, "output_config", dict)
    form = (body.get("output_config") or {}).get("format")
    if form is None:
        return
    if not isinstance(form, dict) or form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
        raise invalid("output_config.format: expected type 'json_schema' and a schema")
