"""Jobs for the lines of a file that are still open, in pieces that leave the event loop its turns."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Final

from producers.files import FilePass, Problem
from producers.runs.identity import LineJobs
from producers.turns import Turns
from promptmill.queue import Submission
from promptmill.queue.queue import CALL_BYTES

PIECE: Final = 250
"""Jobs made and sent at a time."""


async def feed(
    reading: FilePass, make: LineJobs, is_open: Callable[[int], bool]
) -> AsyncGenerator[list[Submission], None]:
    """Yield the jobs of the open lines in order, at most PIECE jobs and CALL_BYTES of payload at a time, or one job.

    Lines that are not open are not even parsed: a resumed run skips what is behind as fast as it can be read. Raises
    BadFile where somebody wrote to the file.
    """
    turns = Turns()
    piece: list[Submission] = []
    size = 0
    for row in reading.rows():
        await turns.give()
        if isinstance(row, Problem) or not is_open(row.line):
            continue
        submission = make(row.line, reading.format.fields(row))
        if piece and (len(piece) == PIECE or size + len(submission.payload) > CALL_BYTES):
            reading.check_unchanged()
            yield piece
            piece, size = [], 0
        piece.append(submission)
        size += len(submission.payload)
    reading.check_unchanged()
    if piece:
        yield piece
