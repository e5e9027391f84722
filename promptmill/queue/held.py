"""Why nothing is sent, in words: for whoever waits for it at a terminal or reads a worker's log."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from redis.asyncio import Redis

from promptmill.caps import SpendCap
from promptmill.halts import Halts, in_short
from promptmill.jobs import Lane
from promptmill.queue import keys
from promptmill.queue.connection import redis_errors

_WORTH_A_WORD_MS: Final = 2_000
"""A shorter block is the usual breathing of a paced queue."""

_FIELDS: Final = ("blocked_until", "reason", "open_since", "open_reason", "open_effect", "probe_at")


async def why_held(
    redis: Redis,
    model_classes: Iterable[str],
    *,
    caps: Collection[SpendCap] = (),
    lanes: Collection[Lane] = tuple(Lane),
) -> tuple[str, ...]:
    """Return why model classes rest, each that does so for more than moments, and what holds these lanes back.

    Raises QueueUnavailable.
    """
    classes = list(model_classes)
    with redis_errors():
        async with redis.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.hgetall(keys.SPEND)
            pipeline.hgetall(keys.HALTS)
            for model_class in classes:
                pipeline.hmget(keys.BUDGET + model_class, list(_FIELDS))
            (seconds, _), spend, halted, *budgets = await pipeline.execute()
    now = datetime.fromtimestamp(seconds, UTC)
    said = [
        _budget(name, dict(zip(_FIELDS, values, strict=True)), now)
        for name, values in zip(classes, budgets, strict=True)
    ]
    spent = {name.decode("utf-8", "replace"): entry.decode("utf-8", "replace") for name, entry in spend.items()}
    said += [
        f"a spend cap is reached until {_clock(cap.ends_at(now).timestamp() * 1000)}: {cap}"
        for cap in caps
        if cap.action == "park"
        and cap.model_class in {None, *classes}
        and (cap.lane is None or cap.lane in lanes)
        and cap.spent(spent, now) >= cap.usd
    ]
    said += [
        f"lane {halt.name} is paused by {halt.by}: {halt.why}"
        for halt in in_short(Halts.read(halted, seconds * 1000).all)
        if halt.what == "lane" and halt.name in lanes
    ]
    return tuple(text for text in said if text)


def _budget(name: str, fields: Mapping[str, bytes | None], now: datetime) -> str:
    if fields["open_since"] is not None:
        why, next_at = _words(fields["open_reason"]), _clock(fields["probe_at"])
        if fields["open_effect"] == b"parks":
            return f"{name} is parked: {why} (mend it; tried again at {next_at}, or by `promptmill resume`)"
        return f"{name} is out: {why} (next probe at {next_at})"
    until = fields["blocked_until"]
    if until is None or float(until) < now.timestamp() * 1000 + _WORTH_A_WORD_MS:
        return ""
    return f"{name} rests until {_clock(until)}: {_words(fields['reason'])}"


def _words(stored: bytes | None) -> str:
    return (stored or b"no reason given").decode("utf-8", "replace")


def _clock(milliseconds: bytes | float | None) -> str:
    return f"{datetime.fromtimestamp(float(milliseconds or 0) / 1000, UTC).astimezone():%H:%M:%S}"
