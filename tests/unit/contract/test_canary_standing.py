"""What the answers to canaries come to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from promptmill.canaries.standing import Passed, standings
from promptmill.store.canary_answers import CanaryAnswer

NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


def history(**verdicts: str) -> list[CanaryAnswer]:
    """Answers round by round: of each canary `+` passed, `-` failed, `?` could not be checked, `x` was not answered."""
    meaning = {"+": True, "-": False, "?": None, "x": None}
    return [
        CanaryAnswer(
            f"{canary}-{number}", "a", "canary:1", canary, f"r{number}", NINE + number * HOUR, meaning[one], one != "x"
        )
        for number, of_round in enumerate(zip(*verdicts.values(), strict=True))
        for canary, one in zip(verdicts, of_round, strict=True)
    ]


def test_without_answers_there_is_no_standing():
    assert standings([]) == []


def test_the_newest_round_stands_beside_all_that_were_before():
    [one] = standings(history(sum="+++-", hello="+-+x", poem="+?++"))
    assert (one.model, one.kind, one.round, one.at) == ("a", "canary:1", "r3", NINE + 3 * HOUR)
    assert (one.now, one.before) == (Passed(1, 2), Passed(7, 8))
    assert one.unanswered == 1
    assert one.fails == (0, 1, 0, 1)
    assert one.now.share == pytest.approx(0.5)
    assert Passed(0, 0).share is None


def test_a_canary_that_always_passed_and_now_fails_is_shown_first():
    [one] = standings(history(never="-----", flaky="+-+--", good="+++++", lost="++++-", back="---++"))
    assert [(failing.canary, failing.since, failing.fails, failing.passed_before) for failing in one.failing] == [
        ("lost", NINE + 4 * HOUR, 1, 4),
        ("flaky", NINE + 3 * HOUR, 2, 1),
        ("never", NINE, 5, 0),
    ]
    assert [failing.job_id for failing in one.failing] == ["lost-4", "flaky-4", "never-4"]


def test_a_round_without_an_answer_ends_no_failure():
    [one] = standings(history(sum="++-x"))
    assert [(failing.fails, failing.since) for failing in one.failing] == [(1, NINE + 2 * HOUR)]


def test_a_changed_set_begins_anew():
    old = history(sum="----")
    new = [CanaryAnswer("n", "a", "canary:2", "sum", "r9", NINE + 9 * HOUR, passed=True, answered=True)]
    [one] = standings([*old, *new])
    assert (one.kind, one.now, one.before, one.failing) == ("canary:2", Passed(1, 1), Passed(0, 0), ())


def test_each_model_stands_by_itself():
    other = CanaryAnswer("o", "b", "canary:1", "sum", "r0", NINE, passed=False, answered=True)
    assert [(one.model, one.now) for one in standings([other, *history(sum="+")])] == [
        ("a", Passed(1, 1)),
        ("b", Passed(0, 1)),
    ]
