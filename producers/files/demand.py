"""What the lines of a file are expected to cost, each and together: six bytes a line."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from promptmill.foresight import Learned, Work
from promptmill.jobs import Lane
from promptmill.queue import Submission

MOST_PARTS: Final = 1_000
"""Beyond these, lines of any kind and length share a part: a file may name another kind on every line."""


@dataclass(slots=True)
class Part:
    """The lines that draw on one budget from one lane, are of one kind and may be answered at the same length."""

    model_class: str
    lane: Lane
    kind: str
    longest: int
    output: int
    """Tokens that one answer is expected to take."""
    open_lines: int = 0
    open_input: int = 0
    ended_lines: int = 0
    ended_input: int = 0

    def open(self, learned: Mapping[str, Learned]) -> Work:
        """Return what the open lines are expected to cost, by what was learned of their kind."""
        return self._cost(self.open_lines, self.open_input, learned)

    def ended(self, learned: Mapping[str, Learned]) -> Work:
        """Return what was to be expected of those that have ended."""
        return self._cost(self.ended_lines, self.ended_input, learned)

    def _cost(self, lines: int, tokens: int, learned: Mapping[str, Learned]) -> Work:
        estimate = Work(lines, tokens, lines * self.output)
        known = learned.get(self.kind)
        return known.corrected(estimate, longest=self.longest) if known else estimate


class Demand:
    """Every line with a job, by number; all are open at first."""

    def __init__(self) -> None:
        self._part_of = array("H")
        self._input = array("I")
        self._numbers: dict[tuple[str, Lane, str, int], int] = {}
        self.parts: list[Part] = []
        self.not_before: datetime | None = None
        """Until then the last of the deferred lines waits."""

    @property
    def model_classes(self) -> tuple[str, ...]:
        """Whose budgets the lines draw on."""
        return tuple(dict.fromkeys(part.model_class for part in self.parts))

    def add(self, line: int, submission: Submission) -> None:
        """Take in the job of a line; lines come in order."""
        job = submission.job
        gap = [0] * (line - len(self._part_of))
        self._part_of.extend(gap)
        self._input.extend(gap)
        number = self._number(submission)
        self._part_of.append(number)
        self._input.append(submission.cost.input)
        self.parts[number].open_lines += 1
        self.parts[number].open_input += submission.cost.input
        if job.not_before is not None:
            self.not_before = max(job.not_before, self.not_before or job.not_before)

    def end(self, line: int) -> None:
        """Note that an open line has its final result."""
        part, tokens = self.parts[self._part_of[line]], self._input[line]
        part.open_lines -= 1
        part.open_input -= tokens
        part.ended_lines += 1
        part.ended_input += tokens

    def _number(self, submission: Submission) -> int:
        longest = submission.job.request["max_tokens"]
        key = (submission.budget, submission.job.lane, submission.kind, longest)
        if key not in self._numbers and len(self.parts) >= MOST_PARTS:
            key = (submission.budget, submission.job.lane, "", 0)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.parts)
            self.parts.append(Part(*key, output=submission.cost.output))
        return number
