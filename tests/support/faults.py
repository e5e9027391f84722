"""What each fault of the simulator is to be called, where limits are shorter than what takes for ever: told once."""

from __future__ import annotations

from typing import Final

from promptmill.testing.simulator import FAULTS

_BOTH_WAYS: Final = {
    "invalid_request_error": "invalid_request",
    "own_spend_limit_reached": "spend_limit_reached",
    "authentication_error": "bad_key",
    "billing_error": "billing_problem",
    "linked_organization_spend_limit_reached": "billing_problem",
    "permission_error": "not_permitted",
    "not_found_error": "not_found",
    "not_found_html": "foreign_error",
    "proxy_authentication_html": "connection_failed",
    "redirect": "redirected",
    "request_timeout": "request_timeout",
    "conflict_error": "conflict",
    "request_too_large": "too_large",
    "request_too_large_html": "too_large",
    "unprocessable_entity": "invalid_request",
    "rate_limit_error": "rate_limited",
    "rate_limit_error_without_retry_after": "rate_limited",
    "ramp_limit_exceeded": "ramp_limited",
    "enforced_spend_limit_reached": "spend_limit_reached",
    "contract_spend_limit_reached": "spend_limit_reached",
    "api_error": "server_error",
    "bad_gateway_html": "server_error",
    "wrong_charset": "server_error",
    "service_unavailable_text": "unavailable",
    "service_unavailable_empty": "unavailable",
    "not_gzip": "unavailable",
    "gateway_timeout": "gateway_timeout",
    "unknown_error_html": "server_error",
    "overloaded_error": "overloaded",
    "no_content": "empty_body",
    "html": "not_json",
    "html_as_json": "not_json",
    "cut_json": "not_json",
    "invalid_utf8": "not_json",
    "foreign_json": "not_a_message",
    "error_envelope": "not_a_message",
    "json_null": "not_a_message",
    "json_list": "not_a_message",
    "empty_json": "empty_body",
    "empty_text": "empty_body",
    "empty_without_content_type": "empty_body",
    "odd_usage": "succeeded",
    "empty_content": "empty_answer",
    "no_stop_reason": "incomplete_message",
    "refusal": "refused",
    "max_tokens": "cut_at_max_tokens",
    "unfit_tool_input": "succeeded",
    "context_window_exceeded": "context_full",
    "pause_turn": "turn_paused",
    "connection_closed": "cut_off",
    "connection_reset": "cut_off",
    "garbage": "cut_off",
    "short_body": "cut_off",
    "stream_error": "overloaded",
    "stream_cut": "cut_off",
    "stream_empty": "empty_body",
    "stream_unknown_events": "succeeded",
    "stray_script": "succeeded",
    "short_answer": "succeeded",
    "worse_model": "succeeded",
}
_EACH_WAY: Final = {
    # without streaming, with streaming
    "no_usage": ("incomplete_message", "not_a_message"),
    "hang": ("timed_out", "no_first_byte"),
    "body_hang": ("timed_out", "no_first_byte"),
    "slow_first_byte": ("timed_out", "no_first_byte"),
    "stream_stall": ("timed_out", "stalled"),
    "stream_no_stop": ("not_json", "cut_off"),
    "stream_repeated_start": ("succeeded", "not_a_message"),
}
OUTCOMES: Final = {**{name: (outcome, outcome) for name, outcome in _BOTH_WAYS.items()}, **_EACH_WAY}
"""By fault: the outcome without streaming, and with it."""

CALLING_TOOLS: Final = {"unfit_tool_input": "unfit_tool_input"}
"""Where the answer calls a tool: what only the request can tell of it."""

LIMITS: Final = {"timed_out", "no_first_byte", "stalled"}
"""Outcomes that come of our own limits."""


def outcome_of(met: str, *, streamed: bool, calls_tools: bool = False) -> str:
    """Return the outcome of a request that met this: a fault, or the status of an answer that none struck."""
    if calls_tools and met in CALLING_TOOLS:
        return CALLING_TOOLS[met]
    if met in FAULTS:
        return OUTCOMES[met][streamed]
    return {"200": "succeeded", "429": "rate_limited"}[met]
