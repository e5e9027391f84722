"""What a job's expectation states, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from promptmill.expectations import Expectation
from worker.quality.instructions import checks
from worker.quality.instructions.recogniser import Instruction
from worker.quality.patterns import Deadline, Undecided, search
from worker.quality.reading import NOT_JSON, Reading
from worker.quality.schema import satisfies

_FORMS: dict[str, checks.Check] = {
    "text": checks.is_plain_text,
    "json": checks.is_json,
    "markdown": checks.is_markdown,
    "code": checks.has_code_block,
}


def instructions_in(expectation: Expectation, deadline: Deadline) -> Iterator[Instruction]:
    """Yield one instruction for each field that is set, named like the field. `similar_to` is a metric of its own."""
    if expectation.contains:
        yield Instruction("contains", checks.has_all(expectation.contains))
    if expectation.excludes:
        yield Instruction("excludes", checks.has_none(expectation.excludes))
    if expectation.matches is not None:
        yield Instruction("matches", partial(_matches, pattern=expectation.matches, deadline=deadline))
    if expectation.format is not None:
        yield Instruction("format", _FORMS[expectation.format])
    if expectation.json_schema is not None:
        yield Instruction("json_schema", partial(fits, schema=expectation.json_schema, deadline=deadline))
    if expectation.min_words is not None:
        yield Instruction("min_words", checks.count_between("words", expectation.min_words, None))
    if expectation.max_words is not None:
        yield Instruction("max_words", checks.count_between("words", 0, expectation.max_words))
    if expectation.language is not None:
        yield Instruction("language", checks.is_in(expectation.language))


def _matches(answer: Reading, *, pattern: str, deadline: Deadline) -> bool | None:
    try:
        return search(pattern, answer.text, deadline)
    except Undecided:
        return None


def fits(answer: Reading, *, schema: dict[str, object], deadline: Deadline) -> bool | None:
    """Whether the whole answer is JSON that satisfies the schema; None where the schema cannot be checked."""
    return False if answer.json is NOT_JSON else satisfies(answer.json, schema, deadline)
