from __future__ import annotations

import math
from bisect import bisect_right
from random import Random
from statistics import fmean, stdev

import pytest

from worker.monitoring import Baseline
from worker.monitoring.ways import ratios


def test_ranges_hold_about_as_many_answers_each_whatever_the_tail() -> None:
    rng = Random(1)
    baseline = Baseline.of([rng.paretovariate(1.1) for _ in range(2_400)])
    assert len(baseline.counts) == 24
    assert all(90 <= count <= 110 for count in baseline.counts)


def test_values_that_are_repeated_share_a_range() -> None:
    baseline = Baseline.of([0.0] * 50 + [1.0] * 30 + [7.0] * 20)
    assert [count for count in baseline.counts if count] == [50, 30, 20]


def test_beyond_a_frequent_extreme_there_is_a_range_in_which_nothing_was_yet() -> None:
    baseline = Baseline.of([1.0] * 400)
    assert baseline.counts == (0, 400, 0)
    assert baseline.cuts[0] < 1.0 < baseline.cuts[1]


def test_beyond_a_rare_extreme_there_is_none_because_records_are_broken_all_the_time() -> None:
    baseline = Baseline.of([float(value) for value in range(400)])
    assert 0 not in baseline.counts


def test_a_baseline_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        Baseline.of([])


@pytest.mark.parametrize("counts", [(0, 400), (3, 9_997), (200, 200), (400, 0)])
@pytest.mark.parametrize("worse", ["lower", "higher"])
def test_every_way_is_a_likelihood_ratio_that_grows_with_badness(counts: tuple[int, int], worse: str) -> None:
    baseline = Baseline((0.5,), counts)
    for way in ratios(baseline, "flag", worse, clean=0):
        good, bad = way.logs[::-1] if worse == "lower" else way.logs
        assert good < 0 < bad
        assert way.information > 0


def test_a_larger_baseline_is_doubted_less_and_so_tells_more() -> None:
    small, large = (next(ratios(Baseline((0.5,), (size, 9 * size)), "flag", "lower", clean=0)) for size in (40, 4_000))
    assert large.logs[0] > small.logs[0]


def test_what_is_known_beforehand_makes_one_fault_weigh_more() -> None:
    flawless = Baseline((0.5,), (400, 0))
    learned, known = (
        max(way.logs[1] for way in ratios(flawless, "flag", "higher", clean=clean)) for clean in (0, 20_000)
    )
    assert known > learned + math.log(2)


def test_surprise_is_measured_from_the_bad_end() -> None:
    baseline = Baseline((0.5,), (10, 990))
    assert baseline.surprises("lower") == pytest.approx((math.log(1001 / 10.5), math.log(1001 / 1000.5)))
    assert baseline.surprises("higher") == pytest.approx((math.log(1001 / 1000.5), math.log(1001 / 990.5)))
    assert baseline.surprises("either") == (0.0, 0.0)


@pytest.mark.parametrize("tail", [0.4, 1.0])
def test_the_mean_and_spread_of_what_was_learned_are_known_about(tail: float) -> None:
    rng = Random(7)
    values = [rng.lognormvariate(6, tail) for _ in range(4_000)]
    baseline = Baseline.of(values[:400])
    counts = [0] * len(baseline.counts)
    for value in values[400:]:
        counts[bisect_right(baseline.cuts, value)] += 1
    learned = baseline.with_more(counts)
    assert baseline.mean == pytest.approx(fmean(values[:400]))
    assert learned.mean == pytest.approx(fmean(values), rel=0.05)
    assert learned.spread == pytest.approx(stdev(values), rel=0.25)


def test_a_baseline_is_kept_with_its_means_and_one_of_0_1_0_has_none() -> None:
    baseline = Baseline.of([1.0, 2.0, 2.0, 9.0])
    assert Baseline.from_json(baseline.to_json()) == baseline
    assert Baseline.from_json({"cuts": [0.5], "counts": [3, 1]}) == Baseline((0.5,), (3, 1), means=())
