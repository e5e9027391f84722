"""From the words of a prompt to the instructions in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from worker.quality.instructions.framing import Sentence, is_instruction, sentences, set_one_task
from worker.quality.instructions.limits import Bounds
from worker.quality.instructions.prompt import Asked, visible
from worker.quality.instructions.recogniser import Hint, Instruction, Quotes, Recogniser
from worker.quality.instructions.table import ADDING_UP, RECOGNISERS
from worker.quality.phrases import lowered

_MAX_SENTENCES = 200
_MAX_INSTRUCTIONS = 50

_HINTS = tuple(dict.fromkeys(row.hint for row in RECOGNISERS))

_ByGroup = Mapping[str, tuple[Instruction, ...]]


def instructions_of(parts: Asked) -> tuple[Instruction, ...]:
    """Return what the system prompt and the last message of the user ask for; the user overrides the system."""
    system, user = _recognise_system(parts.system), recognise(parts.user)
    found = [
        instruction
        for group, instructions in system.items()
        if group in ADDING_UP or group not in user
        for instruction in instructions
    ]
    found += [instruction for instructions in user.values() for instruction in instructions]
    return tuple(found[:_MAX_INSTRUCTIONS])


def recognise(text: str) -> _ByGroup:
    """Return the certain instructions in one text by group."""
    seen = visible(text)
    found: dict[str, list[Instruction]] = {}
    for group, instruction in (
        *_instructions_in(seen.text, seen.quotes),
        *_instructions_in(seen.after_handing_over, seen.quotes, only_whole=True),
    ):
        found.setdefault(group, []).append(instruction)
    return {
        group: consistent
        for group, instructions in found.items()
        if (consistent := _consistent(instructions, adding_up=group in ADDING_UP))
    }


def _instructions_in(text: str, quotes: Quotes, *, only_whole: bool = False) -> list[tuple[str, Instruction]]:
    """Return each instruction with its group. `only_whole`: see `is_instruction`."""
    if not text:
        return []
    # What will be taken out of the sentences as emphasis may stand in the middle of a hint.
    hints = _hints_in(lowered(text).replace("*", "").replace("_", ""), _HINTS)
    if not hints:
        return []
    own = list(sentences(text))
    candidates = [(sentence, phrases) for sentence in own[:_MAX_SENTENCES] if (phrases := _phrases(sentence, hints))]
    if not candidates:
        return []
    only_whole = only_whole or not set_one_task(own)
    found: list[tuple[str, Instruction]] = []
    for sentence, phrases in candidates:
        taken: list[tuple[int, int]] = []
        for row, match in phrases:
            start, end = match.span()
            if any(start < taken_end and taken_start < end for taken_start, taken_end in taken):
                continue
            if not is_instruction(sentence, start, end, row.frame, only_whole=only_whole or sentence.in_list):
                continue
            instruction = row.read(match, sentence.lowered[:start], quotes)
            if instruction is not None:
                taken.append((start, end))
                found.append((row.group, instruction))
    return found


def _phrases(sentence: Sentence, hints: Iterable[Hint]) -> list[tuple[Recogniser, re.Match[str]]]:
    """Return what looks like an instruction, in the order of the table."""
    here = _hints_in(sentence.lowered, hints)
    if not here:
        return []
    return [
        (row, match)
        for row in _recognisers(tuple(here))
        for match in row.pattern.finditer(sentence.text if row.as_written else sentence.lowered)
    ]


def _hints_in(text: str, hints: Iterable[Hint]) -> list[Hint]:
    return [hint for hint in hints if (hint in text if isinstance(hint, str) else hint.search(text))]


@lru_cache(maxsize=1024)
def _recognisers(hints: tuple[Hint, ...]) -> tuple[Recogniser, ...]:
    """Return the rows with these hints; the same few combinations come up again and again."""
    return tuple(row for row in RECOGNISERS if row.hint in hints)


_recognise_system = lru_cache(maxsize=128)(recognise)
"""Many jobs share a system prompt. Texts are at most 8,000 characters, so the cache stays below a few megabytes."""


def _consistent(instructions: Iterable[Instruction], *, adding_up: bool) -> tuple[Instruction, ...]:
    """Drop repetitions; drop everything where two contradict each other: they were meant for parts of the answer."""
    distinct: dict[tuple[str, object], Instruction] = {}
    for instruction in instructions:
        distinct.setdefault((instruction.name, instruction.value), instruction)
    if not adding_up and len(distinct) > 1:
        names = [name for name, _ in distinct]
        if len(set(names)) < len(names) or _impossible(value for _, value in distinct):
            return ()
    return tuple(distinct.values())


def _impossible(values: Iterable[object]) -> bool:
    limits = [value for value in values if isinstance(value, Bounds)]
    highs = [limit.high for limit in limits if limit.high is not None]
    return bool(highs) and max(limit.low for limit in limits) > min(highs)
