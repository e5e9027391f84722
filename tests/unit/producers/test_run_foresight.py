"""When a run will be done, from made-up looks at the queue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from producers.files import Demand
from producers.files.demand import MOST_PARTS
from producers.runs.counters import Spent
from producers.runs.foresight import RunForesight
from promptmill.foresight import NOTHING, Backlog, LaneBacklog, Learned, Work
from promptmill.jobs import Lane
from promptmill.pacing import Budget, Cost, Pace, Ramp
from tests.support.queues import CLASS, START, make_submission

SECOND = timedelta(seconds=1)
PACES = {"requests": Pace(60_000, 10), "input": Pace(600_000, 100), "output": Pace(60_000, 100)}
"""An answer of a thousand tokens a second."""


def line(line_number: int = 1, *, max_tokens: int = 2_000, kind: str = "", cost: Cost | None = None, **fields):
    request = {"model": "claude-haiku-5-5", "max_tokens": max_tokens, "messages": [{"role": "user", "content": "Hi"}]}
    tags = {"kind": kind} if kind else {}
    return make_submission(f"line-{line_number}", request=request, tags=tags, cost=cost or Cost(1, 100, 500), **fields)


class SimulatedRun:
    """Lines that all take the same, at a pace that a test sets: one look a second."""

    def __init__(self, lines: int, *, tokens: int = 1_000) -> None:
        self.demand = Demand()
        for number in range(1, lines + 1):
            self.demand.add(number, line(number))
        self.foresight = RunForesight(self.demand)
        self.lines, self.tokens, self.ended = lines, tokens, 0.0
        self.now = START
        self.budget = Budget(PACES, dict.fromkeys(PACES, START))
        self.reason: str | None = None
        self.free_slots = True

    def look(self) -> timedelta | None:
        spent = Spent(100 * int(self.ended), self.tokens * int(self.ended))
        backlog = Backlog(self.now, self.budget, self.reason, free_slots=self.free_slots)
        return self.foresight.look({CLASS: backlog}, spent, self.lines - int(self.ended))

    def pass_by(self, seconds: int, lines_a_second: float) -> Iterator[timedelta | None]:
        for _ in range(seconds):
            self.now += 1_000
            before, self.ended = int(self.ended), min(self.lines, self.ended + lines_a_second)
            for number in range(before + 1, int(self.ended) + 1):
                self.demand.end(number)
            yield self.look()

    def later(self, seconds: int, lines_a_second: float) -> timedelta | None:
        return list(self.pass_by(seconds, lines_a_second))[-1]


def test_before_anything_has_ended_estimates_and_budget_tell():
    run = SimulatedRun(600)
    assert run.look() / SECOND == pytest.approx(300, rel=0.01)  # 500 tokens were expected of each


def test_what_lines_have_taken_puts_the_estimates_right():
    run = SimulatedRun(600)
    assert run.later(60, 1.0) / SECOND == pytest.approx(540, rel=0.01)


def test_what_was_learned_of_a_kind_is_expected_of_its_lines():
    demand = Demand()
    for number in range(1, 601):
        demand.add(number, line(number, kind="essay"))
    known = Backlog(START, Budget(PACES, dict.fromkeys(PACES, START)), learned={"essay": Learned(1_500, 1.0)})
    left = RunForesight(demand).look({CLASS: known}, Spent(), 600)
    assert left / SECOND == pytest.approx(900, rel=0.01)


def test_a_run_that_gets_only_a_part_of_the_budget_is_measured():
    run = SimulatedRun(600)
    assert run.later(200, 0.25) / SECOND == pytest.approx(550 / 0.25, rel=0.01)


def test_a_late_start_says_nothing_about_the_pace():
    run = SimulatedRun(600)
    run.later(120, 0)
    assert run.later(60, 1.0) / SECOND == pytest.approx(540, rel=0.02)


def test_a_pause_is_counted_once_and_not_taken_for_the_pace():
    run = SimulatedRun(1_000)
    run.later(60, 1.0)
    run.budget = replace(run.budget, blocked_until=run.now + 100_000, ramp=Ramp(run.now + 100_000, 1, 0))
    run.reason = "rate_limited"
    assert run.later(99, 0) / SECOND == pytest.approx(1 + 940, rel=0.01)
    assert run.later(10, 1.0) / SECOND == pytest.approx(930, rel=0.02)


def test_a_ramp_is_not_taken_for_the_pace_either():
    run = SimulatedRun(10_000, tokens=100)
    run.later(60, 10.0)
    run.budget = replace(run.budget, ramp=Ramp(run.now, 0.5, 0.1))  # five minutes to the whole rate
    assert run.later(60, 5.5) / SECOND == pytest.approx(907 + 240 * 0.2, rel=0.02)


@pytest.mark.parametrize("cause", ["parked", "no worker", "no limits"])
def test_while_nothing_can_move_nobody_knows(cause):
    run = SimulatedRun(600)
    run.later(60, 1.0)
    match cause:
        case "parked":
            run.budget, run.reason = replace(run.budget, blocked_until=run.now + 60_000), "bad_key"
        case "no worker":
            run.free_slots = False
        case "no limits":
            run.budget = None
    assert run.later(10, 0) is None


def test_a_run_that_stands_still_although_it_could_go_is_not_promised_an_end():
    run = SimulatedRun(600)
    run.later(60, 1.0)
    assert run.later(3_600, 0) is None


def test_a_lower_lane_of_the_same_run_gets_what_the_upper_one_leaves():
    """Its own pace so far says nothing: it has only had its least share."""
    demand = Demand()
    for number in range(1, 301):
        demand.add(number, line(number, lane=Lane.STANDARD if number <= 200 else Lane.OVERNIGHT))
    foresight, now, lefts = RunForesight(demand), START, []
    budget = Budget(PACES, dict.fromkeys(PACES, START))
    for ended in range(1, 191):  # one a second, a thousand tokens each; of the overnight ones every fiftieth
        now += 1_000
        demand.end(ended if ended % 50 else 200 + ended // 50)
        spent = Spent(100 * ended, 1_000 * ended)
        lefts.append(foresight.look({CLASS: Backlog(now, budget, None, True)}, spent, 300 - ended))
    assert lefts[-1] / SECOND == pytest.approx(110, rel=0.05)
    assert lefts[99] / SECOND == pytest.approx(200, rel=0.05)


def test_who_did_not_look_for_a_while_measures_anew():
    run = SimulatedRun(10_000)
    run.later(60, 1.0)
    run.now += 3_600_000
    assert run.later(60, 1.0) / SECOND == pytest.approx(9_880, rel=0.02)


def test_hours_of_looks_are_kept_in_little_memory():
    run = SimulatedRun(20_000)
    assert run.later(10_000, 1.0) / SECOND == pytest.approx(10_000, rel=0.01)
    (pace,) = run.foresight._paces.values()
    assert len(pace._samples) <= 129


def test_jobs_of_others_go_before_those_that_are_not_sent_yet():
    run = SimulatedRun(600)
    others = LaneBacklog(Work(600 + 300, 90_000, 900 * 500))
    lanes = {lane: others if lane is Lane.STANDARD else LaneBacklog() for lane in Lane}
    left = run.foresight.look({CLASS: Backlog(START, run.budget, lanes=lanes)}, Spent(), 600)
    assert left / SECOND == pytest.approx(450, rel=0.01)


def test_requests_under_way_are_paid_for_and_the_last_of_them_takes_as_long_as_calls_do():
    run = SimulatedRun(100)
    lanes = {lane: LaneBacklog() for lane in Lane} | {Lane.STANDARD: LaneBacklog(running=Work(40, 4_000, 20_000))}
    backlog = Backlog(START, run.budget, lanes=lanes, mean_age_ms=5_000)
    left = run.foresight.look({CLASS: backlog}, Spent(), 100)
    assert left / SECOND == pytest.approx(30 + 10, rel=0.02)
    backlog = replace(backlog, lanes={**lanes, Lane.STANDARD: LaneBacklog(running=Work(100, 10_000, 50_000))})
    assert run.foresight.look({CLASS: backlog}, Spent(), 100) == 10 * SECOND


def test_each_model_and_lane_goes_by_itself_and_the_last_one_tells():
    demand = Demand()
    for number in range(1, 201):
        demand.add(number, line(number, budget=CLASS if number % 2 else "opus-5", lane="overnight"))
    backlogs = {
        CLASS: Backlog(START, Budget(PACES, dict.fromkeys(PACES, START))),
        "opus-5": Backlog(START, Budget({**PACES, "output": Pace(6_000, 100)}, dict.fromkeys(PACES, START))),
    }
    assert RunForesight(demand).look(backlogs, Spent(), 200) / SECOND == pytest.approx(495, rel=0.02)


def test_a_line_that_may_not_go_before_a_time_holds_the_run_up_to_it():
    demand = Demand()
    demand.add(1, line(not_before=datetime.fromtimestamp(START / 1000 + 3_600, UTC)))
    demand.add(2, line(2))
    backlog = Backlog(START, Budget(PACES, dict.fromkeys(PACES, START)))
    assert RunForesight(demand).look({CLASS: backlog}, Spent(), 2) == 3_600 * SECOND


def test_a_run_without_open_lines_has_no_time_left():
    run = SimulatedRun(10)
    assert run.later(10, 1.0) == timedelta(0)


def test_a_file_with_a_kind_on_every_line_has_a_bounded_number_of_parts():
    demand = Demand()
    for number in range(1, MOST_PARTS + 1_000):
        demand.add(number, line(number, kind=f"kind {number}"))
    assert len(demand.parts) == MOST_PARTS + 1
    assert sum((part.open({}) for part in demand.parts), NOTHING) == Work(1_999, 199_900, 999_500)
    for number in range(1, MOST_PARTS + 1_000):
        demand.end(number)
    assert sum((part.open({}) for part in demand.parts), NOTHING) == NOTHING
    assert sum((part.ended({}) for part in demand.parts), NOTHING) == Work(1_999, 199_900, 999_500)


def test_lines_without_a_job_cost_nothing():
    demand = Demand()
    demand.add(3, line(3, cost=Cost(1, 7, 500)))
    demand.add(9, line(9, cost=Cost(1, 9, 500)))
    demand.end(9)
    assert [(part.open_input, part.ended_input) for part in demand.parts] == [(7, 9)]
