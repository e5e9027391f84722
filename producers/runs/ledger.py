"""What became of each line of a file: one byte a line, so that a million lines are a megabyte."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from promptmill.results import Status


class Line(IntEnum):
    """What is known of one line."""

    NONE = 0
    """Nothing to send: blank, unusable, or within a record that began before."""
    OPEN = 1
    AGAIN = 2
    """Open, although the store holds an end of it: it had no answer and is to be tried again."""
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5
    EXPIRED = 6


_BY_STATUS: Final = {status: Line[status.name] for status in Status}


class Ledger:
    """The lines of one file by number. Takes over `usable`, which holds 1 for each line with a job.

    `on_end` is called with each line that has got its final result.
    """

    def __init__(self, usable: bytearray, on_end: Callable[[int], None] = lambda _: None) -> None:
        self._lines = usable
        self._on_end = on_end
        self.total: Final = usable.count(Line.OPEN)
        self.open = self.total
        """Lines that have no final result."""
        self.ended = dict.fromkeys(Status, 0)
        """Lines by the status of their final result."""

    def __getitem__(self, line: int) -> Line:
        return Line(self._lines[line]) if 0 <= line < len(self._lines) else Line.NONE

    def is_open(self, line: int) -> bool:
        """Whether the line has a job without a final result."""
        return self[line] in (Line.OPEN, Line.AGAIN)

    def has_ended(self, line: int) -> bool:
        """Whether the line has a job with a final result."""
        return self[line] >= Line.SUCCEEDED

    def settle(self, line: int, status: Status) -> None:
        """Note the final result of an open line; of any other line nothing changes."""
        if self.is_open(line):
            self._lines[line] = _BY_STATUS[status]
            self.open -= 1
            self.ended[status] += 1
            self._on_end(line)

    def try_again(self, line: int) -> None:
        """Note that an open line, which ended without an answer before, is to be sent again."""
        if self._lines[line] == Line.OPEN:
            self._lines[line] = Line.AGAIN
