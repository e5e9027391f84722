"""What is wrong with a line of a prompt file, and how much of it is kept."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from promptmill.models import UnknownModel

KEPT: Final = 1_000
"""Problems that are kept to be shown; all are counted. A file of a million bad lines must not fill the memory."""

_LONGEST_FIELD: Final = 80
_LONGEST_REASON: Final = 500
"""A message may repeat what it refuses, and that may be megabytes."""

_NAMED: Final = re.compile(r"(?P<field>[\w.-]+): (?P<reason>.+)", re.DOTALL)
_JOB: Final = re.compile(r"job \S+: ")


class Problem(NamedTuple):
    """One line that cannot be used."""

    line: int
    """Counted from 1; of a record that spans lines, the first."""
    field: str
    """Empty where the whole line is meant."""
    reason: str

    @classmethod
    def of(cls, line: int, error: Exception) -> Problem:
        """Return what `error`, raised while a job was made of the line, says about it."""
        if isinstance(error, UnknownModel):
            return cls(line, "model", str(error)[:_LONGEST_REASON])
        message = _JOB.sub("", str(error), count=1)
        named = _NAMED.fullmatch(message)
        field, reason = (named["field"], named["reason"]) if named else ("", message)
        return cls(line, field[:_LONGEST_FIELD], reason[:_LONGEST_REASON])

    def __str__(self) -> str:
        where = f"line {self.line:,}"
        return f"{where}: {self.field}: {self.reason}" if self.field else f"{where}: {self.reason}"


class Problems:
    """The first KEPT problems, and how many there were."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self.count = 0

    def add(self, problem: Problem) -> None:
        """Count `problem`, and keep it if it is one of the first."""
        self.count += 1
        if len(self.kept) < KEPT:
            self.kept.append(problem)
