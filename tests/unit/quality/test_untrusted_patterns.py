from __future__ import annotations

from datetime import timedelta

import pytest

from worker.quality.patterns import PATIENCE, Deadline, Undecided, search


class Clock:
    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


def test_a_deadline_holds_until_its_very_moment() -> None:
    clock = Clock()
    deadline = Deadline(timedelta(seconds=2), clock=clock)
    assert deadline.left() == 2.0
    clock.now = 6.9
    assert deadline.left() == pytest.approx(0.1)
    clock.now = 7.0
    with pytest.raises(Undecided):
        deadline.left()


def test_nothing_is_searched_after_the_deadline() -> None:
    clock = Clock()
    deadline = Deadline(clock=clock)
    assert search("a", "a", deadline)
    clock.now += PATIENCE.total_seconds()
    with pytest.raises(Undecided):
        search("a", "a", deadline)


def test_patterns_mean_what_they_mean_to_python() -> None:
    deadline = Deadline(clock=Clock())
    assert search(r"(?i)caf\w\b", "Le CAFÉ.", deadline)
    assert search(r"^b$", "a\nb", deadline) is False
    assert search(r"(?m)^b$", "a\nb", deadline)
    assert search(r"(?P<x>ab)(?P=x)", "abab", deadline)
    assert search(r"\d{4}-\d{2}-\d{2}", "on 2026-11-22", deadline)
