"""`promptmill errors` on a real store."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from promptmill.results import Attempt, Failure, Result, Status


def attempt(number: int, model: str, ended: datetime, outcome: str = "succeeded", blame: str = "") -> Attempt:
    failure = Failure(outcome, "said so", blame) if blame else None
    return Attempt(number, model, ended, ended, outcome, failure=failure)


@pytest.fixture
def busy(machine):
    """An hour ago: 40 answers, 8 of them after a 529, 4 of those from a fallback; and a bad request."""
    then = datetime.now(UTC) - timedelta(hours=1)

    def job(number: int) -> Result:
        tried = [attempt(1, "opus", then, "overloaded", "provider")] if number < 8 else []
        tried.append(attempt(2, "haiku" if number < 4 else "opus", then))
        return Result(
            f"job-{number}", Status.SUCCEEDED, asked_model="opus", attempts=tuple(tried), finished_at=then, model="x"
        )

    refused = attempt(1, "opus", then, "invalid_request", "ours")
    bad = Result("bad", Status.FAILED, asked_model="opus", attempts=(refused,), finished_at=then)
    machine.on_store(lambda store: store.record([*map(job, range(40)), bad]))
    return machine


def test_an_empty_store_says_so(machine):
    machine.run("db", "upgrade")
    assert machine.run("errors").stdout == "no requests in the last 24 hours\n"
    assert json.loads(machine.run("errors", "--json").stdout) == {
        "requests": {}, "errors": [], "answers": {}, "fallbacks": []
    }  # fmt: skip


def test_failures_and_fallbacks_are_told_with_whose_fault_and_why(busy):
    lines = [line.split() for line in busy.run("errors", "--since", "3").stdout.splitlines()]
    hours = ["3", "hours", "until", "now"]
    assert lines == [
        ["model", "outcome", "whose", "fault", "requests", "share", *hours],
        ["opus", "overloaded", "provider", "8", "17.78%", "█"],
        ["opus", "invalid_request", "ours", "1", "2.22%", "█"],
        [],
        ["asked", "first", "answered", "reason", "answers", "share", *hours],
        ["opus", "haiku", "overloaded", "4", "10.00%", "█"],
    ]


def test_json_has_the_hours(busy):
    told = json.loads(busy.run("errors", "--json").stdout)
    assert (told["requests"], told["answers"]) == ({"opus": 45, "haiku": 4}, {"opus": 40})
    (hour,) = told["errors"][0].pop("hours").items()
    assert (datetime.fromisoformat(hour[0]).minute, hour[1]) == (0, 8)
    assert told["errors"][0] == {
        "model": "opus", "outcome": "overloaded", "blame": "provider", "requests": 8, "share": 8 / 45
    }  # fmt: skip
    assert [(one["model"], one["reason"], one["answers"]) for one in told["fallbacks"]] == [("haiku", "overloaded", 4)]


def test_that_nothing_failed_is_said_too(machine):
    now = datetime.now(UTC)
    ok = Result("a", Status.SUCCEEDED, asked_model="opus", attempts=(attempt(1, "opus", now),), finished_at=now)
    machine.on_store(lambda store: store.record([ok]))
    assert machine.run("errors").stdout.splitlines() == [
        "none of 1 requests failed",
        "",
        "no answer came from a fallback",
    ]
