"""`promptmill quality` on a real store."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from promptmill.alarms import Alarm, SeriesKey
from promptmill.results import Attempt, Result, Status
from promptmill.store.sums import add_up
from promptmill.store.watching import Findings

MODEL = "claude-haiku-5-5"
KEY = SeriesKey(MODEL, MODEL, "summaries", "standard")
KNOWN = {
    "code_block": {"kind": "flag", "worse": "lower", "baseline": {"mean": 0.9, "spread": 0.3, "answers": 10_000}},
    "words": {"kind": "amount", "worse": "either", "baseline": {"mean": 50.0, "spread": 2.0, "answers": 10_000}},
}


def answer(number: int, ended: datetime, **fields) -> Result:
    attempt = Attempt(number=1, model=MODEL, started_at=ended, ended_at=ended, outcome="succeeded")
    plain = {
        "model": MODEL,
        "asked_model": MODEL,
        "kind": KEY.kind,
        "attempts": (attempt,),
        "finished_at": ended,
        "quality": {"code_block": number % 2 == 0, "words": 50 + number % 3, "similarity": None},
    }
    return Result(f"job-{number}", Status.SUCCEEDED, **{**plain, **fields})


@pytest.fixture
def answered(machine):
    """A hundred answers an hour ago, half of them without code; an alarm about that, and one about all together."""
    now = datetime.now(UTC)
    before = now - timedelta(hours=1)
    raised = [
        Alarm(KEY, metric, "lower", "all clearly", since=before, raised_at=now, answers=40, once_in=10**6)
        for metric in ("code_block", "overall")
    ]

    async def fill(store):
        await store.record([answer(number, before) for number in range(100)])
        turn = await store.watching.take_turn("worker", now=now, until=now)
        hours = add_up(await store.watching.page(turn, limit=1_000))
        found = Findings(
            before=0, seq=turn.newest, states={KEY: {}}, summaries={KEY: KNOWN}, hours=hours, raised=raised
        )
        assert await store.watching.record(found)
        await store.record([answer(1_000, before, kind="")])

    machine.on_store(fill)
    return machine


def test_an_empty_store_says_so(machine):
    machine.run("db", "upgrade")
    assert machine.run("quality").stdout == "no measured answers in the last 24 hours\n"
    assert machine.run("quality", "--by", "day").stdout == "no measured answers in the last 336 hours\n"
    assert json.loads(machine.run("quality", "--json").stdout) == []
    assert machine.run("quality", "--csv").stdout.splitlines() == [
        "from,model,asked_model,kind,lane,metric,answers,mean,low,high,baseline"
    ]


def test_what_has_an_alarm_comes_first_then_what_has_certainly_changed(answered):
    done = answered.run("quality", "--kind", "summaries", "--since", "3")
    head, code, mark, words, rest = done.stdout.splitlines()
    assert head.split() == [
        *("model", "prompts", "lane", "metric", "answers", "mean", "95", "%", "certain", "usual", "change"),
        *("3", "hours", "until", "now"),
    ]
    assert code.split()[:-1] == [
        *(MODEL, "summaries", "standard", "code_block", "100", "50.0%", "40.4%", "to", "59.6%", "90.0%"),
        *("worse:", "-40.0", "points"),
    ]
    assert mark.strip() == "▲"
    assert code.index("█") == mark.index("▲")
    assert words.split()[3:12] == ["words", "100", "51.0", "50.8", "to", "51.2", "50.0", "worse:", "+2.0%"]
    assert rest.startswith("alarm 2: overall of claude-haiku-5-5, summaries, standard, since ")


def test_one_answer_is_shown_for_what_it_is(answered):
    rows = json.loads(answered.run("quality", "--json").stdout)
    (words,) = [row for row in rows if row["metric"] == "words" and row["kind"] == ""]
    assert (words["answers"], words["mean"], words["interval"], words["baseline"]) == (1, 51.0, None, None)
    shown = answered.run("quality", "--model", MODEL).stdout
    assert "too few" in shown
    assert "not known" in shown


def test_json_tells_what_it_is_reckoned_from(answered):
    worst = json.loads(answered.run("quality", "--json").stdout)[0]
    assert (worst["metric"], worst["values"], worst["worse_when"]) == ("code_block", "flag", "lower")
    assert worst["interval"] == pytest.approx([0.4038, 0.5962], abs=1e-4)
    assert worst["baseline"] == {"mean": 0.9, "answers": 10_000}
    assert worst["change"]["mean"] == pytest.approx(-0.4)
    assert worst["change"]["interval"][1] < 0 < worst["worse_by"]
    assert [alarm["state"] for alarm in worst["alarms"]] == ["open"]
    assert [(span["answers"], span["mean"]) for span in worst["spans"]] == [(100, 0.5)]


def test_csv_has_a_row_for_each_span(answered):
    rows = list(csv.DictReader(io.StringIO(answered.run("quality", "--csv", "--kind", "summaries").stdout)))
    assert [(row["metric"], row["answers"], row["mean"], row["baseline"]) for row in rows] == [
        ("code_block", "100", "0.5", "0.9"),
        ("words", "100", "50.99", "50.0"),
    ]
    assert datetime.fromisoformat(rows[0]["from"]).minute == 0


def test_only_what_is_asked_for_is_shown_and_what_is_left_out_is_said(answered):
    assert "and 3 more: --limit" in answered.run("quality", "--limit", "1").stdout
    assert answered.run("quality", "--lane", "overnight").stdout == "no measured answers in the last 24 hours\n"
    assert answered.run("quality", "--model", "other").stdout == "no measured answers in the last 24 hours\n"


def test_two_forms_at_once_are_a_usage_error(machine):
    done = machine.run("quality", "--json", "--csv")
    assert (done.exit_code, "got both" in done.stderr) == (2, True)
