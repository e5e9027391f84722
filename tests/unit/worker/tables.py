"""What several test modules know of the outcomes."""

from __future__ import annotations

from typing import Final

from worker import outcomes

NEVER_SENT: Final = {
    "payload_missing",
    "unreadable_payload",
    "unknown_function",
    "payload_too_new",
    "bad_job",
    "lost_too_often",
    "interrupted",
}
"""Outcomes that no answer of the API leads to."""


def of_the_api() -> set[str]:
    """Every name that `classify` can return."""
    return {
        *(name for name, _ in outcomes._RULES),
        *outcomes._BY_STATUS.values(),
        *outcomes._BY_ERROR_TYPE.values(),
        "server_error",
        "invalid_request",
        "unrecognised",
    }
