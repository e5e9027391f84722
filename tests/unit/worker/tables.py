"""What several test modules know of outcomes and steps."""

from __future__ import annotations

from typing import Final

from promptmill.queue import keys
from worker import outcomes as table

OTHER: Final = "claude-sonnet-5-5"
"""Another model than tests ask for; its class has a budget of its own."""

ANSWERED: Final = ["look up", "answered", "record result", "recorded result", "settle", "settled"]
"""The steps of a claim that ends its job."""
TRIED: Final = ["look up", "answered", "report", "record attempt", "recorded attempt", "snooze", "snoozed"]
"""The steps of a claim after whose failure, of which the fleet is told, the job goes back."""
MOVED: Final = [step for step in TRIED if step != "report"]
"""Likewise where there is nothing to tell: it asks another model, or everybody rests."""

NEVER_SENT: Final = {
    "payload_missing",
    "unreadable_payload",
    "unknown_function",
    "bad_job",
    "lost_too_often",
    "interrupted",
}
"""Outcomes that no answer of the API leads to."""


def of_the_api() -> set[str]:
    """Every name that `classify` can return."""
    return {
        *(name for name, _ in table._RULES),
        *table._BY_STATUS.values(),
        *table._BY_ERROR_TYPE.values(),
        "redirected",
        "foreign_error",
        "server_error",
        "invalid_request",
        "unrecognised",
    }


def outcomes(result) -> list[str]:
    return [attempt.outcome for attempt in result.attempts]


async def is_gone(shop) -> bool:
    """Whether nothing of any job is left in Redis but results."""
    left = {key for key in await shop.redis.keys("*") if not key.startswith((b"arq:result:", b"promptmill:"))}
    return not left and await shop.redis.zcard(keys.QUEUE) == await shop.redis.hlen(keys.JOBS) == 0
