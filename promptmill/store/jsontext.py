"""JSON as the store writes it: whatever Python parsed from JSON comes back as it was.

orjson is fast and strict: it refuses lone surrogates, whole numbers beyond 64 bits and deep nesting, and reads such
numbers as floats. All of these can stand in an answer. What it refuses is written by the standard library instead, with
a space in front to say who has to read it; to a database the space means nothing.
"""

from __future__ import annotations

import json
from typing import Any

import orjson


def dumps(value: Any) -> str:
    """Return `value` as JSON text that holds no NUL and no lone surrogate.

    An infinite number or NaN, which JSON does not know, becomes null; an object that is not JSON becomes its `str`: a
    metric that reads oddly is better than an answer that could not be kept.
    """
    try:
        return orjson.dumps(value, default=str).decode()
    except TypeError:
        return " " + _dumps_anything(value)


def loads(text: str) -> Any:
    """Return what `dumps` was given."""
    return json.loads(text) if text.startswith(" ") else orjson.loads(text)


def _dumps_anything(value: Any) -> str:
    try:
        return json.dumps(value, default=str, allow_nan=False)
    except ValueError:
        # The detour through text replaces NaN at any depth without recursion in Python.
        finite = json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)
        return json.dumps(finite, allow_nan=False)
