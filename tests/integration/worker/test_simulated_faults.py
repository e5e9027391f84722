"""Every fault that the simulator knows, through the SDK and the HTTP client that workers use."""

from __future__ import annotations

from datetime import timedelta

import pytest

from promptmill.testing.simulator import FAULTS, FaultRule, Simulator, SimulatorConfig
from tests.support.workers import LONG, REQUEST, make_settings
from worker.outcomes import classify
from worker.provider import Provider

PATIENT = {"attempt_timeout": timedelta(seconds=60), "read_timeout": timedelta(seconds=60)}
IMPATIENT = {**PATIENT, "attempt_timeout": timedelta(milliseconds=100)}

SAME = {
    # outcome, streaming or not
    "invalid_request_error": "invalid_request",
    "own_spend_limit_reached": "spend_limit_reached",
    "authentication_error": "bad_key",
    "billing_error": "billing_problem",
    "linked_organization_spend_limit_reached": "billing_problem",
    "permission_error": "not_permitted",
    "not_found_error": "not_found",
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
    "service_unavailable_text": "unavailable",
    "service_unavailable_empty": "unavailable",
    "gateway_timeout": "gateway_timeout",
    "unknown_error_html": "server_error",
    "overloaded_error": "overloaded",
    "no_content": "empty_body",
    "html": "not_json",
    "html_as_json": "not_json",
    "cut_json": "not_json",
    "empty_json": "empty_body",
    "empty_text": "empty_body",
    "empty_without_content_type": "empty_body",
    "empty_content": "empty_answer",
    "no_stop_reason": "incomplete_message",
    "refusal": "refused",
    "context_window_exceeded": "succeeded",
    "pause_turn": "succeeded",
    "connection_closed": "cut_off",
    "connection_reset": "cut_off",
    "garbage": "cut_off",
    "short_body": "cut_off",
    "hang": "timed_out",
    "body_hang": "timed_out",
    "slow_first_byte": "timed_out",
    "stream_error": "overloaded",
    "stream_cut": "cut_off",
    "stream_stall": "timed_out",
    "stray_script": "succeeded",
    "short_answer": "succeeded",
    "worse_model": "succeeded",
}
DIFFERENT = {
    # outcome without streaming, with streaming
    "foreign_json": ("not_a_message", "not_json"),
    "error_envelope": ("not_a_message", "not_json"),
    "json_null": ("not_a_message", "not_json"),
    "json_list": ("not_a_message", "not_json"),
    "invalid_utf8": ("not_json", "not_json"),
    "no_usage": ("incomplete_message", "not_a_message"),
    "stream_no_stop": ("not_json", "cut_off"),
    "stream_empty": ("empty_body", "empty_body"),
}
EXPECTED = {**{name: (outcome, outcome) for name, outcome in SAME.items()}, **DIFFERENT}


def test_every_fault_has_its_row():
    assert set(EXPECTED) == set(FAULTS)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", EXPECTED)
async def test_a_fault_has_this_outcome(fault, streamed):
    expected = EXPECTED[fault][streamed]
    config = SimulatorConfig(faults=(FaultRule(fault=fault),))
    async with Simulator(config) as simulator:
        timeouts = IMPATIENT if expected == "timed_out" else PATIENT
        async with Provider(make_settings(anthropic_base_url=simulator.base_url, **timeouts)) as provider:
            exchange = await provider.send(LONG if streamed else REQUEST, job_id="job-1")
        assert classify(exchange.sighting).name == expected
        assert simulator.stats().requests <= 1, "nobody but the queue sends a request again"
