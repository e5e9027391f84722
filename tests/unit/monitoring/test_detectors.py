from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import count
from random import Random

import pytest

from worker.monitoring import Detector, Found
from worker.monitoring.detector import FIRST, LEARNED

EVERY = 2_000_000


def feed(detector: Detector, values: Iterable[float], start: int = 0) -> list[tuple[int, Found]]:
    """What was found, with the position of the answer at which it was."""
    found = ((at, detector.observe(float(value), at)) for at, value in enumerate(values, start))
    return [(at, change) for at, change in found if change is not None]


def flags(rng: Random, rate: float, answers: int) -> Iterable[bool]:
    return (rng.random() < rate for _ in range(answers))


def lengths(rng: Random, factor: float, answers: int) -> Iterable[float]:
    return (factor * rng.lognormvariate(6, 0.4) for _ in range(answers))


def test_a_rate_that_falls_raises_one_alarm_that_says_since_when() -> None:
    rng = Random(1)
    detector = Detector("flag", "lower", false_alarm_every=EVERY)
    assert feed(detector, flags(rng, 0.9, 3_000)) == []
    [(at, found)] = feed(detector, flags(rng, 0.75, 600), 3_000)
    assert (found.what, found.direction) == ("worse", "lower")
    assert at < 3_300
    assert abs(found.since - 3_000) <= 60
    assert found.answers == at - found.since + 1
    assert found.once_in >= EVERY
    assert detector.is_raised


@pytest.mark.parametrize(("factor", "direction"), [(0.8, "lower"), (1.25, "higher")])
def test_lengths_are_watched_both_ways(factor: float, direction: str) -> None:
    rng = Random(2)
    detector = Detector("amount", "either", false_alarm_every=EVERY)
    assert feed(detector, lengths(rng, 1, 3_000)) == []
    [(_, found)] = feed(detector, lengths(rng, factor, 400), 3_000)
    assert found.direction == direction
    assert abs(found.since - 3_000) <= 40


def test_what_gets_better_raises_no_alarm() -> None:
    rng = Random(3)
    detector = Detector("score", "lower", false_alarm_every=EVERY)
    values = [*(rng.gauss(0.6, 0.1) for _ in range(2_000)), *(rng.gauss(0.8, 0.1) for _ in range(2_000))]
    assert feed(detector, values) == []


def test_part_of_the_answers_being_bad_is_seen_although_most_are_as_always() -> None:
    rng = Random(4)
    detector = Detector("score", "lower", false_alarm_every=EVERY)
    assert feed(detector, (rng.gauss(0.8, 0.1) for _ in range(3_000))) == []
    routed = (rng.gauss(0.4 if rng.random() < 0.16 else 0.8, 0.1) for _ in range(300))
    [(_, found)] = feed(detector, routed, 3_000)
    assert found.way == "15 in 100 badly"


@pytest.mark.parametrize("outlier", [1e9, 1e-9])
def test_an_outlier_weighs_no_more_than_the_worst_answer_before_it(outlier: float) -> None:
    rng = Random(5)
    detector = Detector("amount", "either", false_alarm_every=EVERY)
    values = [*lengths(rng, 1, 1_000), outlier, outlier, *lengths(rng, 1, 1_000)]
    assert feed(detector, values) == []


def test_one_fault_in_a_flawless_series_is_no_alarm_but_a_few_are() -> None:
    detector = Detector("flag", "higher", false_alarm_every=EVERY, clean=20_000)
    assert feed(detector, [False] * 2_000 + [True] + [False] * 2_000) == []
    faults = ([False] * 99 + [True]) * 10
    [(at, _)] = feed(detector, faults, 4_001)
    assert at < 4_001 + 600


def test_a_metric_that_was_constant_notices_what_it_never_was() -> None:
    detector = Detector("score", "lower", false_alarm_every=EVERY)
    assert feed(detector, [1.0] * 1_000) == []
    [(at, _)] = feed(detector, [1.0, 1.0, 0.5] * 20, 1_000)
    assert at < 1_030


def test_the_alarm_closes_when_answers_have_long_been_as_before_and_can_be_raised_again() -> None:
    rng = Random(6)
    detector = Detector("flag", "lower", false_alarm_every=EVERY)
    changes = []
    start = count(step=3_000)
    for rate in (0.9, 0.7, 0.9, 0.7):
        changes += [found.what for _, found in feed(detector, flags(rng, rate, 3_000), next(start))]
    assert changes == ["worse", "recovered", "worse"]


def test_an_alarm_that_is_open_is_not_raised_again() -> None:
    rng = Random(7)
    detector = Detector("amount", "either", false_alarm_every=EVERY)
    assert feed(detector, lengths(rng, 1, 2_000)) == []
    assert len(feed(detector, lengths(rng, 0.5, 2_000), 2_000)) == 1


