"""What an instruction is, and what one row of the table is made of."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from worker.quality.instructions.checks import Check
from worker.quality.instructions.framing import Frame
from worker.quality.phrases import compiled

Quotes = tuple[str, ...]
Hint = str | re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One thing a good answer does."""

    name: str
    check: Check
    value: object = None
    """What tells it from another instruction of the same name: two values contradict each other."""


Reader = Callable[[re.Match[str], str, Quotes], Instruction | None]


@dataclass(frozen=True, slots=True)
class Recogniser:
    """One way of instructing."""

    group: str
    """Instructions of one group speak of the same thing: contradictory ones cancel out, and the user's message
    overrides the system prompt's."""
    hint: Hint
    """A part that every phrase of this kind has, in lower case, or what finds one: sentences without it are not
    searched."""
    pattern: re.Pattern[str]
    frame: Frame
    read: Reader
    """Given the match, the sentence before it and all quotations; None where it is not certain after all."""
    as_written: bool = False
    """Whether letter case matters: the pattern sees the sentence as it was written then."""


QUOTED = "\ue000\\d+\ue001"
"""Finds the stand-in of a quotation."""


def always(name: str, check: Check) -> Reader:
    """Return a reader for phrases that all say the same."""
    return lambda _match, _before, _quotes: Instruction(name, check)


def quoted(found: str, quotes: Quotes) -> Quotes:
    """Return the quotations whose stand-ins were found."""
    return tuple(quotes[int(number)] for number in re.findall("\ue000(\\d+)\ue001", found))


def row(group: str, hint: Hint, pattern: str, frame: Frame, read: Reader, *, as_written: bool = False) -> Recogniser:
    """Return one row; white space in the pattern that is not escaped is ignored."""
    seen = re.compile(pattern, re.IGNORECASE | re.VERBOSE) if as_written else compiled(pattern)
    return Recogniser(group, hint, seen, frame, read, as_written)


def rows(
    group: str, hints: str, pattern: str, frame: Frame, read: Reader, *, as_written: bool = False
) -> tuple[Recogniser, ...]:
    """Return one row for each hint, where the phrases of a pattern have no part in common."""
    return tuple(row(group, hint, pattern, frame, read, as_written=as_written) for hint in hints.split(","))
