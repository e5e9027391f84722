"""What Redis counts for a run while it goes. For show only: what a run came to is computed from the store."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from redis.asyncio import Redis

from promptmill.queue import keys
from promptmill.queue.connection import redis_errors

_NANO: Final = Decimal(10) ** -9


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


async def read_counters(redis: Redis, run: str) -> Spent:
    """Return what the jobs of `run` have used. Raises QueueUnavailable."""
    with redis_errors():
        counted = await redis.hmget(keys.RUN + run, ["input_tokens", "output_tokens", "cost_nano_usd"])  # type: ignore[misc]
    tokens_in, tokens_out, nano = (int(value or 0) for value in counted)
    return Spent(tokens_in, tokens_out, nano * _NANO)