def test_nothing_is_found_before_there_is_a_baseline() -> None:
    detector = Detector("flag", "higher", false_alarm_every=EVERY)
    assert feed(detector, [False] * (FIRST // 2) + [True] * (FIRST // 2 - 1)) == []
    assert detector.baseline is None


def test_a_baseline_learns_until_it_has_seen_enough() -> None:
    rng = Random(8)
    detector = Detector("flag", "higher", false_alarm_every=EVERY)
    feed(detector, flags(rng, 0.3, 2 * LEARNED))
    assert detector.baseline is not None
    assert LEARNED <= (learned := detector.baseline.size) < 1.25 * LEARNED
    feed(detector, flags(rng, 0.3, LEARNED), 2 * LEARNED)
    assert detector.baseline.size == learned


def test_answers_of_a_change_that_is_being_found_are_not_learned() -> None:
    rng = Random(9)
    detector = Detector("flag", "lower", false_alarm_every=EVERY)
    feed(detector, flags(rng, 0.5, 2_000))
    feed(detector, flags(rng, 0.38, 2_000), 2_000)
    assert detector.is_raised
    assert detector.baseline is not None
    bad, good = detector.baseline.counts
    assert good / (good + bad) == pytest.approx(0.5, abs=0.03)


def test_a_frozen_baseline_stays_as_it_is_until_it_is_let_go() -> None:
    rng = Random(10)
    detector = Detector("flag", "lower", false_alarm_every=EVERY)
    feed(detector, flags(rng, 0.9, 1_000))
    chosen = detector.baseline
    detector.frozen = True
    assert feed(detector, flags(rng, 0.9, 2_000), 1_000) == []
    assert detector.baseline == chosen
    detector.frozen = False
    feed(detector, flags(rng, 0.9, 2_000), 3_000)
    assert detector.baseline != chosen


@pytest.mark.parametrize("stopped_at", [10, FIRST, 2_500, 3_050, 3_500])
def test_a_detector_that_was_stored_goes_on_as_if_nothing_had_happened(stopped_at: int) -> None:
    rng = Random(11)
    values = [*lengths(rng, 1, 3_000), *lengths(rng, 0.8, 1_500), *lengths(rng, 1, 1_500)]
    one = Detector("amount", "either", false_alarm_every=EVERY)
    expected = feed(one, values)
    two = Detector("amount", "either", false_alarm_every=EVERY)
    before = feed(two, values[:stopped_at])
    stored = json.loads(json.dumps(two.to_json()))
    three = Detector.from_json(stored, "amount", "either", false_alarm_every=EVERY)
    after = feed(three, values[stopped_at:], stopped_at)
    assert [found.what for _, found in expected] == ["worse", "recovered"]
    assert before + after == expected
    assert three.to_json() == one.to_json()


def test_a_detector_stored_by_a_version_that_watched_for_other_ways_keeps_its_baseline() -> None:
    rng = Random(12)
    old = Detector("amount", "either", false_alarm_every=EVERY)
    feed(old, lengths(rng, 1, 3_000))
    stored = {**old.to_json(), "sums": [1.0], "since": [[7, 7]], "raised": 0}
    new = Detector.from_json(stored, "amount", "either", false_alarm_every=EVERY)
    assert new.baseline == old.baseline
    assert not new.is_raised
    assert feed(new, lengths(rng, 1, 1_000), 3_000) == []


HEALTHY: dict[str, tuple[str, str, Callable[[Random], float]]] = {
    "a length": ("amount", "either", lambda rng: rng.lognormvariate(6, 0.7)),
    "a length without a mean": ("amount", "higher", lambda rng: rng.paretovariate(1)),
    "a small count": ("amount", "lower", lambda rng: float(int(rng.expovariate(0.3)))),
    "mostly one": ("score", "lower", lambda rng: 1.0 if rng.random() < 0.95 else rng.choice((0.0, 0.5))),
    "a rate": ("flag", "lower", lambda rng: float(rng.random() < 0.6)),
    "a rare flag": ("flag", "higher", lambda rng: float(rng.random() < 0.002)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_unchanged_answers_raise_no_more_alarms_than_were_granted(name: str) -> None:
    kind, worse, draw = HEALTHY[name]
    alarms = 0
    for series in range(20):
        rng = Random(f"unchanged {name} {series}")
        detector = Detector(kind, worse, false_alarm_every=10_000)
        alarms += sum(found.what == "worse" for _, found in feed(detector, (draw(rng) for _ in range(5_000))))
    assert alarms <= 20 * 5_000 / 10_000
