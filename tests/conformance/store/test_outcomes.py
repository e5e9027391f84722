"""What requests came to and whose fault it was, and why another model answered: counted in SQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from promptmill.results import Attempt, Result
from promptmill.store import AttemptRecord, Fallbacks, Outcomes, ResultStore
from promptmill.store.schema import FELL_BACK, results
from tests.conformance.store.samples import answer, attempt, failed, overloaded

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def tried(number: int, model: str, hours: float = 0, *, fails: bool = False) -> Attempt:
    at = TEN + hours * HOUR
    return replace(overloaded(number) if fails else attempt(number), model=model, started_at=at, ended_at=at)


def job(job_id: str, *attempts: Attempt, asked: str = "first", hours: float = 0) -> Result:
    return answer(job_id, attempts=attempts, asked_model=asked, kind="", finished_at=TEN + hours * HOUR)


async def test_failures_are_counted_by_model_and_hour_and_answers_over_the_whole_time(store: ResultStore) -> None:
    await store.record(
        [
            job("a", tried(1, "first", fails=True), tried(2, "first", 1, fails=True), tried(3, "first", 1)),
            job("b", tried(1, "first", 59 / 60, fails=True), tried(2, "second", 2)),
            job("c", tried(1, "first", 3)),
            AttemptRecord("still tried", tried(1, "second", fails=True)),
            failed("d", attempts=(replace(failed().attempts[0], model="second", ended_at=TEN),)),
        ]
    )
    found = await store.outcomes(since=TEN)
    assert sorted(found, key=repr) == sorted(
        [
            Outcomes("first", "succeeded", None, None, 2),
            Outcomes("first", "overloaded", "provider", TEN, 2),
            Outcomes("first", "overloaded", "provider", TEN + HOUR, 1),
            Outcomes("second", "succeeded", None, None, 1),
            Outcomes("second", "overloaded", "provider", TEN, 1),
            Outcomes("second", "invalid_request", "ours", TEN, 1),
        ],
        key=repr,
    )


async def test_a_fallback_is_told_with_what_the_last_request_before_it_came_to(store: ResultStore) -> None:
    refused = replace(tried(2, "first", fails=True), outcome="timeout")
    await store.record(
        [
            job("a", tried(1, "first", fails=True), tried(2, "second")),
            job("b", tried(1, "first", fails=True), refused, tried(3, "second", fails=True), tried(4, "second")),
            job("c", tried(1, "second")),
            job("d", tried(1, "first", fails=True), tried(2, "second"), hours=1),
            job("e", tried(1, "first", fails=True), tried(2, "first")),
            failed("f", attempts=(tried(1, "second", fails=True),), asked_model="first", finished_at=TEN),
        ]
    )
    assert await store.fallbacks(since=TEN) == [
        Fallbacks("first", "second", None, TEN, 1),
        Fallbacks("first", "second", "overloaded", TEN, 1),
        Fallbacks("first", "second", "overloaded", TEN + HOUR, 1),
        Fallbacks("first", "second", "timeout", TEN, 1),
    ]


async def test_nothing_from_before_is_counted(store: ResultStore) -> None:
    before = -1e-3
    await store.record([job("a", tried(1, "first", before, fails=True), tried(2, "second", before), hours=before)])
    assert await store.outcomes(since=TEN) == []
    assert await store.fallbacks(since=TEN) == []


async def test_fallbacks_are_found_without_reading_the_other_answers(store: ResultStore, backend: str) -> None:
    """Of a million answers that is the difference between a moment and reading gigabytes."""
    if backend != "sqlite":
        pytest.skip("PostgreSQL chooses by statistics, which an empty table has not")
    statement = sa.select(sa.func.count()).select_from(results).where(results.c.finished_at >= TEN, FELL_BACK)
    compiled = statement.compile(dialect=store._database._engine.dialect, compile_kwargs={"literal_binds": False})
    plan = await store._database.read(
        lambda connection: connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", ("2026",)).all()
    )
    assert "ix_promptmill_results_fallbacks" in str(plan)
