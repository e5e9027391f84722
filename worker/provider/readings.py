"""What the rate-limit headers of an answer say. All of them are optional, and none is trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from promptmill.pacing import Reading

_NAMES: Final = {"requests": "requests", "input": "input-tokens", "output": "output-tokens"}
"""Dimensions as the headers call them. Those of all tokens together, of priority and of fast mode bind nothing here."""

_WHOLE: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
"""A trillion a minute is nobody's limit."""


def read_limits(headers: Mapping[str, str]) -> dict[str, Reading]:
    """Return what `headers` say, by dimension; what is missing or no whole number is left out."""
    readings = {}
    for dimension, name in _NAMES.items():
        limit = _whole(headers.get(f"anthropic-ratelimit-{name}-limit"))
        remaining = _whole(headers.get(f"anthropic-ratelimit-{name}-remaining"))
        if limit or remaining is not None:
            readings[dimension] = Reading(limit or None, remaining)
    return readings


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and _WHOLE.fullmatch(text.strip()) else None
