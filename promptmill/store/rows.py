"""Results, attempts, dead letters and runs as rows, and back. The column types see to what databases cannot hold."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa

from promptmill.claude_code import Rewrite
from promptmill.results import Attempt, DeadLetter, Failure, Result, Status, Usage
from promptmill.store.entries import Run
from promptmill.store.schema import attempts, dead_letters, results

Row = Mapping[str, Any]

USAGE_COLUMNS: Final = tuple(usage_field.name for usage_field in dataclasses.fields(Usage))

QUALITY_COLUMNS: Final = {
    "length_chars": "chars",
    "length_words": "words",
    "length_output_tokens": "output_tokens",
    "has_code_block": "code_block",
    "specific_examples": "specific_examples",
    "instruction_following": "instruction_following",
    "similarity": "similarity",
}
"""Column to metric name. They repeat what stands in `quality`, for queries; reading a result does not need them."""

RESULT_COLUMNS: Final = tuple(column for column in results.c if column.name not in QUALITY_COLUMNS)
ATTEMPT_COLUMNS: Final = tuple(attempts.c)
DEAD_LETTER_COLUMNS: Final = tuple(column for column in dead_letters.c if column.name != "redriven_at")

_NO_USAGE: Final[Row] = dict.fromkeys(USAGE_COLUMNS)
_NO_QUALITY: Final[Row] = dict.fromkeys(QUALITY_COLUMNS)
_EXACT_IN_A_DOUBLE: Final = 2**53
_NO_FAILURE: Final[Row] = dict.fromkeys(("error_name", "error_blame", "error_message"))


def result_row(result: Result) -> dict[str, Any]:
    """Return the row of `result`, without its attempts, which have rows of their own."""
    return {
        "job_id": result.job_id,
        "status": result.status.value,
        "model": result.model,
        "lane": result.lane,
        "asked_model": result.asked_model,
        "sent_model": result.attempts[-1].model if result.ok and result.attempts else None,
        "kind": result.kind,
        "run": result.run,
        "position": result.position,
        "submitted_at": result.submitted_at,
        "finished_at": result.finished_at,
        "queue_time_ms": result.queue_time,
        "latency_ms": result.latency,
        **_usage(result.usage),
        "cost_pico_usd": result.cost_usd,
        **_failure(result.error),
        "request_ref": result.request_ref,
        "worker": result.worker,
        "tags": result.tags,
        **_quality(result.quality),
        "quality": result.quality,
        "text": result.text,
        "message": result.message,
        "rewrites": None if result.rewrites is None else [rewrite.to_line() for rewrite in result.rewrites],
    }


def result_of(row: sa.Row[Any], tried: Iterable[Attempt]) -> Result:
    """Return the result that `row` holds; `tried` are its attempts, in order."""
    return Result(
        job_id=row.job_id,
        status=Status(row.status),
        model=row.model,
        text=row.text,
        message=row.message,
        rewrites=None if row.rewrites is None else tuple(Rewrite(**item) for item in row.rewrites),
        usage=None if row.input_tokens is None else _usage_of(row),
        cost_usd=row.cost_pico_usd,
        attempts=tuple(tried),
        quality=row.quality,
        error=_failure_of(row),
        lane=row.lane,
        asked_model=row.asked_model,
        kind=row.kind or "",  # null in rows that schema 0002 wrote
        tags=row.tags,
        run=row.run,
        position=row.position,
        request_ref=row.request_ref,
        submitted_at=row.submitted_at,
        finished_at=row.finished_at,
        queue_time=row.queue_time_ms,
        latency=row.latency_ms,
        worker=row.worker,
    )


def attempt_row(job_id: str, attempt: Attempt) -> dict[str, Any]:
    """Return the row of one attempt of the job."""
    return {
        "job_id": job_id,
        "number": attempt.number,
        "model": attempt.model,
        "started_at": attempt.started_at,
        "ended_at": attempt.ended_at,
        "outcome": attempt.outcome,
        "status_code": attempt.status_code,
        "request_id": attempt.request_id,
        "first_byte_ms": attempt.first_byte,
        "usage": None if attempt.usage is None else attempt.usage.to_line(),
        "cost_pico_usd": attempt.cost_usd,
        **_failure(attempt.failure),
    }


def attempt_of(row: sa.Row[Any]) -> Attempt:
    """Return the attempt that `row` holds."""
    return Attempt(
        number=row.number,
        model=row.model,
        started_at=row.started_at,
        ended_at=row.ended_at,
        outcome=row.outcome,
        status_code=row.status_code,
        request_id=row.request_id,
        first_byte=row.first_byte_ms,
        usage=None if row.usage is None else Usage.from_line(row.usage),
        cost_usd=row.cost_pico_usd,
        failure=_failure_of(row),
    )


def dead_letter_row(letter: DeadLetter) -> dict[str, Any]:
    """Return the row of an open dead letter."""
    return {column.name: getattr(letter, column.name) for column in DEAD_LETTER_COLUMNS}


def dead_letter_of(row: sa.Row[Any]) -> DeadLetter:
    """Return the dead letter that `row` holds."""
    return DeadLetter(**row._mapping)  # noqa: SLF001 - a public part of SQLAlchemy's Row, whatever its name says


def run_row(run: Run) -> dict[str, Any]:
    """Return the row of `run`."""
    return {
        "id": run.id,
        "input_name": run.input_name,
        "output_name": run.output_name,
        "total_lines": run.total_lines,
        "options": dict(run.options),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }


def run_of(row: sa.Row[Any]) -> Run:
    """Return the run that `row` holds."""
    return Run(**row._mapping)  # noqa: SLF001 - as above


def _usage_of(row: sa.Row[Any]) -> Usage:
    told = {name: getattr(row, name) for name in USAGE_COLUMNS}
    return Usage(**{**told, "web_searches": row.web_searches or 0})  # null in rows that schema 0001 wrote


def _usage(usage: Usage | None) -> Row:
    return _NO_USAGE if usage is None else {name: getattr(usage, name) for name in USAGE_COLUMNS}


def _failure(failure: Failure | None) -> Row:
    if failure is None:
        return _NO_FAILURE
    return {
        "error_name": failure.name,
        "error_blame": failure.blame,
        "error_message": failure.message,
    }


def _failure_of(row: sa.Row[Any]) -> Failure | None:
    if row.error_name is None:
        return None
    return Failure(name=row.error_name, message=row.error_message, blame=row.error_blame)


def _quality(quality: Row | None) -> Row:
    if not quality:
        return _NO_QUALITY
    measured = {column: _number(quality.get(metric)) for column, metric in QUALITY_COLUMNS.items()}
    if measured["has_code_block"] is not None:
        measured["has_code_block"] = bool(measured["has_code_block"])
    return measured


def _number(value: Any) -> float | None:
    """Return a metric that is a number; one that is not still stands in the document."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) and abs(value) < _EXACT_IN_A_DOUBLE else None
