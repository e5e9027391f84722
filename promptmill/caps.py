"""Caps on spending: what a lane, a model class or everything may cost in an hour or a day."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from promptmill.jobs import Lane

NANO: Final = 1_000_000_000
"""Money in Redis is whole nano-USD."""


class SpendCap(BaseModel):
    """One `[[caps]]` of the file: what may be spent in each hour or day (UTC, on Redis' clock), by all workers.

    Counted is what answers cost, when they are settled or go back to the queue. Calls whose price is not known, or of
    which no usage was ever heard, count nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd: Annotated[Decimal, Field(gt=0, le=1_000_000)]
    per: Literal["hour", "day"]
    lane: Lane | None = None
    """None: every lane."""
    model_class: str | None = None
    """None: every model class."""
    action: Literal["park", "warn"] = "park"
    """`park`: nothing that the cap is for is sent until the hour or day is over. What was in flight when it was reached
    is all that goes beyond it. `warn`: said in the log, once for each hour or day."""

    def __str__(self) -> str:
        scope = " ".join(part for part in (self.model_class, self.lane) if part)
        return f"{self.usd} USD a {self.per}{f' for {scope}' if scope else ''}"


@dataclass(frozen=True, slots=True)
class CapReached:
    """A cap and what has been spent of it; told once in each hour or day, to one worker."""

    cap: SpendCap
    spent_usd: Decimal
