"""Every metric that Prometheus can be asked for. docs/prometheus.md is made from these tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple


class Described(NamedTuple):
    """What one metric is."""

    type: Literal["counter", "gauge", "histogram", "summary"]
    says: str
    labels: tuple[str, ...] = ()


ATTEMPTS: Final = "promptmill_attempts"
JOBS: Final = "promptmill_jobs"
FALLBACKS: Final = "promptmill_fallbacks"
TOKENS: Final = "promptmill_tokens"
COST: Final = "promptmill_cost_usd"
LATENCY: Final = "promptmill_latency_seconds"
QUALITY: Final = "promptmill_quality"

COUNTED: Final[Mapping[str, Described]] = {
    ATTEMPTS: Described("counter", "Requests sent, by outcome and whose fault.", ("model", "lane", "outcome", "blame")),
    JOBS: Described(
        "counter", "Jobs ended; fallback: another model answered.", ("model", "lane", "status", "fallback")
    ),
    FALLBACKS: Described(
        "counter",
        "Answers of another model than was asked first; reason: what its last request came to, none where the model "
        "class was out and none was sent.",
        ("asked_model", "model", "reason"),
    ),
    TOKENS: Described(
        "counter", "Tokens of answers; kind: input, output, cache_write, cache_read.", ("model", "lane", "kind")
    ),
    COST: Described("counter", "What jobs that ended have cost, all attempts included.", ("model", "lane")),
    LATENCY: Described(
        "histogram",
        "Durations by stage: queue (submit to first claim), first_byte (streamed answers), whole (one request).",
        ("model", "lane", "stage"),
    ),
    QUALITY: Described(
        "summary",
        "Metrics of answers (docs/metrics.md): sum over count is the mean, of a flag its share. kind: the job's tag "
        "`kind`, unnamed without one, other beyond the first 30 that a process met.",
        ("model", "lane", "kind", "metric"),
    ),
}
"""Counted by each worker for itself."""

REDIS_UP: Final = "promptmill_redis_up"
STORE_UP: Final = "promptmill_store_up"
HELD: Final = "promptmill_held_jobs"
QUEUED: Final = "promptmill_queue_jobs"
OLDEST: Final = "promptmill_oldest_job_seconds"
TIME_LEFT: Final = "promptmill_time_left_seconds"
BUDGET: Final = "promptmill_budget_per_minute"
OTHERS: Final = "promptmill_budget_others"
BLOCKED: Final = "promptmill_budget_blocked"
BREAKER: Final = "promptmill_breaker_open_seconds"
PAUSE: Final = "promptmill_pause_seconds"
CAP: Final = "promptmill_cap_usd"
CAP_SPENT: Final = "promptmill_cap_spent_usd"
ALARMS: Final = "promptmill_alarms"
DEAD_LETTERS: Final = "promptmill_dead_letters"

_BY_LANE: Final = ("model_class", "lane")
_BY_DIMENSION: Final = ("model_class", "dimension")
_BY_CAP: Final = ("per", "lane", "model_class", "action")

SHARED: Final[Mapping[str, Described]] = {
    REDIS_UP: Described("gauge", "Whether Redis answers; without it nothing of Redis is told."),
    STORE_UP: Described("gauge", "Whether the result store answers; without it nothing of the store is told."),
    HELD: Described("gauge", "Jobs in Redis: ready, waiting until a time, or running."),
    QUEUED: Described("gauge", "Jobs ready in their lane.", _BY_LANE),
    OLDEST: Described("gauge", "Age of the lane's first job.", _BY_LANE),
    TIME_LEFT: Described("gauge", "Until what is queued is answered; absent where unknown.", _BY_LANE),
    BUDGET: Described("gauge", "What may be spent.", _BY_DIMENSION),
    OTHERS: Described("gauge", "Share of the limit that others of the account take.", _BY_DIMENSION),
    BLOCKED: Described("gauge", "1 while nothing is sent, with the reason.", ("model_class", "reason")),
    BREAKER: Described(
        "gauge", "Since when the provider answers nobody or the account is parked; 0: all is well.", ("model_class",)
    ),
    PAUSE: Described("gauge", "Until a pause is over, such as one after a 429; 0: none.", ("model_class",)),
    CAP: Described("gauge", "What may be spent in each hour or day; all: of every lane or model class.", _BY_CAP),
    CAP_SPENT: Described("gauge", "What was spent of it in the present hour or day.", _BY_CAP),
    ALARMS: Described(
        "gauge", "Metrics of answers that have become worse, until resolved.", ("model", "metric", "state")
    ),
    DEAD_LETTERS: Described("gauge", "Open dead letters."),
}
"""Read from Redis and the result store at each scrape: every worker tells the same."""
