"""What ties a job to the span that submitted it, without importing OpenTelemetry."""

from __future__ import annotations

import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider

from promptmill.errors import BadJob
from promptmill.jobs import make_job
from promptmill.queue import prepare
from promptmill.settings import Settings
from promptmill.wire import unpack_envelope, unpack_job

REQUEST = {"model": "claude-haiku-5-5", "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]}


def submitted(**fields):
    submission = prepare(make_job({"request": REQUEST, **fields}), Settings())
    return unpack_job(unpack_envelope(submission.payload), job_id="j")


def test_a_job_carries_the_trace_of_whoever_submits_it():
    with TracerProvider().get_tracer("app").start_as_current_span("web") as span:
        context = span.get_span_context()
        assert (
            submitted().trace == f"00-{context.trace_id:032x}-{context.span_id:016x}-03"
        )  # sampled, and of a random id


def test_a_job_that_names_its_trace_keeps_it():
    of_another = f"00-{1:032x}-{2:016x}-00"
    with TracerProvider().get_tracer("app").start_as_current_span("web"):
        assert submitted(trace=of_another).trace == of_another


def test_where_nobody_traces_a_job_carries_nothing(monkeypatch):
    assert submitted().trace is None
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert submitted().trace is None


def test_what_is_no_trace_context_is_refused():
    with pytest.raises(BadJob, match="trace"):
        make_job({"request": REQUEST, "trace": "00-xyz"})
