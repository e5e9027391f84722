"""The parts of a run, each by itself."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from producers.files import PromptFile
from producers.files.seen import SeenIds
from producers.runs.counters import Spent
from producers.runs.identity import MAX_LINE_ID_BYTES, RUN_ID_CHARS, UNNAMED, LineJobs, line_id, run_id
from producers.runs.ledger import Ledger, Line
from producers.runs.options import RunOptions
from producers.runs.progress import RateMeter, time_left
from producers.runs.quantiles import ERROR, Quantiles
from producers.runs.summary import Mean, SummaryCollector
from promptmill.errors import BadJob
from promptmill.jobs import Lane
from promptmill.results import Attempt, Failure, Result, Status, Usage

T0 = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_seen_ids_tell_the_first_line_however_many_there_are():
    seen = SeenIds()
    assert all(seen.add(f"id-{n}", n) is None for n in range(1, 50_001))
    assert [seen.add(f"id-{n}", 0) for n in (1, 777, 50_000)] == [1, 777, 50_000]
    assert seen.add("another", 50_001) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"target": Path("other.jsonl")},
        {"content": b"other"},
        {"format": "csv"},
        {"template": "Explain {other}"},
        {"model": "claude-opus-5-5"},
        {"max_tokens": 7},
    ],
)
def test_whatever_alters_the_answers_makes_another_run(settings, changed):
    def name(target=Path("out.jsonl"), content=b"x", format="tsv", template="Explain {word}", **other):  # noqa: A002
        file = PromptFile(Path("in"), format=format, template=template)
        return run_id(target, content, file, settings.model_copy(update=other))

    assert name() == name() == name(rpm=7) == name(target=Path.cwd() / "x" / ".." / "out.jsonl")
    assert name(**changed) != name()
    assert len(name()) == RUN_ID_CHARS == len(UNNAMED)


def test_a_job_is_named_by_run_and_line(settings):
    make = LineJobs(settings, run="123456789abc")
    own, made_up = make(3, {"id": "a/b", "prompt": "x"}), make(4, {"prompt": "x"})
    assert (own.job.id, line_id(own.job.id), own.job.position, own.job.run) == (
        "123456789abc/a/b",
        "a/b",
        3,
        "123456789abc",
    )
    assert line_id(made_up.job.id) == "line-4"
    assert own.job.keep_result == timedelta(0)


def test_the_longest_line_id_still_makes_a_job(settings):
    make = LineJobs(settings)
    assert make(1, {"id": "x" * MAX_LINE_ID_BYTES, "prompt": "x"})
    for bad in ("x" * (MAX_LINE_ID_BYTES + 1), "", "a b", "a\x00b", "half \ud800"):
        with pytest.raises(BadJob, match=r"^id: expected 1 to"):
            make(1, {"id": bad, "prompt": "x"})


def test_a_lane_for_the_whole_file_leaves_a_lines_own_alone(settings):
    make = LineJobs(settings, options=RunOptions(lane=Lane.OVERNIGHT))
    assert make(1, {"prompt": "x"}).job.lane == "overnight"
    assert make(1, {"prompt": "x", "lane": "interactive"}).job.lane == "interactive"


def test_a_ledger_counts_what_is_open_and_how_lines_ended():
    ledger = Ledger(bytearray([0, 1, 0, 1, 1]))
    assert (ledger.total, ledger.open) == (3, 3)

    ledger.settle(1, Status.SUCCEEDED)
    ledger.settle(1, Status.FAILED)  # has its result already
    ledger.settle(2, Status.FAILED)  # no line with a job
    ledger.try_again(3)
    ledger.try_again(1)

    assert [ledger[line] for line in range(6)] == [
        Line.NONE,
        Line.SUCCEEDED,
        Line.NONE,
        Line.AGAIN,
        Line.OPEN,
        Line.NONE,
    ]
    assert [line for line in range(6) if ledger.is_open(line)] == [3, 4]
    assert [line for line in range(6) if ledger.has_ended(line)] == [1]
    ledger.settle(3, Status.EXPIRED)
    assert (ledger.open, ledger.ended[Status.SUCCEEDED], ledger.ended[Status.EXPIRED]) == (1, 1, 1)


def test_the_rate_is_that_of_the_last_minute():
    meter = RateMeter()
    assert meter.per_minute() is None
    meter.note(0, 100.0)
    meter.note(5, 100.5)
    assert meter.per_minute() is None
    meter.note(10, 101.0)
    assert meter.per_minute() == 600
    for second in range(102, 222):
        meter.note(10 + 2 * (second - 101), float(second))
    assert meter.per_minute() == 120


def test_the_time_left_follows_the_rate_and_before_there_is_one_the_budget():
    assert time_left(100, 50.0, 10.0) == timedelta(minutes=2)
    assert time_left(100, None, 10.0) == timedelta(minutes=10)
    assert time_left(100, 0.0, 10.0) == timedelta(minutes=10)
    assert time_left(100, None, 0.0) is None


def test_what_redis_has_forgotten_is_not_counted_backwards():
    before, now = Spent(10, 5, Decimal(2)), Spent(3, 8, Decimal(1))
    assert now.since(before) == Spent(0, 3, Decimal(0))


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_within_their_error(seed):
    chance = random.Random(seed)
    values = sorted(chance.lognormvariate(0, 2) for _ in range(5_000))
    quantiles = Quantiles()
    for value in chance.sample(values, len(values)):
        quantiles.add(value)
    for share in (0.0, 0.01, 0.5, 0.95, 0.99, 1.0):
        exact = values[max(1, round(share * len(values))) - 1]
        assert quantiles.quantile(share) == pytest.approx(exact, rel=ERROR * 1.000001)


def test_percentiles_of_little_and_of_nothing():
    quantiles = Quantiles()
    assert quantiles.quantile(0.5) is None
    quantiles.add(-1)
    quantiles.add(0)
    assert quantiles.quantile(0.99) == 0
    quantiles.add(8)
    assert quantiles.quantile(0.5) == 0
    assert quantiles.quantile(0.99) == pytest.approx(8, rel=ERROR)


def attempt(at: timedelta) -> Attempt:
    return Attempt(1, "m", T0 + at, T0 + at + timedelta(seconds=1), "succeeded")


def summary_of(results):
    collector = SummaryCollector(since=T0)
    for result in results:
        collector.add(result)
    return collector.summary(
        run="r",
        output=Path("out"),
        skipped=0,
        problems=(),
        budget_per_minute=60.0,
        answered_before=0,
        wall_time=timedelta(minutes=1),
    )


def test_a_summary_adds_up_what_the_store_holds():
    good = Result(
        job_id="r/1",
        status=Status.SUCCEEDED,
        usage=Usage(input_tokens=10, output_tokens=5, cache_read_tokens=3, service_tier="standard"),
        cost_usd=Decimal("0.1"),
        latency=timedelta(seconds=2),
        queue_time=timedelta(seconds=1),
        quality={"words": 10, "code_block": True, "similarity": None, "specific_examples": 2, "other": "x"},
        attempts=(attempt(timedelta(0)),),
    )
    unpriced = Result(
        job_id="r/2",
        status=Status.SUCCEEDED,
        usage=Usage(input_tokens=1, output_tokens=1),
        quality={"words": 20, "code_block": False},
        attempts=(attempt(timedelta(seconds=1)), attempt(timedelta(seconds=2))),
    )
    failed = Result(job_id="r/3", status=Status.FAILED, error=Failure("overloaded", "busy"))
    earlier = Result(job_id="r/4", status=Status.CANCELLED, attempts=(attempt(timedelta(days=-1)),))

    summary = summary_of([good, unpriced, failed, earlier])

    assert summary.total == 4
    assert summary.counts == {
        Status.SUCCEEDED: 2,
        Status.FAILED: 1,
        Status.CANCELLED: 1,
        Status.EXPIRED: 0,
    }
    assert not summary.ok
    assert summary.usage == Usage(input_tokens=11, output_tokens=6, cache_read_tokens=3)
    assert (summary.cost_usd, summary.unpriced, summary.attempts) == (Decimal("0.1"), 1, 4)
    assert summary.latency.p99.total_seconds() == pytest.approx(2, rel=ERROR)
    assert summary.quality == {
        "words": Mean(15.0, 2),
        "code_block": Mean(0.5, 2),
        "specific_examples": Mean(2.0, 1),
    }
    assert summary.errors == {"overloaded": 1}
    assert summary.rate_per_minute == pytest.approx(60)  # two intervals in two seconds; yesterday's request is left out


def test_a_summary_of_nothing_new_claims_no_rate_and_no_latency():
    summary = summary_of([Result(job_id="r/1", status=Status.EXPIRED)])
    assert (summary.rate_per_minute, summary.latency, summary.queue_time, summary.quality) == (None, None, None, {})
