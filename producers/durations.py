"""Durations for people."""

from __future__ import annotations

from datetime import timedelta


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
