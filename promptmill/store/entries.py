"""What is written to the store and read from it, beside the results, attempts and dead letters of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from promptmill.results import Attempt, DeadLetter, Result, Status, Usage


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt of a job that is still being tried."""

    job_id: str
    attempt: Attempt


Entry = Result | AttemptRecord | DeadLetter
"""What `ResultStore.record` takes."""


@dataclass(frozen=True, slots=True)
class Run:
    """One file of prompts that is, or was, worked off."""

    id: str
    input_name: str
    output_name: str
    started_at: datetime
    total_lines: int | None = None
    """None while the input is still being counted."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the run was started with, as far as it must be repeated to resume it."""
    finished_at: datetime | None = None
    """None while lines are unanswered."""


@dataclass(frozen=True, slots=True)
class RunTotals:
    """What a run has come to so far."""

    counts: Mapping[Status, int]
    """Results by status; a status that no result has is missing."""
    usage: Usage
    """Sum over the answers; what is no number is None."""
    cost_usd: Decimal
    """Exact sum over the results whose cost is known."""
    unpriced: int
    """Succeeded results whose cost is not known, because their model has no known price."""


class SettledLine(NamedTuple):
    """A line of a run's input that has its final result."""

    position: int
    job_id: str
    status: Status
