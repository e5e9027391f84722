"""Counters and histograms of what a worker did. Nothing is counted where `metrics_address` is unset."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from promptmill.errors import MissingExtra
from promptmill.jobs import KIND_TAG
from promptmill.results import Attempt, Result
from worker.telemetry import names

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SECONDS: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300, 600, 1_800, 7_200, 28_800)
"""Upper ends of the buckets of every duration: calls of a tenth of a second to nights in the queue."""

NONE: Final = "none"
"""Stands where a label has no value: Prometheus takes an empty one for none at all."""

MAX_KINDS: Final = 30
"""Kinds of prompts with labels of their own: each costs Prometheus a series for every metric, model and lane."""
UNNAMED: Final = "unnamed"
OTHER: Final = "other"


class Meters(Protocol):
    """What the pipeline tells."""

    def attempted(self, attempt: Attempt, *, lane: str) -> None:
        """Count a request that was sent."""

    def ended(self, result: Result, *, fell_back: bool) -> None:
        """Count a job that has ended, once its end is settled."""


class NoMeters:
    """Counts nothing."""

    def attempted(self, attempt: Attempt, *, lane: str) -> None:
        """Do nothing."""

    def ended(self, result: Result, *, fell_back: bool) -> None:
        """Do nothing."""


class PrometheusMeters:
    """Counts in `registry`; None: where this process counts (see exposition)."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # Not at the top: whether it counts in files for several processes is settled when it is imported.
        from prometheus_client import REGISTRY, Counter, Histogram, Summary  # noqa: PLC0415

        made: dict[str, Any] = {
            "counter": Counter,
            "summary": Summary,
            "histogram": partial(Histogram, buckets=SECONDS),
        }
        counted: dict[str, Any] = {
            name: made[it.type](name, it.says, it.labels, registry=registry or REGISTRY)
            for name, it in names.COUNTED.items()
        }
        self._attempts = counted[names.ATTEMPTS]
        self._jobs = counted[names.JOBS]
        self._fallbacks = counted[names.FALLBACKS]
        self._tokens = counted[names.TOKENS]
        self._cost = counted[names.COST]
        self._latency = counted[names.LATENCY]
        self._quality = counted[names.QUALITY]
        self._kinds: set[str] = set()

    def attempted(self, attempt: Attempt, *, lane: str) -> None:
        """Count a request that was sent."""
        blame = attempt.failure.blame if attempt.failure else NONE
        self._attempts.labels(attempt.model, lane, attempt.outcome, blame).inc()
        if attempt.failure is None:
            self._latency.labels(attempt.model, lane, "whole").observe(attempt.duration.total_seconds())
        if attempt.first_byte is not None:
            self._latency.labels(attempt.model, lane, "first_byte").observe(attempt.first_byte.total_seconds())

    def ended(self, result: Result, *, fell_back: bool) -> None:
        """Count a job that has ended, once its end is settled."""
        model, lane = result.attempts[-1].model if result.attempts else NONE, result.lane
        self._jobs.labels(model, lane, result.status.value, "yes" if fell_back else "no").inc()
        if result.queue_time is not None:
            self._latency.labels(model, lane, "queue").observe(max(0.0, result.queue_time.total_seconds()))
        if result.usage is not None:
            used = result.usage
            for kind, tokens in (
                ("input", used.input_tokens),
                ("output", used.output_tokens),
                ("cache_write", used.cache_write_5m_tokens + used.cache_write_1h_tokens),
                ("cache_read", used.cache_read_tokens),
            ):
                self._tokens.labels(model, lane, kind).inc(tokens)
        if result.cost_usd is not None:
            self._cost.labels(model, lane).inc(float(result.cost_usd))
        if fell_back and result.ok:
            self._fallbacks.labels(result.asked_model or NONE, model, _why_not_asked(result)).inc()
        if result.quality:
            kind = self._kind_of(result)
            for metric, value in result.quality.items():
                if isinstance(value, bool | int | float):
                    self._quality.labels(model, lane, kind, metric).observe(value)

    def _kind_of(self, result: Result) -> str:
        """Return the label of a kind that its owner named. There may be any number of hashes: they get none."""
        if not result.tags.get(KIND_TAG):
            return UNNAMED
        if result.kind not in self._kinds and len(self._kinds) >= MAX_KINDS:
            return OTHER
        self._kinds.add(result.kind)
        return result.kind


def _why_not_asked(result: Result) -> str:
    """Return what the last request to another model than the one that answered came to."""
    others = [attempt.outcome for attempt in result.attempts if attempt.model != result.attempts[-1].model]
    return others[-1] if others else NONE


def make_meters(address: str | None) -> Meters:
    """Return where a worker counts. Raises MissingExtra where it should and cannot."""
    if address is None:
        return NoMeters()
    try:
        return PrometheusMeters()
    except ImportError:
        raise MissingExtra("metrics_address", "prometheus") from None
