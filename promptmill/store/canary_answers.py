"""What came of canaries: one row for each that has ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from promptmill.canaries.sets import CANARY_TAG, KIND, ROUND_TAG
from promptmill.results import Status
from promptmill.store.database import Database
from promptmill.store.schema import results

IS_CANARY: Final = sa.func.coalesce(results.c.kind, "").startswith(KIND, autoescape=True)
"""Whether a result is a canary's."""


@dataclass(frozen=True, slots=True)
class CanaryAnswer:
    """How one canary of one round ended."""

    job_id: str
    model: str
    """That was asked."""
    kind: str
    """Of its set."""
    canary: str
    round: str
    finished_at: datetime
    passed: bool | None
    """Whether each check was passed that could be made; None: there is no answer, or no check could be made. An answer
    that was billed and is none, such as a refusal, did not pass."""
    answered: bool


def canary_answers(connection: sa.Connection, *, database: Database, since: datetime) -> list[CanaryAnswer]:
    """Return the canaries that ended since then, in the order in which they did."""
    tags = (database.tag(results.c.tags, name) for name in (CANARY_TAG, ROUND_TAG))
    canary, name = (tag.label(label) for tag, label in zip(tags, ("canary", "round"), strict=True))
    chosen = (
        sa.select(
            results.c.job_id,
            results.c.asked_model,
            results.c.kind,
            canary,
            name,
            results.c.finished_at,
            results.c.status,
            results.c.instruction_following,
            results.c.output_tokens,
        )
        .where(results.c.finished_at >= since, IS_CANARY)
        .order_by(results.c.finished_at, results.c.seq)
    )
    rows = connection.execute(chosen)
    # A stranger may call a kind of prompts as it likes.
    return [_answer(row) for row in rows if row.asked_model and row.canary and row.round]


def _answer(row: sa.Row[Any]) -> CanaryAnswer:
    followed = row.instruction_following
    is_bad = row.status == Status.FAILED.value and row.output_tokens is not None
    return CanaryAnswer(
        job_id=row.job_id,
        model=row.asked_model,
        kind=row.kind,
        canary=row.canary,
        round=row.round,
        finished_at=row.finished_at,
        passed=False if is_bad else None if followed is None else followed == 1,
        answered=is_bad or row.status == Status.SUCCEEDED.value,
    )
