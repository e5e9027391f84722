"""Runs: one file of prompts each."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from promptmill.results import Status, Usage
from promptmill.store import ResultStore, Run, RunTotals
from tests.conformance.store.samples import NOON, answer, failed

NIGHTLY = Run(
    id="nightly",
    input_name="prompts.jsonl",
    output_name="answers.jsonl",
    started_at=NOON,
    total_lines=None,
    options={"model": "claude-haiku-5-5", "tags": {"team": "search"}, "limit": None},
)


async def test_a_run_comes_back_as_it_was_saved(store: ResultStore) -> None:
    await store.save_run(NIGHTLY)

    assert await store.run("nightly") == NIGHTLY
    assert await store.run("weekly") is None


async def test_a_run_is_saved_again_when_it_ends(store: ResultStore) -> None:
    await store.save_run(NIGHTLY)
    ended = replace(NIGHTLY, total_lines=10, finished_at=NOON + timedelta(hours=1))

    await store.save_run(ended)

    assert await store.runs() == [ended]


async def test_the_newest_runs_come_first(store: ResultStore) -> None:
    for hour in (2, 3, 1):
        await store.save_run(replace(NIGHTLY, id=f"run-{hour}", started_at=NOON + timedelta(hours=hour)))

    assert [run.id for run in await store.runs()] == ["run-3", "run-2", "run-1"]
    assert [run.id for run in await store.runs(limit=2)] == ["run-3", "run-2"]


async def test_the_totals_of_a_run_count_everything_that_its_results_used(store: ResultStore) -> None:
    await store.record(
        [
            answer("job-1", usage=Usage(1, 2, 3, 4, 5, 6, "standard"), cost_usd=Decimal("0.1")),
            answer("job-2", usage=Usage(10, 20, 30, 40, 50, 60, "priority"), cost_usd=Decimal("0.2")),
            answer("job-3", usage=None, cost_usd=None),
            failed("job-4", cost_usd=Decimal("0.000000000001")),
            failed("job-5", status=Status.CANCELLED, cost_usd=None),
            answer("elsewhere", run="weekly"),
        ]
    )

    assert await store.run_totals("nightly") == RunTotals(
        counts={Status.SUCCEEDED: 3, Status.FAILED: 1, Status.CANCELLED: 1},
        usage=Usage(11, 22, 33, 44, 55, 66, None),
        cost_usd=Decimal("0.300000000001"),
        unpriced=1,
    )


async def test_a_run_without_results_comes_to_nothing(store: ResultStore) -> None:
    assert await store.run_totals("nightly") == RunTotals({}, Usage(), Decimal(0), 0)
