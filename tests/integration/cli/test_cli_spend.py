"""`promptmill spend` and `promptmill latency` on a real store."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from promptmill.results import Attempt, Result, Status, Usage

SECOND = timedelta(seconds=1)


def answer(job_id: str, ended: datetime, cost: str | None, **fields) -> Result:
    model = fields.pop("asked", "claude-haiku-5-5")
    attempt = Attempt(
        number=1,
        model=model,
        started_at=ended - 2 * SECOND,
        ended_at=ended,
        outcome="succeeded",
        first_byte=SECOND / 4,
        usage=Usage(input_tokens=1_000, output_tokens=10, cache_read_tokens=50, cache_write_1h_tokens=7),
        cost_usd=None if cost is None else Decimal(cost),
    )
    plain = {"model": model, "attempts": (attempt,), "finished_at": ended, "latency": 2 * SECOND, "queue_time": SECOND}
    return Result(job_id, Status.SUCCEEDED, **{**plain, **fields})


@pytest.fixture
def spent(machine):
    """Two hours ago one request, an hour ago two, and one before all that is asked for."""
    now = datetime.now(UTC)
    results = [
        answer("old", now - timedelta(hours=30), "9"),
        answer("a", now - timedelta(hours=2), "0.25", lane="overnight", tags={"team": "search"}),
        answer("b", now - timedelta(hours=1), "1.5", asked="claude-opus-5-5"),
        answer("c", now - timedelta(hours=1), None, asked="our-model", tags={"team": "ads"}),
    ]
    machine.on_store(lambda store: store.record(results))
    return machine


def test_each_model_has_a_row_the_dearest_first_and_all_have_one_together(spent):
    done = spent.run("spend")
    assert done.exit_code == 0
    head, *rows, unpriced = done.stdout.splitlines()
    assert head.split() == [
        "model",
        "requests",
        "tokens",
        "in",
        "cached",
        "out",
        "USD",
        "USD",
        "an",
        "hour",
        "most",
        "in",
        "one",
        "24",
        "hours",
        "until",
        "now",
    ]
    assert [row.split()[:8] for row in rows] == [
        ["claude-opus-5-5", "1", "1,000", "57", "10", "1.5000", "0.0625", "1.5000"],
        ["claude-haiku-5-5", "1", "1,000", "57", "10", "0.2500", "0.0104", "0.2500"],
        ["our-model", "1", "1,000", "57", "10", "0.0000", "0.0000", "0.0000"],
        ["all", "3", "3,000", "171", "30", "1.7500", "0.0729", "1.5000"],
    ]
    assert rows[3].split()[8:] == ["▁█"]
    assert unpriced == "1 requests have no known price and are not in these figures"


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("lane", {"overnight": "0.25", "standard": "1.5"}),
        ("tag:team", {"search": "0.25", "ads": "0", None: "1.5"}),
        ("tag:none of that name", {None: "1.75"}),
    ],
)
def test_spending_can_be_told_by_lane_and_by_any_tag(spent, by, expected):
    rows = json.loads(spent.run("spend", "--by", by, "--json").stdout)
    costs: dict[str | None, Decimal] = {}
    for row in rows:
        costs[row["group"]] = costs.get(row["group"], Decimal(0)) + Decimal(row["cost_usd"])
    assert costs == {group: Decimal(cost) for group, cost in expected.items()}


def test_json_has_an_object_for_each_hour_and_group(spent):
    rows = json.loads(spent.run("spend", "--since", "100", "--json").stdout)
    assert [(row["group"], row["cost_usd"], row["unpriced"]) for row in rows] == [
        ("claude-haiku-5-5", "9", 0),
        ("claude-haiku-5-5", "0.25", 0),
        ("claude-opus-5-5", "1.5", 0),
        ("our-model", "0", 1),
    ]
    assert {datetime.fromisoformat(row["hour"]).minute for row in rows} == {0}
    assert rows[0] | {"hour": None} == {
        "hour": None,
        "group": "claude-haiku-5-5",
        "requests": 1,
        "input_tokens": 1_000,
        "cache_write_tokens": 7,
        "cache_read_tokens": 50,
        "output_tokens": 10,
        "cost_usd": "9",
        "unpriced": 0,
    }


@pytest.mark.parametrize("by", ["tag", "tag:", "colour", ""])
def test_a_grouping_that_nobody_knows_is_a_usage_error(machine, by):
    done = machine.run("spend", "--by", by)
    assert (done.exit_code, "expected model, lane or tag:NAME" in done.stderr) == (2, True)


def test_where_nothing_happened_that_is_said(machine):
    machine.run("db", "upgrade")
    assert machine.run("spend").stdout == "nothing was spent in the last 24 hours\n"
    assert machine.run("latency", "--since", "1").stdout == "no answers in the last 1 hours\n"
    assert json.loads(machine.run("latency", "--json").stdout) == []


def test_latency_is_told_by_model_lane_and_stage(spent):
    rows = json.loads(spent.run("latency", "--json").stdout)
    assert [(row["model"], row["lane"]) for row in rows] == [
        ("claude-haiku-5-5", "overnight"),
        ("claude-opus-5-5", "standard"),
        ("our-model", "standard"),
    ]
    assert rows[0]["queue"] == {"count": 1, "p50_s": 1.0, "p95_s": 1.0, "p99_s": 1.0}
    assert (rows[0]["first_byte"]["p50_s"], rows[0]["whole"]["p99_s"]) == (0.25, 2.0)
    table = spent.run("latency").stdout
    assert "claude-opus-5-5" in table
    assert table.count("0.250 s") == 9


def test_a_stage_that_nobody_saw_is_left_empty(machine):
    now = datetime.now(UTC)
    machine.on_store(
        lambda store: store.record([Result("a", Status.SUCCEEDED, model="m", latency=SECOND, finished_at=now)])
    )
    (row,) = json.loads(machine.run("latency", "--json").stdout)
    assert (row["queue"], row["first_byte"], row["whole"]["p50_s"]) == (None, None, 1.0)
    assert machine.run("latency").stdout.splitlines()[-1].split() == [
        "m",
        "standard",
        "0",
        "0",
        "1",
        *["1.000", "s"] * 3,
    ]
