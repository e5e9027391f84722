"""What the pacing benchmark calls reached, and how its cases are told apart."""

from __future__ import annotations

from dataclasses import replace

from tests.bench.pacing.cases import CASES, Aim
from tests.bench.pacing.measuring import OURS, Figures
from tests.bench.pacing.table import Line, legend, markdown, misses, rows

GOOD = Figures(use=0.99, early_use=0.99, granted=600, refused=0, lost=0)


def test_what_rounds_to_the_aim_has_reached_it():
    assert misses(Aim(use=0.99), replace(GOOD, use=0.98951)) == []
    assert misses(Aim(use=0.99), replace(GOOD, use=0.98949)) == ["use"]


def test_every_part_of_an_aim_is_judged():
    aim = Aim(use=0.97, early_use=0.9, refused=3, slots=1.5, calls=1.5, cores=0.25, starved=0)
    reached = Figures(0.97, 0.9, 600, 3, 0, waits=(0.5, 1.5), calls=1.5, cores=0.25, starved=0)
    assert misses(aim, reached) == []
    missed = Figures(0.96, 0.89, 600, 4, 1, waits=(0.5, 1.6), calls=1.6, cores=0.26, starved=1)
    assert misses(aim, missed) == ["use", "early use", "429s", "lost", "wait", "calls", "Redis", "starved"]


def test_what_was_not_measured_is_not_judged():
    assert misses(Aim(slots=1.5, calls=1.5, cores=0.25), replace(GOOD, lost=None)) == []


def test_a_case_is_named_once_and_only_ours_has_an_aim():
    case = CASES[0]
    first, second = rows([Line(case, OURS, GOOD), Line(case, "somebody", replace(GOOD, refused=1_200))])
    assert first == (case.title, OURS, "99.0%", "0", "0", "", "", "", "99%, 0 429s", "yes")
    assert second == ("", "somebody", "99.0%", "1,200", "0", "", "", "", "", "")


def test_a_row_on_the_virtual_clock_says_so_and_for_how_long():
    case = next(case for case in CASES if case.name == "others-wave")
    (row,) = rows([Line(case, OURS, replace(GOOD, use=0.9, refused=40), is_virtual=True)])
    assert (row[1], row[-1]) == ("promptmill, 10 min virtual", "no: use, 429s")


def test_markdown_has_a_line_for_each_row():
    table = markdown([Line(CASES[0], OURS, GOOD)]).splitlines()
    assert {line.count("|") for line in table[:3]} == {11}


def test_names_are_unique_and_windows_are_whole_minutes():
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.window.total_seconds() % 60 == 0 for case in CASES)
    assert all(case.told_limits.rpm and case.judged_per_minute for case in CASES)


def test_the_legend_says_how_busy_the_machine_was():
    lines = [Line(CASES[0], OURS, replace(GOOD, contention=share)) for share in (0.6, 0.1, None)]
    assert "during 10% to 60% of the time" in legend(lines)
    assert "waited for a core" not in legend(lines[2:])
