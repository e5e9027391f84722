from __future__ import annotations

import json
from random import Random

import pytest

from worker.monitoring import OVERALL, Series
from worker.quality.metric import Metric

METRICS = tuple(Metric(name, "score", "lower", lambda _: None) for name in ("one", "two", "three", "four", "five"))
EVERY = 100_000


def answer(rng: Random, down: float = 0.0) -> dict[str, float]:
    return {metric.name: rng.gauss(0.7 - down, 0.1) for metric in METRICS}


def test_a_change_names_the_metric_that_moved() -> None:
    rng = Random(1)
    series = Series(METRICS, false_alarm_every=EVERY)
    assert [change for at in range(2_000) for change in series.observe(answer(rng), at)] == []
    changes = [
        change
        for at in range(2_000, 2_200)
        for change in series.observe({**answer(rng), "two": rng.gauss(0.55, 0.1)}, at)
    ]
    assert "two" in {change.metric for change in changes} <= {"two", OVERALL}
    assert series.detector("two").is_raised
    assert not series.detector("one").is_raised


def test_what_moves_a_little_in_every_metric_shows_first_in_all_of_them_together() -> None:
    rng = Random(2)
    series = Series(METRICS, false_alarm_every=EVERY)
    for at in range(3_000):
        assert series.observe(answer(rng), at) == []
    changes = [change for at in range(3_000, 3_300) for change in series.observe(answer(rng, down=0.03), at)]
    assert changes[0].metric == OVERALL


def test_a_metric_that_gets_its_baseline_late_does_not_change_what_all_of_them_together_means() -> None:
    rng = Random(4)
    series = Series(METRICS, false_alarm_every=EVERY)
    for at in range(6_000):
        given = answer(rng)
        if at % 5:
            del given["five"]  # its baseline comes after 2,000 answers
        assert series.observe(given, at) == []
    assert series.detector("five").baseline is not None
    assert series.to_json()["together"] == ["four", "one", "three", "two"]


def test_all_of_them_together_begin_anew_when_one_is_no_longer_measured() -> None:
    rng = Random(5)
    series = Series(METRICS, false_alarm_every=EVERY)
    for at in range(2_000):
        series.observe(answer(rng), at)
    again = Series(METRICS[:4], false_alarm_every=EVERY, stored=series.to_json())
    assert series.detector(OVERALL).baseline is not None
    assert again.detector(OVERALL).baseline is None
    assert again.detector("one").baseline == series.detector("one").baseline


def test_what_a_metric_has_an_alarm_for_by_itself_is_not_said_again_of_all_together() -> None:
    rng = Random(6)
    series = Series(METRICS, false_alarm_every=EVERY)
    for at in range(2_000):
        series.observe(answer(rng), at)
    changes = [
        change
        for at in range(2_000, 3_000)
        for change in series.observe({**answer(rng), "two": rng.gauss(0.4, 0.1)}, at)
    ]
    assert [change.metric for change in changes] == ["two"]


@pytest.mark.parametrize("value", [None, "fluent", float("nan"), float("inf"), 10**400, [1], {"a": 1}])
def test_a_value_that_is_no_number_is_left_out(value: object) -> None:
    series = Series(METRICS, false_alarm_every=EVERY)
    assert series.observe({"one": value}, 1) == []
    assert series.detector("one").to_json()["seen"] == 0


def test_a_series_that_was_stored_goes_on_and_a_metric_that_is_new_begins_to_learn() -> None:
    rng = Random(3)
    series = Series(METRICS[:4], false_alarm_every=EVERY)
    for at in range(1_000):
        series.observe(answer(rng), at)
    stored = json.loads(json.dumps(series.to_json()))
    again = Series(METRICS, false_alarm_every=EVERY, stored=stored)
    assert again.detector("one").baseline == series.detector("one").baseline
    assert again.detector("five").baseline is None


def test_more_metrics_raise_the_bar_for_each_of_them() -> None:
    few, many = Series(METRICS[:1], false_alarm_every=EVERY), Series(METRICS, false_alarm_every=EVERY)
    assert many.detector("one")._false_alarm_every == 3 * few.detector("one")._false_alarm_every
