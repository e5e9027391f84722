"""From the words of a prompt to the instructions in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from worker.quality.instructions.framing import is_instruction, sentences
from worker.quality.instructions.limits import Bounds
from worker.quality.instructions.prompt import asked, visible
from worker.quality.instructions.table import ADDING_UP, RECOGNISERS, Instruction

_MAX_SENTENCES = 200
_MAX_INSTRUCTIONS = 50

_ByGroup = Mapping[str, tuple[Instruction, ...]]


def instructions_of(request: Mapping[str, Any]) -> tuple[Instruction, ...]:
    """Return what the system prompt and the last message of the user ask for; the user overrides the system."""
    parts = asked(request)
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
    lowered = text.lower()
    # Quotations are replaced by marks only later: any quotation mark may become one.
    recognisers = [row for row in RECOGNISERS if row.hint in lowered or row.hint == "\ue000"]
    if not recognisers:
        return {}
    seen = visible(text)
    recognisers = [row for row in recognisers if row.hint != "\ue000" or seen.quotes]
    found: dict[str, list[Instruction]] = {}
    for sentence in sentences(seen.text, seen.after_handing_over)[:_MAX_SENTENCES]:
        taken: list[tuple[int, int]] = []
        lowered = sentence.text.lower()
        for row in recognisers:
            if row.hint not in lowered:
                continue
            for match in row.pattern.finditer(sentence.text):
                start, end = match.span()
                if any(start < taken_end and taken_start < end for taken_start, taken_end in taken):
                    continue
                if not is_instruction(sentence, start, end, row.frame):
                    continue
                instruction = row.read(match, sentence.text[:start], seen.quotes)
                if instruction is not None:
                    taken.append((start, end))
                    found.setdefault(row.group, []).append(instruction)
    return {
        group: consistent
        for group, instructions in found.items()
        if (consistent := _consistent(instructions, adding_up=group in ADDING_UP))
    }


_recognise_system = lru_cache(maxsize=128)(recognise)
"""Many jobs share a system prompt. Texts are at most 8,000 characters, so the cache stays below a few megabytes."""


def _consistent(instructions: Iterable[Instruction], *, adding_up: bool) -> tuple[Instruction, ...]:
    """Drop repetitions; drop everything where two contradict each other: they were meant for parts of the answer."""
    distinct: dict[tuple[str, object], Instruction] = {}
    for instruction in instructions:
        distinct.setdefault((instruction.name, instruction.value), instruction)
    if not adding_up:
        names = [name for name, _ in distinct]
        if len(set(names)) < len(names) or _impossible(value for _, value in distinct):
            return ()
    return tuple(distinct.values())


def _impossible(values: Iterable[object]) -> bool:
    limits = [value for value in values if isinstance(value, Bounds)]
    highs = [limit.high for limit in limits if limit.high is not None]
    return bool(highs) and max(limit.low for limit in limits) > min(highs)
