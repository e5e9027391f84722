"""The time left: monotone in what is queued, shared out as the claim script does, and honest about the unknown."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.foresight import (
    NOTHING,
    Backlog,
    LaneBacklog,
    Learned,
    Work,
    admitted_ms,
    job_left,
    lane_left,
    passed_ms,
    wall_ms,
)
from promptmill.jobs import Lane
from promptmill.pacing import Budget, Pace, Ramp

NOW = 1_800_000_000_000.0
SECOND = timedelta(seconds=1)
PLENTY = Pace(60_000_000, 1_000_000)


def budget(requests: Pace = PLENTY, input: Pace = PLENTY, output: Pace = PLENTY, **state) -> Budget:  # noqa: A002 - the dimension's name
    """With empty debts, unless `state` says otherwise."""
    state.setdefault("tats", dict.fromkeys(("requests", "input", "output"), NOW))
    return Budget({"requests": requests, "input": input, "output": output}, **state)


def backlog(of: Budget | None, *, running: Work = NOTHING, age_ms: float | None = None, **ready: Work) -> Backlog:
    """With so much ready by lane; what runs is in the standard lane."""
    lanes = {
        lane: LaneBacklog(ready.get(lane.value, NOTHING), running if lane is Lane.STANDARD else NOTHING)
        for lane in Lane
    }
    return Backlog(NOW, of, lanes=lanes, mean_age_ms=age_ms)


ONE_A_SECOND = budget(Pace(60, 1))

works = st.builds(
    lambda n, i, o: Work(n, n * i, n * o), st.integers(0, 10_000), st.floats(0, 50_000), st.floats(0, 4_000)
)
paces = st.builds(Pace, st.floats(1, 5_000_000), st.floats(1, 100_000))
ramps = st.builds(Ramp, st.floats(NOW - 60_000, NOW), st.floats(0.05, 1), st.floats(0, 2))
budgets = st.builds(
    lambda a, b, c, ramp, debts, blocked: budget(
        a, b, c, ramp=ramp, tats=dict(zip(("requests", "input", "output"), debts, strict=True)), blocked_until=blocked
    ),
    *[paces] * 3,
    ramps,
    st.tuples(*[st.floats(NOW - 60_000, NOW + 600_000)] * 3),
    st.floats(NOW - 1, NOW + 60_000),
)
lanes = st.sampled_from(Lane)


@given(budgets, st.tuples(works, works, works), lanes, lanes, works)
def test_more_work_never_shortens_the_time_left(of, ready, asked, more_in, more):
    before = backlog(of, **{lane.value: work for lane, work in zip(Lane, ready, strict=True)})
    before = replace(before, reason="rate_limited")
    after = before.with_ready(more_in, before.lanes[more_in].ready + more)
    if (before.lanes[asked].ready.requests == 0) == (after.lanes[asked].ready.requests == 0):
        last_grew = 1 if more_in is asked else 0  # the last request may now be a larger one, which may go sooner
        slack = sum(p.burst * p.ms_per_unit for p in of.paces.values()) * last_grew / of.ramp.at(NOW)
        assert (
            lane_left(after, asked) / SECOND >= (lane_left(before, asked) / SECOND) * (1 - 1e-9) - slack / 1000 - 1e-6
        )


@given(ramps, st.floats(1_000, 600_000))
def test_the_time_that_passes_on_a_ramp_is_what_was_foreseen(ramp, budget_ms):
    took = wall_ms(ramp, NOW, budget_ms)
    assert took >= budget_ms * (1 - 1e-9)
    steps = 1_000
    passed = sum(
        passed_ms(budget(ramp=ramp), NOW + took * n / steps, NOW + took * (n + 0.5) / steps) * 2 for n in range(steps)
    )
    assert passed == pytest.approx(budget_ms, rel=0.01)


def test_an_empty_lane_has_no_time_left_and_one_whose_jobs_all_run_that_of_a_call():
    assert lane_left(backlog(ONE_A_SECOND), Lane.STANDARD) == timedelta(0)
    running = backlog(ONE_A_SECOND, running=Work(4), age_ms=3_000)
    assert lane_left(running, Lane.STANDARD) == 6 * SECOND
    assert lane_left(running, Lane.OVERNIGHT) == timedelta(0)


def test_the_scarcest_dimension_tells_how_long_a_lane_takes():
    of = budget(Pace(60, 1), Pace(6_000, 100), Pace(600, 10))
    assert lane_left(backlog(of, standard=Work(60, 60, 60)), Lane.STANDARD) == 59 * SECOND
    assert lane_left(backlog(of, standard=Work(60, 60 * 300, 60)), Lane.STANDARD) / SECOND == pytest.approx(177)
    assert lane_left(backlog(of, standard=Work(60, 60, 60 * 100)), Lane.STANDARD) / SECOND == pytest.approx(590)


def test_what_was_spent_ahead_comes_first():
    tats = {"requests": NOW, "input": NOW + 90_000, "output": NOW}
    of = budget(Pace(60, 1), Pace(6_000, 100), tats=tats)
    assert lane_left(backlog(of, standard=Work(1, 100)), Lane.STANDARD) == 90 * SECOND
    assert lane_left(backlog(of, standard=Work(60, 60)), Lane.STANDARD) / SECOND == pytest.approx(89.01 + 59)


def test_lanes_go_in_order_and_the_lower_ones_get_their_shares_meanwhile():
    seen = backlog(ONE_A_SECOND, interactive=Work(931), standard=Work(1_001), overnight=Work(101))
    left = {lane: lane_left(seen, lane) / SECOND for lane in Lane}
    assert left[Lane.INTERACTIVE] == pytest.approx(1_000, rel=0.001)
    # 50 of the standard jobs went meanwhile; then they get all but two percent.
    assert left[Lane.STANDARD] == pytest.approx(1_000 + 951 / 0.98, rel=0.001)
    assert left[Lane.OVERNIGHT] == pytest.approx(931 + 1_001 + 101, rel=0.001)
    few = seen.with_ready(Lane.STANDARD, Work(10))
    assert lane_left(few, Lane.STANDARD) / SECOND == pytest.approx(10 / 0.05)
    assert lane_left(few.with_ready(Lane.OVERNIGHT, Work(5)), Lane.OVERNIGHT) / SECOND == pytest.approx(5 / 0.02)


def test_a_job_waits_for_those_before_it_and_then_for_its_answer():
    ahead = backlog(ONE_A_SECOND, interactive=Work(10), running=Work(2), age_ms=2_000)
    assert job_left(ahead, Lane.INTERACTIVE) == 14 * SECOND
    assert job_left(backlog(ONE_A_SECOND), Lane.INTERACTIVE) == timedelta(0)


def test_a_job_that_waits_does_not_go_before_its_time():
    assert job_left(backlog(ONE_A_SECOND), Lane.STANDARD, not_before=NOW + 30_000) == 30 * SECOND
    ahead = backlog(ONE_A_SECOND, standard=Work(60))
    assert job_left(ahead, Lane.STANDARD, not_before=NOW + 30_000) == 60 * SECOND


def test_a_running_job_is_answered_when_calls_usually_are_and_later_than_that_nobody_knows():
    running = backlog(ONE_A_SECOND, running=Work(3), age_ms=5_000)
    assert job_left(replace(running, job_age_ms=4_000), Lane.STANDARD) == 6 * SECOND
    assert job_left(replace(running, job_age_ms=11_000), Lane.STANDARD) is None


@pytest.mark.parametrize(
    "seen",
    [
        backlog(None, standard=Work(1)),
        replace(backlog(ONE_A_SECOND, standard=Work(1)), free_slots=False),
        replace(backlog(replace(ONE_A_SECOND, blocked_until=NOW + 30_000), standard=Work(1)), reason="bad_key"),
        replace(backlog(ONE_A_SECOND, standard=Work(1)), parked_lanes=frozenset({Lane.STANDARD})),
    ],
    ids=["no limits", "no worker", "parked", "cap reached"],
)
def test_what_nobody_knows_is_not_guessed(seen):
    assert lane_left(seen, Lane.STANDARD) is None
    assert job_left(seen, Lane.STANDARD) is None
    assert lane_left(seen, Lane.OVERNIGHT) == timedelta(0)


def test_who_waits_for_a_cap_takes_nothing_from_the_lanes_below():
    both = backlog(ONE_A_SECOND, standard=Work(100), overnight=Work(10))
    alone = backlog(ONE_A_SECOND, overnight=Work(10))
    parked = replace(both, parked_lanes=frozenset({Lane.STANDARD}))
    assert lane_left(parked, Lane.OVERNIGHT) == lane_left(alone, Lane.OVERNIGHT) != lane_left(both, Lane.OVERNIGHT)


def test_a_parked_budget_tells_when_somebody_looks_again():
    parked = replace(backlog(replace(ONE_A_SECOND, blocked_until=NOW + 30_000)), reason="bad_key")
    assert parked.parked_until == NOW + 30_000
    assert replace(parked, reason="rate_limited").parked_until is None
    assert replace(parked, now=NOW + 30_000).parked_until is None


def test_a_pause_of_the_provider_and_the_way_back_to_the_rate_are_counted():
    paused = replace(
        ONE_A_SECOND, blocked_until=NOW + 10_000, ramp=Ramp(NOW + 10_000, 0.5, 1.0)
    )  # from half to all in 30 s
    seen = replace(backlog(paused, standard=Work(61)), reason="rate_limited")
    assert lane_left(seen, Lane.STANDARD) / SECOND == pytest.approx(10 + 30 + (60 - 22.5))


def test_where_every_worker_has_its_hands_full_they_are_what_is_scarce():
    busy = backlog(budget(Pace(6_000, 1)), standard=Work(101), running=Work(10), age_ms=5_000)
    assert admitted_ms(busy, Lane.STANDARD) == pytest.approx(1_000)
    busy = replace(busy, free_slots=False)
    assert admitted_ms(busy, Lane.STANDARD) == pytest.approx(100_000)  # ten at a time, ten seconds each


@pytest.mark.parametrize(
    ("entry", "expected"), [("11 460.000 1.090909", Learned(460, 1.090909)), ("", None), ("x y z", None), ("1 2", None)]
)
def test_an_entry_of_what_was_learned_is_read_if_it_is_one(entry, expected):
    assert Learned.read(entry) == expected


def test_what_was_learned_corrects_estimates_up_to_the_longest_answer():
    assert Learned(460.2, 1.5).corrected(Work(2, 100, 1_000), longest=1_000) == Work(2, 150, 922)
    assert Learned(460.2, 1.5).corrected(Work(2, 100, 1_000), longest=100) == Work(2, 150, 200)
