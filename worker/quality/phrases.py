"""Patterns written as lists of phrases, so that they can be read and extended."""

from __future__ import annotations

import re


def any_of(phrases: str) -> str:
    """Return a group that matches any of the phrases, which are separated by commas; each may be a pattern itself."""
    return "(?:" + "|".join(re.sub(r"\s+", r"\\s", phrase.strip()) for phrase in phrases.split(",")) + ")"


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern that ignores letter case, and white space that is not escaped."""
    return re.compile(pattern, re.IGNORECASE | re.VERBOSE)
