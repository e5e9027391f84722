"""Intervals and changes, against published figures and by how often they hold the truth."""

from __future__ import annotations

from math import inf, sqrt
from random import Random

import pytest

from producers.cli.certainty import _student, change_of, interval_of
from promptmill.store import Learned, Sums


def sums(*values: float) -> Sums:
    return Sums(len(values), sum(values), sum(value * value for value in values))


def learned(mean: float, answers: int, spread: float | None = None) -> Learned:
    return Learned(mean, sqrt(mean * (1 - mean)) if spread is None else spread, answers)


def share(count: int, of: int) -> Sums:
    return Sums(of, count, count)


@pytest.mark.parametrize(("freedom", "quantile"), [(4, 2.776), (9, 2.262), (29, 2.045), (1000, 1.962)])
def test_students_quantile_is_the_one_in_the_tables(freedom, quantile):
    assert _student(freedom) == pytest.approx(quantile, rel=0.01)


def test_a_shares_interval_is_wilsons():
    """15 of 148: Newcombe (1998), table I, method 3."""
    assert interval_of("flag", share(15, 148)) == pytest.approx((0.0624, 0.1605), abs=1e-4)


def test_a_fault_that_was_never_seen_may_still_be_there():
    low, high = interval_of("flag", share(0, 20))
    assert low == 0
    assert high == pytest.approx(0.1611, abs=1e-4)  # the same table: 0 of 20


def test_a_single_answer_has_a_share_with_a_wide_interval_and_a_mean_without_any():
    assert interval_of("flag", share(1, 1)) == pytest.approx((0.2065, 1.0), abs=1e-4)
    assert interval_of("amount", sums(7.0)) is None
    assert interval_of("score", Sums()) is None
    assert interval_of("flag", Sums()) is None


def test_a_change_between_shares_is_newcombes():
    """56 of 70 against 48 of 80: Newcombe (1998), table II, method 10."""
    change = change_of("flag", share(56, 70), learned(48 / 80, 80))
    assert change.difference == pytest.approx(0.2)
    assert change.interval == pytest.approx((0.0524, 0.3339), abs=1e-4)


@pytest.mark.parametrize("kind", ["flag", "amount"])
def test_an_interval_of_change_holds_the_true_one_in_95_of_100_cases(kind):
    rng = Random(5)
    held = 0
    for _ in range(1_000):
        draw = (lambda p: float(rng.random() < p)) if kind == "flag" else (lambda mean: rng.gauss(mean, 0.3))
        then, now = [draw(0.8) for _ in range(400)], [draw(0.7) for _ in range(60)]
        low, high = change_of(kind, sums(*now), learned(sum(then) / 400, 400, spread=0.3)).interval
        held += low <= -0.1 <= high
    assert 930 <= held <= 970


def test_only_a_change_for_the_worse_that_is_certain_counts():
    fell = change_of("flag", share(500, 1_000), learned(0.6, 10_000))
    assert fell.certainly_worse("lower") == pytest.approx(0.137, abs=0.01)
    assert fell.certainly_worse("either") == fell.certainly_worse("lower")
    assert fell.certainly_worse("higher") == 0
    assert change_of("flag", share(5, 10), learned(0.6, 10_000)).certainly_worse("lower") == 0


def test_values_that_never_differ_change_for_certain_or_not_at_all():
    same = change_of("score", sums(*[1.0] * 20), learned(1.0, 400, spread=0))
    assert (same.difference, same.certainly_worse("lower")) == (0, 0)
    fell = change_of("score", sums(*[0.5] * 20), learned(1.0, 400, spread=0))
    assert (fell.certainly_worse("lower"), fell.certainly_worse("higher")) == (inf, 0)
    assert change_of("score", sums(0.5, 0.5), learned(1.0, 400, spread=0)) is None
