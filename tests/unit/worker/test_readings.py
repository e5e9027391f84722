"""Rate-limit headers are optional and untrusted."""

from __future__ import annotations

import pytest

from promptmill.pacing import Reading
from worker.provider import read_limits

WHOLE = {
    "anthropic-ratelimit-requests-limit": "1000",
    "anthropic-ratelimit-requests-remaining": "999",
    "anthropic-ratelimit-requests-reset": "2026-11-22T19:00:00Z",
    "anthropic-ratelimit-input-tokens-limit": "2000000",
    "anthropic-ratelimit-input-tokens-remaining": "1996000",
    "anthropic-ratelimit-output-tokens-limit": "400000",
    "anthropic-ratelimit-output-tokens-remaining": "0",
    "anthropic-ratelimit-tokens-limit": "2400000",
    "anthropic-ratelimit-tokens-remaining": "7",
    "anthropic-priority-input-tokens-limit": "5",
}


def test_the_limit_and_what_is_left_are_read_in_each_dimension():
    assert read_limits(WHOLE) == {
        "requests": Reading(1_000, 999),
        "input": Reading(2_000_000, 1_996_000),
        "output": Reading(400_000, 0),
    }


def test_an_answer_without_such_headers_says_nothing():
    assert read_limits({"request-id": "req_1"}) == {}


@pytest.mark.parametrize(
    "garbage", ["", "-1", "1e3", "10.5", "0x10", "1000000000000000", "nan", "unlimited", "1,000", "٣", "1 000"]
)
def test_garbage_counts_as_missing(garbage):
    name = "anthropic-ratelimit-requests"
    assert read_limits({f"{name}-limit": garbage, f"{name}-remaining": "5"}) == {"requests": Reading(None, 5)}
    assert read_limits({f"{name}-limit": "60", f"{name}-remaining": garbage}) == {"requests": Reading(60, None)}
    assert read_limits({f"{name}-limit": garbage, f"{name}-remaining": garbage}) == {}


def test_a_limit_of_nothing_is_no_limit():
    assert read_limits({"anthropic-ratelimit-requests-limit": "0"}) == {}
