"""What people see of a run: on a terminal, in a log, and at the end."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from producers.durations import about, duration
from producers.progress import LINE_EVERY, ProgressDisplay, dollars, figures, short, summary_view
from producers.runs import Mean, Percentiles, Phase, RunProgress, RunSummary
from producers.runs.telling import TICK, Throttle
from promptmill.results import Status, Usage

SENDING = RunProgress(
    Phase.SENDING,
    run="r",
    share=0.24,
    total=5_000,
    done=1_200,
    failed=3,
    rate_per_minute=588.4,
    budget_per_minute=594.0,
    input_tokens=900_000,
    output_tokens=334_567,
    cost_usd=Decimal("0.257283500"),
    time_left=timedelta(minutes=6, seconds=27),
)

SUMMARY = RunSummary(
    run="r7",
    output=Path("[answers].jsonl"),
    total=100,
    counts={Status.SUCCEEDED: 97, Status.FAILED: 2, Status.CANCELLED: 1, Status.EXPIRED: 0},
    skipped=4,
    problems=(),
    usage=Usage(input_tokens=1_000, output_tokens=500, cache_read_tokens=200),
    cost_usd=Decimal("0.00035"),
    unpriced=5,
    attempts=120,
    latency=Percentiles(timedelta(milliseconds=800), timedelta(seconds=2.5), timedelta(minutes=1, seconds=5)),
    queue_time=None,
    quality={"code_block": Mean(0.25, 96), "words": Mean(41.5, 97)},
    errors={"invalid_request": 2},
    budget_per_minute=594.0,
    rate_per_minute=591.03,
    answered_before=10,
    wall_time=timedelta(seconds=62),
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_figures_of_a_run_in_a_line():
    assert figures(SENDING) == (
        "1,200 of 5,000 · 3 without answer · 588/min of 594 · 1.2M tokens · $0.2573 · about 6 min left"
    )
    assert figures(replace(SENDING, held="haiku-5-5 rests until 12:00:00: spend limit")).endswith(
        "left · haiku-5-5 rests until 12:00:00: spend limit"
    )
    assert figures(RunProgress(Phase.CHECKING, share=0.5)) == ""
    assert figures(RunProgress(Phase.SENDING, total=5)) == "0 of 5"


def test_without_a_terminal_a_line_is_printed_now_and_then():
    clock, file = Clock(), io.StringIO()
    with ProgressDisplay(Console(file=file), clock=clock) as display:
        for phase, second in [("checking", 0), ("checking", 1), ("sending", 2), ("sending", 3), ("sending", 12)]:
            clock.now = float(second)
            display(replace(SENDING, phase=Phase(phase), done=second, notes=("going on: 1 of 2",)))
    lines = file.getvalue().splitlines()
    assert lines[0] == "going on: 1 of 2"
    assert [line.split()[0] for line in lines[1:]] == ["checking", "sending", "sending"]
    assert lines[2].startswith("sending 24% 2 of 5,000")
    assert lines[3].startswith("sending 24% 12 of 5,000")
    assert timedelta(seconds=10) == LINE_EVERY
    assert display.last.done == 12


def test_on_a_terminal_there_is_a_bar_and_notes_stand_above_it():
    file = io.StringIO()
    with ProgressDisplay(Console(file=file, force_terminal=True, width=160)) as display:
        display(replace(SENDING, notes=("[going] on",)))
        display(replace(SENDING, done=1_300, notes=("[going] on",)))
    shown = file.getvalue()
    assert shown.count("[going] on") == 1
    assert "1,300 of 5,000" in shown
    assert "24%" in shown


def test_the_summary_shows_what_a_run_came_to():
    file = io.StringIO()
    Console(file=file, width=100).print(summary_view(SUMMARY))
    rows = [" ".join(line.split()) for line in file.getvalue().splitlines()]
    for expected in [
        "answered 97 of 100",
        "failed 2",
        "cancelled 1",
        "bad lines left out 4",
        "from earlier sessions 10",
        "requests 120",
        "rate 591.0 of 594.0 a minute (99.5%)",
        "tokens in / out 1,200 / 500",
        "cost $0.000350 (and 5 answers of unknown price)",
        "time 1 min 2 s",
        "answers [answers].jsonl",
        "latency 800 ms 2.5 s 1 min 5 s",
        "code_block 25.0% 96",
        "words 41.50 97",
        "invalid_request 2",
    ]:
        assert expected in rows
    assert not [row for row in rows if row.startswith(("expired", "time in queue"))]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.25, "250 ms"), (1, "1.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3_725, "1 h 2 min"), (200_000, "2 d 7 h")],
)
def test_durations(seconds, expected):
    assert duration(timedelta(seconds=seconds)) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "a few seconds"),
        (10, "about 10 s"),
        (54.9, "about 50 s"),
        (55, "about 1 min"),
        (3_569, "about 59 min"),
        (3_570, "about 1 h 0 min"),
        (7_523, "about 2 h 5 min"),
        (200_000, "about 2 d 7 h"),
    ],
)
def test_a_predicted_duration_is_no_finer_than_it_can_be_known(seconds, expected):
    assert about(timedelta(seconds=seconds)) == expected


def test_amounts_and_counts():
    assert [dollars(Decimal(amount)) for amount in ("0", "0.000001", "0.5", "1234.567")] == [
        "$0.00",
        "$0.000001",
        "$0.5000",
        "$1,234.57",
    ]
    assert [short(count) for count in (0, 9_999, 12_345, 1_234_567, 3 * 10**9)] == [
        "0",
        "9,999",
        "12.3k",
        "1.2M",
        "3.0G",
    ]


async def test_progress_is_told_at_most_once_a_tick(monkeypatch):
    clock, told, made = Clock(), [], []
    throttle = Throttle(told.append)
    monkeypatch.setattr(throttle, "_loop", type("Loop", (), {"time": clock})())
    throttle._next = 0.0

    def progress() -> RunProgress:
        made.append(clock.now)
        return SENDING

    tick = TICK.total_seconds()
    for now in (0.0, tick / 2, tick * 0.99, tick, tick * 1.5):
        clock.now = now
        throttle.tell(progress)
    throttle.tell(progress, now=True)

    assert made == [0.0, tick, tick * 1.5]
    assert len(told) == 3
    assert timedelta(seconds=0.25) <= TICK
