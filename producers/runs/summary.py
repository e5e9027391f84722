"""What a run came to, computed from the store's results as they pass by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from producers.files import Problem
from producers.runs.quantiles import Quantiles
from promptmill.metrics import BUILT_IN
from promptmill.results import Result, Status, Usage

_COUNTED: Final = tuple(name for name in Usage.__dataclass_fields__ if name.endswith("_tokens"))

_ORDER: Final = {name: place for place, name in enumerate(BUILT_IN)}


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of durations, each within 0.5 %."""

    p50: timedelta
    p95: timedelta
    p99: timedelta


@dataclass(frozen=True, slots=True)
class Mean:
    """Of one metric, over the answers that have it."""

    value: float
    count: int


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run came to, over all its sessions."""

    run: str
    output: Path
    total: int
    counts: Mapping[Status, int]
    """Lines by the status of their result; every status is there."""
    skipped: int
    """Bad lines that were left out; `problems` holds the first of them."""
    problems: tuple[Problem, ...]
    usage: Usage
    """Sum over the results that have any: bad answers are billed as well."""
    cost_usd: Decimal
    """Of all attempts with a known price."""
    unpriced: int
    """Answers of models that have no known price."""
    attempts: int
    latency: Percentiles | None
    """Of the attempt that was answered; None without answers."""
    queue_time: Percentiles | None
    quality: Mapping[str, Mean]
    """The means of all metrics, plug-ins included; of a flag that is the share of answers that have it. A metric that
    no answer has is missing."""
    errors: Mapping[str, int]
    """Failures by name, the most frequent first."""
    budget_per_minute: float
    """Requests a minute that the settings allow for the models of this file."""
    rate_per_minute: float | None
    """Requests a minute in this session, from its first request to its last; None where it made fewer than two."""
    answered_before: int
    """Lines that had their result when this session began."""
    wall_time: timedelta
    """Of this session."""

    @property
    def ok(self) -> bool:
        """Whether every line that was sent has an answer."""
        return self.counts[Status.SUCCEEDED] == self.total


class SummaryCollector:
    """Adds results up, in memory that does not grow with their number. `since`: when this session began."""

    def __init__(self, since: datetime) -> None:
        self._since = since
        self.results = 0
        self._counts = dict.fromkeys(Status, 0)
        self._usage: Counter[str] = Counter()
        self._cost = Decimal(0)
        self._unpriced = 0
        self._attempts = 0
        self._latency = Quantiles()
        self._queue_time = Quantiles()
        self._sums: Counter[str] = Counter()
        self._measured: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._sent = 0
        self._first: datetime | None = None
        self._last: datetime | None = None

    def add(self, result: Result) -> None:
        """Take a result in."""
        self.results += 1
        self._counts[result.status] += 1
        self._cost += result.cost_usd or 0
        self._unpriced += result.ok and result.cost_usd is None
        if result.usage is not None:
            for name in _COUNTED:
                self._usage[name] += getattr(result.usage, name)
        if result.latency is not None and result.ok:
            self._latency.add(result.latency.total_seconds())
        if result.queue_time is not None:
            self._queue_time.add(result.queue_time.total_seconds())
        if result.error is not None:
            self._errors[result.error.name] += 1
        self._take_quality(result.quality or {})
        self._take_attempts(result)

    def summary(
        self,
        *,
        run: str,
        output: Path,
        skipped: int,
        problems: tuple[Problem, ...],
        budget_per_minute: float,
        answered_before: int,
        wall_time: timedelta,
    ) -> RunSummary:
        """Return what was added up."""
        return RunSummary(
            run=run,
            output=output,
            total=self.results,
            counts=self._counts,
            skipped=skipped,
            problems=problems,
            usage=Usage(**self._usage),  # type: ignore[arg-type]  # counts only, see _COUNTED
            cost_usd=self._cost,
            unpriced=self._unpriced,
            attempts=self._attempts,
            latency=_percentiles(self._latency),
            queue_time=_percentiles(self._queue_time),
            quality={
                name: Mean(self._sums[name] / self._measured[name], self._measured[name])
                for name in sorted(self._measured, key=_place)
            },
            errors=dict(self._errors.most_common()),
            budget_per_minute=budget_per_minute,
            rate_per_minute=self._rate(),
            answered_before=answered_before,
            wall_time=wall_time,
        )

    def _take_quality(self, quality: Mapping[str, Any]) -> None:
        for name, value in quality.items():
            if isinstance(value, int | float):
                self._sums[name] += value  # type: ignore[assignment]  # Counter adds floats as well
                self._measured[name] += 1

    def _take_attempts(self, result: Result) -> None:
        self._attempts += len(result.attempts)
        for attempt in result.attempts:
            at = attempt.started_at
            if at >= self._since:
                self._sent += 1
                self._first = at if self._first is None else min(self._first, at)
                self._last = at if self._last is None else max(self._last, at)

    def _rate(self) -> float | None:
        if self._first is None or self._last is None or self._first == self._last:
            return None
        return (self._sent - 1) * (timedelta(minutes=1) / (self._last - self._first))


def _place(metric: str) -> tuple[int, str]:
    """Sort built-in metrics as they are declared, then plug-ins by name."""
    return _ORDER.get(metric, len(_ORDER)), metric


def _percentiles(of: Quantiles) -> Percentiles | None:
    if not of.count:
        return None
    p50, p95, p99 = (timedelta(seconds=of.quantile(share) or 0.0) for share in (0.50, 0.95, 0.99))
    return Percentiles(p50, p95, p99)
