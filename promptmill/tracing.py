"""Trace context of a job, W3C `traceparent`: what ties the span that submitted it to those of its requests.

Imports no OpenTelemetry: whoever traces has imported it already, and a web app that does not must not pay for it.
"""

from __future__ import annotations

import sys
from typing import Final

TRACEPARENT: Final = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"


def current_traceparent() -> str | None:
    """Return the trace context of the caller, None where nobody traces it."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
