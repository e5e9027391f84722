"""What a job's owner hands in to be run on an answer (regular expressions, JSON Schemas), kept from running away.

Both are small programs from outside (I8). A pattern such as `(a+)+$` takes longer than the universe has; one answer
must not stop the event loop, and with it every lease of this process, for longer than `PATIENCE`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from math import prod
from typing import Final

import regex

PATIENCE: Final = timedelta(milliseconds=20)
SEARCHED_CHARS: Final = 200_000
_MAX_FIXED_REPEATS: Final = 10_000
_FIXED_REPEAT = re.compile(r"\{\s*(\d+)")


class Undecided(Exception):  # noqa: N818 - not an error: a check that came to no verdict
    """The check cannot be carried out within its limits; its verdict is None."""


class Deadline:
    """How much CPU time the checks on one answer may still take.

    CPU time of this thread, not time of day: a busy machine changes no verdict.
    """

    def __init__(self, patience: timedelta = PATIENCE, *, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._ends = clock() + patience.total_seconds()

    def left(self) -> float:
        """Return the seconds left; raise `Undecided` when there are none."""
        left = self._ends - self._clock()
        if left <= 0:
            raise Undecided
        return left


def search(pattern: str, text: str, deadline: Deadline) -> bool:
    """Return whether the pattern is found in the text.

    Runs on the `regex` package, which reads Python's syntax and, unlike `re`, can be told when to stop.

    Raises Undecided when it takes too long, or when it is not found in the first 200,000 characters of a longer text.
    """
    compiled = _compile(pattern)
    if compiled is None:
        raise Undecided
    try:
        found = compiled.search(text[:SEARCHED_CHARS], timeout=deadline.left()) is not None
    except (TimeoutError, MemoryError):
        raise Undecided from None
    if not found and len(text) > SEARCHED_CHARS:
        raise Undecided
    return found


@lru_cache(maxsize=256)
def _compile(pattern: str) -> regex.Pattern[str] | None:
    # `regex` writes the literal part of a fixed repeat out: `a{99999999}` would take gigabytes. Nested ones multiply.
    if prod(max(1, int(count[:6])) for count in _FIXED_REPEAT.findall(pattern)) > _MAX_FIXED_REPEATS:
        return None
    try:
        return regex.compile(pattern)
    except (regex.error, ValueError, OverflowError, RecursionError):
        return None
