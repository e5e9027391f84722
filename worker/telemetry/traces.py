"""OpenTelemetry spans: one for each claim of a job that is sent, below the span of whoever submitted the job.

The request has a span of its own below it, with the attributes of the GenAI semantic conventions; prompts and answers
are in neither (I7). The Claude SDK's own spans are off: it makes none for bodies that are sent as they came in. Without
an OpenTelemetry SDK in the process all of this is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from promptmill.errors import MissingExtra
from promptmill.jobs import Job
from promptmill.queue import Claim
from promptmill.results import Attempt

NAME: Final = "promptmill run_prompt"
_VERSION: Final = version("promptmill")
"""Looked up once: it is read from a file, and each request has two spans."""


def start_exporting() -> Callable[[], None]:
    """Export spans over OTLP, where OpenTelemetry's own variables say; what stops it, and sends what is left.

    Raises MissingExtra. Whoever has set up a tracer provider keeps it: then nothing is started.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise MissingExtra("traces", "otel") from None
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return lambda: None
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "promptmill-worker"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def span_of_job(job: Job, claim: Claim) -> AbstractContextManager[None]:
    """Trace what is done under `claim`; of an exception it keeps the class alone."""
    return _span_of_job(job, claim) if _is_traced() else nullcontext()


@contextmanager
def _span_of_job(job: Job, claim: Claim) -> Iterator[None]:
    parent = TraceContextTextMapPropagator().extract({"traceparent": job.trace}) if job.trace else context.Context()
    attributes = {
        "messaging.system": "promptmill",
        "messaging.operation.type": "process",
        "messaging.destination.name": claim.lane.value,
        "messaging.message.id": job.id,
        "promptmill.budget": claim.budget,
        "promptmill.attempt": claim.number,
        "promptmill.route": claim.route,
    }
    with _tracer().start_as_current_span(
        NAME,
        context=parent,
        kind=SpanKind.CONSUMER,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except BaseException as error:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def span_of_request(request: Mapping[str, Any]) -> AbstractContextManager[trace.Span]:
    """Trace one request to the provider; what it came to is told by `tell_attempt`."""
    return _span_of_request(request) if _is_traced() else nullcontext(trace.INVALID_SPAN)


@contextmanager
def _span_of_request(request: Mapping[str, Any]) -> Iterator[trace.Span]:
    attributes: dict[str, str | int] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": str(request["model"]),
        "gen_ai.request.max_tokens": int(request["max_tokens"]),
    }
    with _tracer().start_as_current_span(
        f"chat {request['model']}",
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span


def tell_attempt(span: trace.Span, attempt: Attempt, message: Mapping[str, Any] | None) -> None:
    """Say on `span` what a request came to; of the answer in `message` its names and numbers alone."""
    if not span.is_recording():
        return
    known = {
        "promptmill.outcome": attempt.outcome,
        "http.response.status_code": attempt.status_code,
        "anthropic.request.id": attempt.request_id,
    }
    if attempt.usage is not None:
        known["gen_ai.usage.input_tokens"] = attempt.usage.prompt_tokens
        known["gen_ai.usage.output_tokens"] = attempt.usage.output_tokens
    for name, field in (("gen_ai.response.id", "id"), ("gen_ai.response.model", "model")):
        known[name] = _text((message or {}).get(field))
    if reason := _text((message or {}).get("stop_reason")):
        span.set_attribute("gen_ai.response.finish_reasons", [reason])
    if attempt.failure is not None:
        known["error.type"], known["promptmill.blame"] = attempt.outcome, attempt.failure.blame
        span.set_status(Status(StatusCode.ERROR))
    span.set_attributes({name: value for name, value in known.items() if value is not None})


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _is_traced() -> bool:
    """Whether there is anybody to tell: a span of nobody's costs nearly as much as one that is kept."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _tracer() -> trace.Tracer:
    return trace.get_tracer("promptmill", _VERSION)
