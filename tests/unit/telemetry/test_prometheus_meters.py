"""What a worker counts for Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from promptmill.results import Attempt, Failure, Result, Status, Usage
from worker.telemetry import NoMeters, make_meters, names
from worker.telemetry.meters import MAX_KINDS, PrometheusMeters

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECRET = "the text of an answer"


def attempt(*, seconds: float = 2.0, **fields) -> Attempt:
    return Attempt(
        **{
            "number": 1,
            "model": "claude-haiku-5-5",
            "started_at": NOON,
            "ended_at": NOON + timedelta(seconds=seconds),
            "outcome": "succeeded",
            **fields,
        }
    )


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def meters(registry):
    return PrometheusMeters(registry)


def test_requests_are_counted_by_outcome_and_whose_fault(meters, registry):
    meters.attempted(attempt(), lane="standard")
    for _ in range(2):
        failure = Failure("overloaded", "Overloaded", "provider")
        meters.attempted(attempt(outcome="overloaded", failure=failure), lane="standard")
    labels = {"model": "claude-haiku-5-5", "lane": "standard"}

    def count(**more):
        return registry.get_sample_value("promptmill_attempts_total", {**labels, **more})

    assert count(outcome="succeeded", blame="none") == 1
    assert count(outcome="overloaded", blame="provider") == 2


def test_only_requests_that_were_answered_tell_of_latency(meters, registry):
    meters.attempted(attempt(seconds=4, first_byte=timedelta(seconds=0.4)), lane="interactive")
    meters.attempted(attempt(seconds=500, failure=Failure("stalled", "", "network")), lane="interactive")
    labels = {"model": "claude-haiku-5-5", "lane": "interactive"}

    def seconds(stage):
        return registry.get_sample_value("promptmill_latency_seconds_sum", {**labels, "stage": stage})

    assert (seconds("whole"), seconds("first_byte"), seconds("queue")) == (4, 0.4, None)


def test_a_job_that_ended_tells_what_it_used_and_cost_and_how_good_it_was(meters, registry):
    result = Result(
        "job-1",
        Status.SUCCEEDED,
        text=SECRET,
        usage=Usage(input_tokens=10, output_tokens=20, cache_write_5m_tokens=3, cache_write_1h_tokens=4),
        cost_usd=Decimal("0.25"),
        attempts=(attempt(number=1, model="claude-opus-5-5"), attempt(number=2)),
        quality={"chars": 400, "has_code": True, "language": "en", "similarity": None},
        queue_time=timedelta(seconds=-0.001),  # hosts' clocks differ
        lane="overnight",
    )
    meters.ended(result, fell_back=True)
    labels = {"model": "claude-haiku-5-5", "lane": "overnight"}

    def value(name, **more):
        return registry.get_sample_value(name, {**labels, **more})

    assert value("promptmill_jobs_total", status="succeeded", fallback="yes") == 1
    tokens = [value("promptmill_tokens_total", kind=kind) for kind in ("input", "output", "cache_write", "cache_read")]
    assert tokens == [10, 20, 7, 0]
    assert value("promptmill_cost_usd_total") == 0.25
    assert value("promptmill_latency_seconds_sum", stage="queue") == 0
    assert value("promptmill_quality_sum", kind="unnamed", metric="chars") == 400
    assert value("promptmill_quality_count", kind="unnamed", metric="has_code") == 1
    assert value("promptmill_quality_count", kind="unnamed", metric="language") is None  # no number
    assert SECRET not in generate_latest(registry).decode()


def test_a_job_that_ended_without_a_request_is_counted_too(meters, registry):
    meters.ended(Result("job-1", Status.CANCELLED), fell_back=False)
    labels = {"model": "none", "lane": "standard", "status": "cancelled", "fallback": "no"}
    assert registry.get_sample_value("promptmill_jobs_total", labels) == 1


def test_nothing_is_counted_where_nobody_looks():
    assert isinstance(make_meters(None), NoMeters)


def test_named_kinds_have_a_label_up_to_a_bound_and_hashes_have_none(meters, registry):
    """Each kind costs a series for every metric: jobs with thousands of system prompts must not cost thousands."""

    def measured(kind, tags):
        meters.ended(Result("job", Status.SUCCEEDED, kind=kind, tags=tags, quality={"chars": 1}), fell_back=False)

    for number in [*range(MAX_KINDS + 5), 0]:
        measured(f"kind-{number}", {"kind": f"kind-{number}"})
    for number in range(100):
        measured(f"{number:08x}", {})

    counts = {
        sample.labels["kind"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "promptmill_quality_count"
    }
    assert len(counts) == MAX_KINDS + 2
    assert (counts["kind-0"], counts["other"], counts["unnamed"]) == (2, 5, 100)


@pytest.mark.parametrize(
    ("outcomes", "reason"), [([], "none"), (["overloaded"], "overloaded"), (["overloaded", "timeout"], "timeout")]
)
def test_a_fallback_is_counted_with_why_the_first_model_did_not_answer(meters, registry, outcomes, reason):
    before = [
        attempt(number=number, model="claude-opus-5-5", outcome=outcome)
        for number, outcome in enumerate(outcomes, start=1)
    ]
    tried = (*before, attempt(number=9, model="claude-haiku-5-5"))
    for status in (Status.SUCCEEDED, Status.FAILED):
        meters.ended(Result("job", status, asked_model="claude-opus-5-5", attempts=tried), fell_back=True)
    labels = {"asked_model": "claude-opus-5-5", "model": "claude-haiku-5-5", "reason": reason}
    assert registry.get_sample_value("promptmill_fallbacks_total", labels) == 1


def test_every_metric_is_reported_as_it_is_described(meters, registry):
    told = {family.name: (family.type, family.documentation) for family in registry.collect()}
    assert told == {name: (it.type, it.says) for name, it in names.COUNTED.items()}
