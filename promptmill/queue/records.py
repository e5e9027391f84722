"""Jobs' records as the scripts write them, read where a script need not."""

from __future__ import annotations

from typing import Any, Final

import orjson

RECORD: Final = (
    "state",
    "lane",
    "budget",
    "requests",
    "input",
    "output",
    "order",
    "claims",
    "attempts",
    "lost",
    "route",
    "deadline",
    "ends",
    "token",
    "charged",
    "kind",
    "longest",
    "reserved_input",
    "reserved_output",
    "fallbacks",
    "failed_at",
    "blamed",
    "refused_at",
    "seen",
    "halted",
)
"""Fields of a record, in order; see lua/_record.lua. A test compares the two."""

_LANES: Final = (1, 2, 3)
_COUNTS: Final = ("requests", "input", "output", "charged", "longest", "reserved_input", "reserved_output")


def read_record(record: bytes | None) -> dict[str, Any] | None:
    """Return the record by name; None where there is none, or none that can be read: the claim then adopts the job."""
    if record is None:
        return None
    try:
        values = orjson.loads(record)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(values, list):
        return None
    fields = dict(zip(RECORD, [*values, *[0] * len(RECORD)], strict=False))
    known = fields["state"] in ("r", "w", "l") and fields["lane"] in _LANES and isinstance(fields["budget"], str)
    return fields if known and all(isinstance(fields[name], int | float) for name in _COUNTS) else None
