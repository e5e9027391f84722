"""What the provider's status page said last: one worker asks, everybody may read. For show, and to probe sooner."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import orjson
from redis.asyncio import Redis

from promptmill.queue import keys
from promptmill.queue.connection import redis_errors

ASK_EVERY: Final = timedelta(seconds=60)
"""How often the page is asked at most, by all workers together."""
_KEPT: Final = timedelta(minutes=5)
"""What was said longer ago says nothing about now."""
_MOST_CHARS: Final = 100
_INDICATORS: Final = ("none", "minor", "major", "critical", "maintenance")


@dataclass(frozen=True, slots=True)
class PageSays:
    """One answer of the page."""

    indicator: str
    """`none` (all is well), `minor`, `major`, `critical` or `maintenance`."""
    description: str
    """In its own words."""
    since: datetime
    """When it was first seen to say so."""

    @property
    def is_bad(self) -> bool:
        """Whether it tells of an outage."""
        return self.indicator in {"major", "critical"}

    @classmethod
    def read(cls, page: bytes, now: datetime) -> Self | None:
        """Return what a page in Statuspage's form (`/api/v2/status.json`) says; None where that is nothing."""
        try:
            status = orjson.loads(page)["status"]
            indicator, words = status["indicator"], str(status.get("description") or "")
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
            return None
        if indicator not in _INDICATORS:
            return None
        said = "".join(letter if letter.isprintable() else " " for letter in words[:_MOST_CHARS])
        return cls(indicator, said.strip() or indicator, now)


async def troubled_classes(redis: Redis) -> dict[str, bool]:
    """Return the model classes of which requests come to nothing, and whether each is out. Raises QueueUnavailable."""
    with redis_errors():
        names = sorted(name.decode("utf-8", "replace") for name in await redis.smembers(keys.BUDGETS))  # type: ignore[misc]
        async with redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.hmget(keys.BUDGET + name, ["failures", "open_since", "open_effect"])
            found = await pipeline.execute()
    return {
        name: out_since is not None
        for name, (failures, out_since, effect) in zip(names, found, strict=True)
        if effect != b"parks" and (failures or out_since)
    }


async def take_turn(redis: Redis, worker: str) -> bool:
    """Return whether `worker` is to ask the page now: nobody else has within the interval. Raises QueueUnavailable."""
    with redis_errors():
        return bool(await redis.set(keys.STATUS_PAGE_TURN, worker, nx=True, px=ASK_EVERY))


async def page_says(redis: Redis) -> PageSays | None:
    """Return what the page said last; None where it was not asked or said nothing. Raises QueueUnavailable."""
    with redis_errors():
        stored = await redis.get(keys.STATUS_PAGE)
    try:
        fields: dict[str, Any] = orjson.loads(stored or b"null")
        return PageSays(str(fields["indicator"]), str(fields["description"]), datetime.fromisoformat(fields["since"]))
    except (ValueError, LookupError, TypeError):
        return None


async def note_page(redis: Redis, said: PageSays | None) -> None:
    """Keep what the page said; nothing, where it said nothing. Raises QueueUnavailable."""
    with redis_errors():
        if said is None:
            await redis.delete(keys.STATUS_PAGE)
        else:
            fields = {**asdict(said), "since": said.since.astimezone(UTC).isoformat()}
            await redis.set(keys.STATUS_PAGE, orjson.dumps(fields), px=_KEPT)
