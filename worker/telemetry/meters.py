"""Counters and histograms of what a worker did. Nothing is counted where `metrics_address` is unset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from promptmill.errors import MissingExtra
from promptmill.results import Attempt, Result

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

SECONDS: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300, 600, 1_800, 7_200, 28_800)
"""Upper ends of the buckets of every duration: calls of a tenth of a second to nights in the queue."""

NONE: Final = "none"
"""Stands where a label has no value: Prometheus takes an empty one for none at all."""


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

        registry = registry or REGISTRY
        self._attempts = Counter(
            "promptmill_attempts",
            "Requests sent, by outcome and whose fault.",
            ["model", "lane", "outcome", "blame"],
            registry=registry,
        )
        self._jobs = Counter(
            "promptmill_jobs",
            "Jobs ended; fallback: another model answered.",
            ["model", "lane", "status", "fallback"],
            registry=registry,
        )
        self._tokens = Counter(
            "promptmill_tokens",
            "Tokens of answers; kind: input, output, cache_write, cache_read.",
            ["model", "lane", "kind"],
            registry=registry,
        )
        self._cost = Counter(
            "promptmill_cost_usd",
            "What jobs that ended have cost, all attempts included.",
            ["model", "lane"],
            registry=registry,
        )
        self._latency = Histogram(
            "promptmill_latency_seconds",
            "Durations by stage: queue (submit to first claim), first_byte (streamed answers), whole (one request).",
            ["model", "lane", "stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._quality = Summary(
            "promptmill_quality",
            "Metrics of answers (docs/metrics.md): sum over count is the mean, of a flag its share.",
            ["model", "lane", "metric"],
            registry=registry,
        )

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
        for metric, value in (result.quality or {}).items():
            if isinstance(value, bool | int | float):
                self._quality.labels(model, lane, metric).observe(value)


def make_meters(address: str | None) -> Meters:
    """Return where a worker counts. Raises MissingExtra where it should and cannot."""
    if address is None:
        return NoMeters()
    try:
        return PrometheusMeters()
    except ImportError:
        raise MissingExtra("metrics_address", "prometheus") from None
