"""The first pass over a file: everything is checked before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from producers.files.demand import Demand
from producers.files.problems import Problem, Problems
from producers.files.prompt_file import PromptFile
from producers.files.seen import SeenIds
from producers.turns import Turns
from promptmill.errors import BadFile, BadInput
from promptmill.queue import Submission

MakeSubmission = Callable[[int, Mapping[str, Any]], Submission]
"""Makes a job, ready for the queue, of a line's number and fields. Raises BadInput."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the first pass found."""

    digest: bytes
    """BLAKE2b of the whole file."""
    usable: bytearray
    """By line number: 1 where a job begins that can be sent, else 0."""
    good: int
    """Jobs that can be sent."""
    problems: tuple[Problem, ...]
    """The first that were found."""
    bad: int
    """How many there were."""
    demand: Demand
    """What the lines are expected to cost."""


async def check(
    file: PromptFile,
    make: MakeSubmission,
    *,
    skip_bad: bool = False,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Checked:
    """Read the whole file once and try to make a job of every line.

    Calls `on_progress`, for every line, with the share of the file that is behind. Raises BadFile where the file cannot
    be read, holds no prompt, or has lines that cannot be used; with `skip_bad` those are only reported, as long as any
    line can be used.
    """
    problems = Problems()
    seen = SeenIds()
    usable = bytearray(1)
    demand = Demand()
    turns = Turns()
    with file.reading() as reading:
        for row in reading.rows():
            if isinstance(row, Problem):
                problems.add(row)
            else:
                try:
                    submission = make(row.line, reading.format.fields(row))
                    _refuse_double(seen, submission.job.id, row.line)
                except BadInput as error:
                    problems.add(Problem.of(row.line, error))
                else:
                    usable.extend(bytes(row.line + 1 - len(usable)))
                    usable[row.line] = 1
                    demand.add(row.line, submission)
            await turns.give()
            on_progress(reading.share_read)
        digest = reading.lines.digest()
        reading.check_unchanged()
    good = sum(part.open_lines for part in demand.parts)
    _refuse(file, good, problems, skip_bad=skip_bad)
    return Checked(
        digest=digest,
        usable=usable,
        good=good,
        problems=tuple(problems.kept),
        bad=problems.count,
        demand=demand,
    )


def _refuse_double(seen: SeenIds, job_id: str, line: int) -> None:
    before = seen.add(job_id, line)
    if before is not None:
        name = job_id.partition("/")[2]
        raise BadInput(f"id: expected each id once, got {name!r}, which stands on line {before:,} already")


def _refuse(file: PromptFile, good: int, problems: Problems, *, skip_bad: bool) -> None:
    if not good and not problems.count:
        raise BadFile(
            f"{file.path} holds no prompt: expected one {'row' if file.format != 'jsonl' else 'line'} for each"
        )
    if problems.count and (not skip_bad or not good):
        of = f"{problems.count:,} of {good + problems.count:,} prompts" if good else "none of the prompts"
        cannot = "cannot be used" if good else "can be used"
        raise BadFile(f"{file.path}: {of} {cannot}; first {problems.kept[0]}", tuple(problems.kept))
