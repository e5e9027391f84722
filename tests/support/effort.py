"""How many cases a property is tried on: a number that every run has time for, and twenty times it in a soak."""

from __future__ import annotations

from typing import Final

from hypothesis import settings

_USUAL: Final = 100
"""What Hypothesis tries where nobody says otherwise."""


def cases(usual: int) -> int:
    """Return `usual`, or as many more as the profile asks for; read when a test module is loaded."""
    return usual * settings.default.max_examples // _USUAL
