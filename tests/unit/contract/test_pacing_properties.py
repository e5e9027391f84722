"""What the budget promises, whatever is asked of it and whenever."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.models import Limits
from promptmill.pacing import (
    AHEAD_MS,
    DIMENSIONS,
    LEAST_FACTOR,
    MS_PER_MINUTE,
    START_SHARE,
    Budget,
    Charge,
    Cost,
    Pace,
    Reading,
    paces,
)

NOW = 1_000_000.0
SLACK = 1e-6

rates = st.floats(min_value=1, max_value=1_000_000)


def one_dimension(pace: Pace) -> dict[str, Pace]:
    """Paces of which only the input tokens bind."""
    free = Pace(1e12, 1e12)
    return {"requests": free, "input": pace, "output": free}


def full(of: dict[str, Pace], now: float = NOW) -> Budget:
    return Budget(of, dict.fromkeys(of, now))


def send_all(budget: Budget, costs: list[int], *, gaps: list[float]) -> list[tuple[float, int]]:
    """Send one after the other as soon as each may go, after a gap; when each went, and its units."""
    now, sent = NOW, []
    for units, gap in zip(costs, gaps, strict=True):
        cost = Cost(1, units, 0)
        now = max(now + gap, budget.admissible_at(cost, now + gap))
        budget = budget.charge(cost, now)
        sent.append((now, units))
    return sent


def assert_within(pace: Pace, used: list[tuple[float, float]], *, largest: float) -> None:
    """In no window is more used than the rate gives and the burst holds, and a request larger than it runs over."""
    for first in range(len(used)):
        total = 0.0
        for at, units in used[first:]:
            total += units
            allowed = pace.rate * (at - used[first][0]) / MS_PER_MINUTE + max(pace.burst, largest)
            assert total <= allowed * (1 + 1e-9) + 1e-3


schedules = st.lists(
    st.tuples(st.integers(1, 500), st.one_of(st.just(0.0), st.floats(0, 60_000))), min_size=1, max_size=30
)


@given(rate=rates, burst=st.floats(1, 1_000), schedule=schedules)
def test_no_window_holds_more_than_the_rate_and_the_burst(rate, burst, schedule):
    costs, gaps = zip(*schedule, strict=True)
    pace = Pace(rate, burst)
    sent = send_all(full(one_dimension(pace)), list(costs), gaps=list(gaps))
    assert_within(pace, sent, largest=max(costs) + burst if max(costs) > burst else burst)


@given(rate=rates, burst=st.floats(500, 1_000), schedule=schedules)
def test_requests_that_fit_into_the_bucket_never_use_more_than_the_rate_and_the_burst(rate, burst, schedule):
    costs, gaps = zip(*schedule, strict=True)
    pace = Pace(rate, burst)
    assert_within(pace, send_all(full(one_dimension(pace)), list(costs), gaps=list(gaps)), largest=0)


@given(rate=rates, burst=st.floats(1, 1_000), costs=st.lists(st.integers(1, 2_000), min_size=2, max_size=30))
def test_under_a_backlog_nothing_of_the_rate_is_lost(rate, burst, costs):
    """Work-conserving: whoever had to wait went the moment that the bucket held what it needed."""
    pace = Pace(rate, burst)
    sent = send_all(full(one_dimension(pace)), costs, gaps=[0.0] * len(costs))
    for (before, _), (at, units), so_far in zip(sent, sent[1:], accumulate(costs), strict=False):
        if at > before:
            held = burst + rate * (at - NOW) / MS_PER_MINUTE - so_far
            assert held == pytest.approx(min(units, burst), rel=1e-6, abs=1e-6 * rate)


@given(rate=rates, burst=st.floats(1, 100), count=st.integers(2, 50))
def test_equal_requests_go_at_even_distances_once_the_burst_is_spent(rate, burst, count):
    pace = Pace(rate, burst)
    sent = send_all(full(one_dimension(pace)), [1] * count, gaps=[0.0] * count)
    steady = [later - earlier for (earlier, _), (later, _) in pairwise(sent)][math.ceil(burst) :]
    assert all(gap == pytest.approx(pace.ms_per_unit, rel=1e-6, abs=1e-6) for gap in steady)


orders = st.lists(
    st.tuples(st.integers(1, 500), st.floats(0, 2_000), st.floats(0, 1), st.floats(0, 5_000)), min_size=1, max_size=12
)


@dataclass(frozen=True)
class Sent:
    """One request: what was reserved when it was sent, and what it reports at a later time."""

    at: float
    reports_at: float
    reserved: Cost
    used: Cost


@given(rate=st.floats(1_000, 100_000), burst=st.floats(500, 2_000), orders=orders)
def test_refunds_let_no_more_be_used_than_rate_and_burst_and_what_those_in_flight_gave_back(rate, burst, orders):
    """A refund is for what was reserved before: only those in flight when a window begins can add to it."""
    pace = Pace(rate, burst)
    sent = run_orders(full(one_dimension(pace)), orders)
    for first in sent:
        in_flight = [other for other in sent if other.at < first.at <= other.reports_at]
        given_back = sum(other.reserved.input - other.used.input for other in in_flight)
        used = 0
        for last in (other for other in sent if other.at >= first.at):
            used += last.used.input
            allowed = pace.rate * (last.at - first.at) / MS_PER_MINUTE + pace.burst + given_back
            assert used <= allowed * (1 + 1e-9) + 1e-3


def run_orders(budget: Budget, orders) -> list[Sent]:
    """Send each request when it may go, and report each after its latency."""
    now, open_reports, sent = NOW, [], []
    for units, gap, share, latency in orders:
        now += gap
        reserved = Cost(1, units, 0)
        while True:
            for report in [report for report in open_reports if report.reports_at <= now]:
                budget = budget.reconcile(report.reserved, report.used)
                open_reports.remove(report)
            at = budget.admissible_at(reserved, now)
            if at <= now:
                break
            now = min([at, *(report.reports_at for report in open_reports)])
        budget = budget.charge(reserved, now)
        sent.append(Sent(now, now + latency, reserved, Cost(1, int(units * share), 0)))
        open_reports.append(sent[-1])
    return sent


@given(reserved=st.integers(0, 1_000), used=st.integers(0, 3_000))
def test_a_correction_ends_where_charging_the_truth_would_have_led(reserved, used):
    of = one_dimension(Pace(60_000, 1_000))
    spent = full(of).charge(Cost(1, 500, 0), NOW)
    corrected = spent.charge(Cost(1, reserved, 0), NOW).reconcile(Cost(1, reserved, 0), Cost(1, used, 0))
    assert corrected.tats["input"] == pytest.approx(spent.charge(Cost(1, used, 0), NOW).tats["input"])


def test_a_request_stays_charged_when_tokens_are_corrected():
    of = dict.fromkeys(DIMENSIONS, Pace(60, 1))
    budget = full(of).charge(Cost(1, 1, 1), NOW)
    assert budget.reconcile(Cost(1, 1, 1), Cost(0, 0, 0)).tats == {
        "requests": NOW + 1_000,
        "input": NOW,
        "output": NOW,
    }


def test_an_empty_budget_admits_its_first_request_when_its_share_has_come_in():
    of = one_dimension(Pace(rate=60, burst=10))
    budget = Budget.empty(of, NOW)
    assert budget.admissible_at(Cost(1, 1, 0), NOW) == NOW + 1_000
    assert budget.admissible_at(Cost(1, 10, 0), NOW) == NOW + 10_000


def test_a_request_larger_than_the_bucket_goes_on_a_full_bucket_and_leaves_a_debt():
    of = one_dimension(Pace(rate=60, burst=10))
    huge = Cost(1, 100, 0)
    budget = full(of)
    assert budget.admissible_at(huge, NOW) == NOW
    assert budget.charge(Cost(1, 1, 0), NOW).admissible_at(huge, NOW) == NOW + 1_000
    assert budget.charge(huge, NOW).admissible_at(Cost(1, 10, 0), NOW) == NOW + 100_000


def test_a_block_holds_everybody_back_and_nobody_after_it():
    budget = Budget(dict.fromkeys(DIMENSIONS, Pace(60, 1)), dict.fromkeys(DIMENSIONS, NOW), blocked_until=NOW + 5)
    assert budget.admissible_at(Cost(), NOW) == NOW + 5
    assert budget.admissible_at(Cost(), NOW + 5) == NOW + 5


def test_paces_leave_the_headroom_unused_and_hold_a_burst_of_a_time():
    limits = Limits(requests=1_000, input_tokens=2_000_000, output_tokens=400_000)
    pace = paces(limits, headroom=0.01, request_burst=timedelta(milliseconds=50), token_burst=timedelta(seconds=1))
    assert {d: p.rate for d, p in pace.items()} == pytest.approx(
        {"requests": 990, "input": 1_980_000, "output": 396_000}
    )
    assert {d: p.burst for d, p in pace.items()} == pytest.approx(
        {"requests": 1 + 990 * 0.05 / 60, "input": 33_000, "output": 6_600}
    )


@given(limit=st.integers(1, 10**9), headroom=st.floats(0, 0.9), burst=st.floats(0, 60))
def test_every_bucket_holds_at_least_one_unit(limit, headroom, burst):
    """Else nothing would ever go."""
    pace = paces(
        Limits(limit, limit, limit),
        headroom=headroom,
        request_burst=timedelta(seconds=burst),
        token_burst=timedelta(seconds=burst),
    )
    assert tuple(pace) == DIMENSIONS
    assert all(p.burst >= 1 and p.rate > 0 for p in pace.values())


answered = st.lists(
    st.tuples(st.integers(1, 500), st.floats(0, 5_000), st.none() | st.integers(0, 100_000)), min_size=1, max_size=30
)


def hear(budget: Budget, now: float, left: int | None, limit: float) -> Budget:
    """An answer to the request that was just sent."""
    if left is None:
        return budget
    charge = Charge(now, Cost(**{d: int(spent) for d, spent in budget.spent.items()}))
    return budget.observe(charge, {"input": Reading(int(limit), left)}, now)


@given(limit=st.integers(1_000, 100_000), burst=st.floats(500, 1_000), schedule=answered, urgent=st.booleans())
def test_whatever_answers_say_no_window_holds_more_than_the_limit_and_the_burst(limit, burst, schedule, urgent):
    """The burst is a time at the rate; at the whole limit it holds as much more. What is urgent gets 10 s besides."""
    budget, now, sent = full(one_dimension(Pace(0.99 * limit, burst, limit))), NOW, []
    for units, gap, left in schedule:
        cost = Cost(1, units, 0)
        now += gap
        while (at := budget.admissible_at(cost, now, urgent=urgent)) > now:
            now = at
        budget = hear(budget.charge(cost, now), now, left, limit)
        sent.append((now, units))
    ahead = limit * AHEAD_MS / MS_PER_MINUTE if urgent else 0
    assert_within(Pace(limit, burst / 0.99 + ahead), sent, largest=0)


@given(limit=st.integers(1_000, 100_000), burst=st.floats(500, 1_000), schedule=answered)
def test_whatever_answers_say_nobody_starves(limit, burst, schedule):
    """A request keeps the next one back for what it takes at the least share, however little is said to be left."""
    pace = Pace(0.99 * limit, burst, limit)
    budget, now = replace(full(one_dimension(pace)), warm_up=5_000), NOW
    for units, gap, left in schedule:
        cost = Cost(1, units, 0)
        now = max(now + gap, budget.admissible_at(cost, now + gap))
        budget = hear(budget.charge(cost, now), now, left, limit)
        longest = units * pace.ms_per_unit / (LEAST_FACTOR * START_SHARE)
        assert budget.admissible_at(cost, now) - now <= longest * (1 + 1e-9)


@given(rate=st.floats(600, 100_000), warm_up=st.floats(1_000, 60_000), units=st.integers(1, 500))
def test_a_start_after_a_rest_loses_what_the_ramp_withholds_and_nothing_more(rate, warm_up, units):
    pace = Pace(rate, 500)
    budget, now, used = replace(full(one_dimension(pace)), warm_up=warm_up), NOW, 0
    takes = units * pace.ms_per_unit
    while now < NOW + 2 * warm_up:
        budget = budget.charge(Cost(1, units, 0), now)
        used += units
        now = budget.tats["input"]
    withheld = (1 - START_SHARE) / 2 * warm_up
    lost = (now - NOW) - used * pace.ms_per_unit
    assert 0 <= lost <= withheld + takes / START_SHARE


def test_a_request_after_a_rest_goes_at_once():
    budget = replace(full(dict.fromkeys(DIMENSIONS, Pace(60, 1))), warm_up=5_000)
    assert budget.admissible_at(Cost(), NOW) == NOW
    assert budget.charge(Cost(), NOW).tats["requests"] == NOW + 1_000 + (1 - START_SHARE) / 2 * 5_000
