"""When a round of canaries begins: at times of the day (UTC) that every worker works out alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from pydantic import AfterValidator

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


def _fits_a_clock(every: timedelta) -> timedelta:
    in_minutes = every > timedelta(0) and not every % timedelta(minutes=1)
    if in_minutes and (not _HOUR % every or (not every % _HOUR and not _DAY % every)):
        return every
    raise ValueError(
        "expected minutes that divide an hour (900 for a quarter of one) or hours that divide a day "
        f"(21600 for six), got {every.total_seconds():g} seconds"
    )


Interval = Annotated[timedelta, AfterValidator(_fits_a_clock)]
"""Between two rounds: what cron can say, and what makes each day alike."""


def round_at(now: datetime, every: timedelta) -> datetime:
    """Return when the present round began."""
    now = now.astimezone(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (now - midnight) // every * every
