"""What `measure` is given: one answer of the Messages API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as the worker received it. Nothing in it is trusted: it was written by a model."""

    text: str
    """The text blocks, joined; empty where there are none."""
    message: Mapping[str, Any] | None = None
    """The whole Message, for the metrics that look at content blocks."""
    stop_reason: str | None = None
    output_tokens: int | None = None
    """As billed, thinking included."""

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Answer:
        """Read a Message of the API; what is absent or of another type than documented is left out."""
        blocks = message.get("content")
        texts = (
            block.get("text")
            for block in (blocks if isinstance(blocks, list) else ())
            if isinstance(block, Mapping) and block.get("type") == "text"
        )
        usage = message.get("usage")
        tokens = usage.get("output_tokens") if isinstance(usage, Mapping) else None
        stop_reason = message.get("stop_reason")
        return cls(
            text="".join(text for text in texts if isinstance(text, str)),
            message=message,
            stop_reason=stop_reason if isinstance(stop_reason, str) else None,
            output_tokens=tokens if isinstance(tokens, int) and not isinstance(tokens, bool) else None,
        )
