"""Durations for people."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def read_duration(text: str) -> timedelta:
    """Return the duration that was written as 90s, 30m, 2h or 1d; a number alone is seconds. Raises ValueError."""
    found = re.fullmatch(r"(\d{1,7}(?:\.\d+)?)([smhd]?)", text.strip())
    length = timedelta(**{_UNITS[found[2] or "s"]: float(found[1])}) if found else timedelta(0)
    if not length:
        raise ValueError(f"expected a time such as 90s, 30m, 2h or 1d, got {text!r}")
    return length


def duration(of: timedelta) -> str:
    """Return a duration in the two units that matter."""
    seconds = of.total_seconds()
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def about(of: timedelta) -> str:
    """Return a duration that was predicted, no finer than it can be known."""
    seconds = of.total_seconds()
    if seconds < 10:
        return "a few seconds"
    if seconds < 55:
        return f"about {round(seconds / 10) * 10} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    return f"about {duration(timedelta(minutes=minutes))}"
