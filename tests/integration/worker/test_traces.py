"""One trace from whoever submits a job, over the worker, to the request that the SDK sends."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from promptmill.errors import MissingExtra
from tests.support.providers import answering, failing
from tests.support.workers import make_job
from worker.telemetry import start_exporting

OURS = "promptmill run_prompt"


@pytest.fixture
def spans(monkeypatch):
    """Every finished span of this process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield lambda: {span.name: span for span in exporter.get_finished_spans()}
    provider.shutdown()


async def test_the_request_hangs_below_the_job_and_the_job_below_whoever_submitted_it(mill, spans):
    mill.api.script = [answering("A secret answer.")]
    async with mill.worker() as worker:
        with trace.get_tracer("app").start_as_current_span("handle web request") as web:
            await mill.submit(make_job())
        await mill.ends.of("job-1")
        await worker.finished()
    ours = spans()[OURS]
    (request,) = [span for span in spans().values() if span.kind is SpanKind.CLIENT]
    assert ours.parent.span_id == web.get_span_context().span_id
    assert request.parent.span_id == ours.context.span_id
    assert ours.kind is SpanKind.CONSUMER
    assert ours.attributes["messaging.message.id"] == "job-1"
    assert request.name == f"chat {make_job().model}"
    assert request.attributes["gen_ai.request.model"] == make_job().model
    assert request.attributes["gen_ai.usage.output_tokens"] > 0
    assert request.attributes["gen_ai.response.finish_reasons"] == ("end_turn",)
    assert request.attributes["promptmill.outcome"] == "succeeded"
    everything = "".join(span.to_json() for span in spans().values())
    assert "secret" not in everything
    assert "Hello" not in everything  # the prompt


async def test_a_request_that_failed_says_why_and_whose_fault_it_was(mill, spans):
    mill.api.script = [failing(400, "invalid_request_error", "no")]
    async with mill.worker() as worker:
        await mill.submit(make_job())
        await mill.ends.of("job-1")
        await worker.finished()
    assert spans()[OURS].parent is None  # nobody traced the submission
    request = spans()[f"chat {make_job().model}"]
    assert request.status.status_code is StatusCode.ERROR
    assert (request.attributes["error.type"], request.attributes["promptmill.blame"]) == ("invalid_request", "ours")
    assert request.attributes["http.response.status_code"] == 400


async def test_where_nobody_traces_no_span_is_made(mill, monkeypatch):
    made = []
    monkeypatch.setattr(trace, "get_tracer", lambda *_: made.append(1))
    async with mill.worker():
        await mill.submit(make_job())
        await mill.ends.of("job-1")
    assert (await mill.store.result("job-1")).ok
    assert not made


async def test_whoever_has_set_up_tracing_keeps_it(spans):
    before = trace.get_tracer_provider()
    start_exporting()()
    assert trace.get_tracer_provider() is before


def test_without_the_extra_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtra, match=r"promptmill\[otel\]"):
        start_exporting()
