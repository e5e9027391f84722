"""`make bench-quality` in small: real texts, really measured, few of them."""

from __future__ import annotations

from math import inf, log
from statistics import fmean

import pytest

from tests.bench.quality.pools import BULLETS, CODE, EXPLAIN, SCENARIOS, Scenario, measured, worse
from tests.bench.quality.replays import fastest, summarise
from tests.bench.quality.unchanged import watch

RUNS = 5
POOL = 300


@pytest.mark.parametrize(
    ("scenario", "shown_by"),
    [
        (Scenario("(a)", 300, EXPLAIN, worse(EXPLAIN), share=0.16), {"similarity", "hedging", "overall"}),
        (Scenario("(b)", 500, BULLETS, BULLETS.changed(stray=1.0), share=0.01), {"stray_script"}),
        (Scenario("(d)", 300, CODE[0.9], CODE[0.9].changed(code=0.8)), {"code_block"}),
        (Scenario("(e)", 300, EXPLAIN, EXPLAIN.changed(sentences=8)), {"chars", "words", "output_tokens"}),
    ],
    ids=lambda value: value.name if isinstance(value, Scenario) else "",
)
def test_an_incident_is_noticed_in_time_and_by_the_metric_that_it_is_about(
    scenario: Scenario, shown_by: set[str]
) -> None:
    found = summarise(scenario, runs=RUNS, pool=POOL, seed="small")
    assert found.median <= scenario.aim
    assert found.metric in shown_by
    assert found.onset_off <= 150


@pytest.mark.parametrize(
    "scenario", [one for one in SCENARIOS if one.name[1] in "cde"], ids=lambda one: one.before.name
)
def test_a_scenario_does_to_the_answers_what_its_name_says(scenario: Scenario) -> None:
    before, after = (
        measured(style, 800, seed="small", of=scenario.before) for style in (scenario.before, scenario.after)
    )
    mean = {
        name: [fmean(float(answer.get(name, 0)) for answer in pool) for pool in (before, after)]
        for name in ("similarity", "code_block", "words")
    }
    exemplary = [fmean(answer["specific_examples"] > 0 for answer in pool) for pool in (before, after)]
    match scenario.name[1]:
        case "c":
            assert mean["similarity"][1] - mean["similarity"][0] == pytest.approx(-0.05, abs=0.02)
            assert exemplary[1] - exemplary[0] == pytest.approx(-0.1, abs=0.06)
        case "d":
            assert mean["code_block"][1] - mean["code_block"][0] == pytest.approx(-0.1, abs=0.05)
        case "e":
            assert mean["words"][1] / mean["words"][0] == pytest.approx(0.8, abs=0.06)


def test_a_subtly_worse_sampler_is_noticed() -> None:
    scenario = next(scenario for scenario in SCENARIOS if scenario.name.startswith("(c)"))
    assert summarise(scenario, runs=RUNS, pool=POOL, seed="small").median <= scenario.aim


def test_unchanged_answers_raise_hardly_any_alarm() -> None:
    quiet = watch(answers=20_000, series=4, pool=POOL, seed="small")
    assert quiet.answers == pytest.approx(20_000, abs=4)
    assert quiet.false_alarms == []


def test_no_test_can_notice_what_did_not_change() -> None:
    pool = [{"code_block": number % 10 > 0} for number in range(1_000)]
    fewer = [{"code_block": number % 10 > 1} for number in range(1_000)]
    told = 0.2 * log(2) + 0.8 * log(8 / 9)
    assert fastest(pool, pool, 1.0) == inf
    assert fastest(pool, fewer, 1.0) == pytest.approx((log(100_000 * told) - 1) / told, rel=0.05)
