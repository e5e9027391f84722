"""Outcomes as data: each rule is reached, each policy is followed, and what no rule knows is a failure."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.results import OUTCOMES
from tests.support.providers import message
from tests.unit.worker.tables import NEVER_SENT, of_the_api
from worker.outcomes import POLICIES, Blame, Sighting, Verdict, Wire, classify


def error(status, kind=None, code=None, words=""):
    return Sighting(Wire.ERROR, status_code=status, error_type=kind, error_code=code, message=words)


def body(value, **how):
    return Sighting(Wire.BODY, status_code=200, body=value, body_bytes=1, **how)


SEEN = {
    "succeeded": [body(message()), body(message(content=[{"type": ["text"], "text": "Hello."}]))],
    "cut_at_max_tokens": [
        body(message(stop_reason="max_tokens")),
        body(message(stop_reason="max_tokens"), tools_fit=False),
    ],
    "context_full": [body(message(stop_reason="model_context_window_exceeded"))],
    "turn_paused": [body(message(stop_reason="pause_turn")), body(message(None, stop_reason="pause_turn"))],
    "unfit_tool_input": [body(message(None, stop_reason="tool_use"), tools_fit=False)],
    "rate_limited": [error(429), error(429, "rate_limit_error"), error(200, "rate_limit_error")],
    "ramp_limited": [error(429, "rate_limit_error", "ramp_limit_exceeded")],
    "spend_limit_reached": [
        error(429, "rate_limit_error", "enforced_spend_limit_reached"),
        error(429, "rate_limit_error", "contract_spend_limit_reached"),
        error(400, "invalid_request_error", words="You have reached your specified limit"),
    ],
    "bad_key": [error(401), error(401, "authentication_error")],
    "billing_problem": [error(402), error(402, "billing_error")],
    "not_permitted": [error(403), error(403, "permission_error")],
    "invalid_request": [error(422, "invalid_request_error"), error(400, "invalid_request_error"), error(418, "teapot")],
    "not_found": [error(404, "not_found_error")],
    "too_large": [error(413), error(413, "request_too_large")],
    "request_timeout": [error(408), error(408, "timeout_error")],
    "conflict": [error(409), error(409, "conflict_error")],
    "server_error": [error(500), error(502), error(520), error(599), error(200, "api_error")],
    "unavailable": [error(503)],
    "gateway_timeout": [error(504), error(504, "timeout_error")],
    "overloaded": [error(529), error(529, "overloaded_error"), error(200, "overloaded_error")],
    "connection_failed": [Sighting(Wire.NOT_CONNECTED), error(407)],
    "redirected": [error(300), error(302), error(399)],
    "tls_failed": [Sighting(Wire.TLS)],
    "no_first_byte": [Sighting(Wire.SILENT)],
    "stalled": [Sighting(Wire.STALLED)],
    "timed_out": [Sighting(Wire.TIMEOUT)],
    "cut_off": [Sighting(Wire.CUT), body(message(), streamed=True, complete=False)],
    "foreign_error": [error(400), error(404), error(405), error(422), error(499)],
    "empty_body": [Sighting(Wire.BODY, status_code=200), Sighting(Wire.BODY, status_code=204)],
    "not_json": [body(None)],
    "not_a_message": [body([]), body({}), body(3), body({"type": "message"}), body({"type": "error", "content": []})],
    "incomplete_message": [body(message(stop_reason=None)), body(message(stop_reason="")), body(message(usage={}))],
    "empty_answer": [body(message(None)), body(message(" ")), body(message(None, content=[{"type": "thinking"}]))],
    "refused": [body(message(None, stop_reason="refusal"))],
    "unrecognised": [error(None), error(101), error(200, "quantum_error"), error(0), error(600)],
    "internal_error": [Sighting(Wire.BUG)],
}


@pytest.mark.parametrize("outcome", SEEN)
def test_what_was_seen_has_a_name(outcome):
    assert [classify(sighting).name for sighting in SEEN[outcome]] == [outcome] * len(SEEN[outcome])


def test_every_outcome_is_seen_here_or_comes_from_jobs_that_were_never_sent():
    assert set(SEEN) == of_the_api()
    assert set(POLICIES) == of_the_api() | NEVER_SENT


def test_only_an_answer_is_answered():
    answered = [policy.name for policy in POLICIES.values() if policy.verdict is Verdict.ANSWERED]
    assert answered == ["succeeded", "cut_at_max_tokens", "context_full", "turn_paused", "unfit_tool_input"]


def test_every_policy_says_what_it_means_and_names_who_is_to_blame():
    for policy in POLICIES.values():
        assert policy.says, policy.name
        assert (policy.blame is Blame.NOBODY) == (policy.verdict is Verdict.ANSWERED)


def test_a_pause_has_a_length_where_the_provider_names_none():
    pauses = {policy.name: policy.pause for policy in POLICIES.values() if policy.verdict is Verdict.PAUSE}
    assert pauses == {"rate_limited": timedelta(seconds=5), "ramp_limited": timedelta(seconds=15)}


def test_the_owner_is_told_what_to_do_about_every_parked_budget():
    parked = {policy.name for policy in POLICIES.values() if policy.verdict is Verdict.PARK}
    assert parked == {"spend_limit_reached", "bad_key", "billing_problem", "not_permitted"}


def test_what_may_have_been_billed_was_not_left_unread():
    assert not [policy.name for policy in POLICIES.values() if policy.billed and policy.unread]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
BLOCKS = st.lists(st.fixed_dictionaries({"type": st.sampled_from(["text", "thinking"]), "text": JSON}))
NEARLY_A_MESSAGE = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "error"])},
    optional={
        "content": JSON
        | st.lists(st.fixed_dictionaries({"type": st.sampled_from(["text", "thinking"]), "text": JSON})),
        "stop_reason": JSON | st.sampled_from(["end_turn", "refusal"]),
        "usage": JSON | st.just({"output_tokens": 1}),
    },
)


@given(st.builds(body, JSON | NEARLY_A_MESSAGE, streamed=st.booleans(), complete=st.booleans()))
def test_whatever_a_body_holds_it_gets_an_outcome_and_an_answer_is_whole(sighting):
    policy = classify(sighting)
    if policy.verdict is Verdict.ANSWERED:
        assert sighting.body["type"] == "message"
        assert sighting.body["stop_reason"]
        assert isinstance(sighting.body["usage"]["output_tokens"], int)
        assert sighting.complete or not sighting.streamed
    assert policy.name not in {"internal_error", "unrecognised"}


@given(st.builds(error, st.none() | st.integers(), st.none() | st.text(), st.none() | st.text(), st.text()))
def test_whatever_error_comes_it_is_a_failure(sighting):
    assert classify(sighting).verdict is not Verdict.ANSWERED


def test_whoever_reads_results_knows_the_same_names():
    assert set(POLICIES) == OUTCOMES
