"""What Redis counts for a run while it goes. For show only: what a run came to is computed from the store."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from redis.asyncio import Redis

from promptmill.halts import Halts
from promptmill.queue import keys
from promptmill.queue.connection import redis_errors

_NANO: Final = Decimal(10) ** -9
_WORTH_A_WORD_MS: Final = 2_000
"""A shorter block is the usual breathing of a paced queue."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens and money."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cost_usd + other.cost_usd,
        )

    def since(self, earlier: Spent) -> Spent:
        """Return what was added since; nothing where Redis has forgotten and begun anew."""
        return Spent(
            max(0, self.input_tokens - earlier.input_tokens),
            max(0, self.output_tokens - earlier.output_tokens),
            max(Decimal(0), self.cost_usd - earlier.cost_usd),
        )


async def read_counters(
    redis: Redis, run: str, model_classes: Iterable[str], lanes: Collection[str]
) -> tuple[Spent, str | None]:
    """Return what the jobs of `run` have used, and what holds them back: budgets, if for more than moments, and lanes.

    Raises QueueUnavailable.
    """
    classes = list(model_classes)
    with redis_errors():
        async with redis.pipeline(transaction=False) as pipeline:
            pipeline.hmget(keys.RUN + run, ["input_tokens", "output_tokens", "cost_nano_usd"])
            for model_class in classes:
                pipeline.hmget(keys.BUDGET + model_class, ["blocked_until", "reason"])
            pipeline.hgetall(keys.HALTS)
            counted, *blocks, halted = await pipeline.execute()
    tokens_in, tokens_out, nano = (int(value or 0) for value in counted)
    held = [text for name, block in zip(classes, blocks, strict=True) if (text := _held(name, *block))]
    halts = Halts.read(halted, time.time() * 1000).all
    held += [
        f"lane {one.name} is paused by {one.by}: {one.why}" for one in halts if one.what == "lane" and one.name in lanes
    ]
    return Spent(tokens_in, tokens_out, nano * _NANO), "; ".join(held) or None


def _held(model_class: str, until: Any, reason: bytes | None) -> str | None:
    if until is None or float(until) < time.time() * 1000 + _WORTH_A_WORD_MS:
        return None
    at = datetime.fromtimestamp(float(until) / 1000, UTC).astimezone()
    why = (reason or b"no reason given").decode("utf-8", "replace")
    return f"{model_class} rests until {at:%H:%M:%S}: {why}"
