"""Patterns written as lists of phrases, so that they can be read and extended."""

from __future__ import annotations

import re


def any_of(phrases: str) -> str:
    """Return a group that matches any of the phrases, which are separated by commas; each may be a pattern itself."""
    return "(?:" + "|".join(re.sub(r"\s+", r"\\s", phrase.strip()) for phrase in phrases.split(",")) + ")"


def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern for `lowered` text; white space in it that is not escaped is ignored.

    Lowering a text once and then minding letter case is several times as fast as ignoring it in every pattern.
    """
    return re.compile(pattern, re.VERBOSE)


def lowered(text: str) -> str:
    """Return the text in lower case, character by character: what stands at a place of one stands there in the other.

    Letters that `re.IGNORECASE` takes for an i or an s become one.
    """
    if not text.isascii():
        text = text.replace("İ", "i").replace("ı", "i").replace("ſ", "s")  # noqa: RUF001
    return text.lower()
