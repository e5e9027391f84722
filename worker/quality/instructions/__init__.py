"""Instruction following, by instructions whose following can be verified.

Read in this order: prompt (which words of a request are its own), framing (which phrases are instructions), table and
elements (the phrases that are known), checks (how each is verified), expected (what the job's expectation adds).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from promptmill.expectations import Expectation
from worker.quality.instructions.expected import fits, instructions_in
from worker.quality.instructions.prompt import asked
from worker.quality.instructions.recognise import instructions_of
from worker.quality.instructions.recogniser import Instruction
from worker.quality.patterns import Deadline
from worker.quality.reading import Reading

_NOT_THE_WHOLE_ANSWER = frozenset({"tool_use", "pause_turn"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """One verifiable instruction, and whether the answer follows it."""

    name: str
    source: Literal["prompt", "expectation"]
    followed: bool | None
    """None where it could not be checked: the answer's language is not certain, a pattern took too long."""

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as it stands in the quality metrics."""
        return {"name": self.name, "source": self.source, "followed": self.followed}


def verdicts(
    answer: Reading, *, request: Mapping[str, Any], expectation: Expectation | None, stop_reason: str | None
) -> tuple[Verdict, ...]:
    """Check the instructions of the request (the prompt's words and its output format) and of the expectation.

    What the prompt asks for is checked on the answer with its prefilled beginning, and not at all where the answer
    stops for a tool: it is not complete then. An empty answer follows nothing.
    """
    deadline = Deadline()
    found: list[Verdict] = []
    if stop_reason not in _NOT_THE_WHOLE_ANSWER:
        parts = asked(request)
        whole = Reading(parts.prefill + answer.text) if parts.prefill else answer
        found += (
            Verdict(wanted.name, "prompt", _follows(whole, wanted))
            for wanted in (*_output_format(request, deadline), *instructions_of(parts))
        )
    if expectation is not None:
        found += (
            Verdict(wanted.name, "expectation", _follows(answer, wanted))
            for wanted in instructions_in(expectation, deadline)
        )
    return tuple(found)


def share_followed(found: Iterable[Verdict]) -> float | None:
    """Return the share of the instructions that were followed, on 0..1; None where none could be checked.

    Sees: what the expectation states, a JSON Schema in the request's `output_config`, and instructions in plain
    English in the system prompt and the last message of the user, of the kinds in `instructions.table` and
    `instructions.elements`: limits on words, sentences, paragraphs, bullets and characters, JSON, code block,
    language, texts to include (how often) or leave out, letters, first and last words, letter case, words in capitals,
    commas, lists, tables, Markdown, emphasis, title, placeholders, postscript, quotation marks, one of several
    answers, yes or no. Counted are only those that are certain: said to the model, of the whole answer, without
    condition, and not quoted, shown in code, or part of a document.
    Cannot see: other kinds, other languages of prompts, earlier turns, instructions for a part of the answer, the
    middle of a text above 8,000 characters, and whether what was asked makes sense.
    """
    checked = [verdict.followed for verdict in found if verdict.followed is not None]
    return sum(checked) / len(checked) if checked else None


def _output_format(request: Mapping[str, Any], deadline: Deadline) -> Iterable[Instruction]:
    config = request.get("output_config")
    form = config.get("format") if isinstance(config, Mapping) else None
    schema = form.get("schema") if isinstance(form, Mapping) and form.get("type") == "json_schema" else None
    if isinstance(schema, dict):
        yield Instruction("json_schema", partial(fits, schema=schema, deadline=deadline))


def _follows(answer: Reading, wanted: Instruction) -> bool | None:
    return wanted.check(answer) if answer.text.strip() else False


__all__ = ["Verdict", "share_followed", "verdicts"]
