"""All metrics of one answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptmill.expectations import Expectation
from worker.quality import ending, instructions, similarity, specifics
from worker.quality.answer import Answer
from worker.quality.metric import Metric, Subject
from worker.quality.reading import count_words


def _chars(subject: Subject) -> int:
    """Count the characters (code points) of the text. Cannot see: how wide they are, or what they say."""
    return len(subject.answer.text)


def _output_tokens(subject: Subject) -> int | None:
    """Return the tokens that were billed as output. Cannot see: how many of them were thinking rather than answer."""
    return subject.answer.output_tokens


def _code_block(subject: Subject) -> bool:
    """Whether there is a fenced code block that is not empty, in the first 32,000 characters.

    Sees: ``` and ~~~ fences, closed or (in an answer that was cut) not. Cannot see: code that is only indented, or not
    marked at all, and whether the code is right.
    """
    return any(fence.code.strip() for fence in subject.reading.fences)


def _tool_calls(subject: Subject) -> int:
    """Count the tools that the answer asks to be called. Cannot see: whether the arguments make sense."""
    blocks = (subject.answer.message or {}).get("content")
    return sum(
        1
        for block in (blocks if isinstance(blocks, list) else ())
        if isinstance(block, Mapping) and block.get("type") == "tool_use"
    )


def _similarity(subject: Subject) -> float | None:
    if subject.expectation is None or subject.expectation.similar_to is None:
        return None
    return similarity.similarity(subject.reading, subject.expectation.similar_to)


METRICS: tuple[Metric, ...] = (
    Metric("chars", "amount", "either", _chars),
    Metric("words", "amount", "either", lambda subject: subject.reading.words, count_words),
    Metric("output_tokens", "amount", "either", _output_tokens),
    Metric("code_block", "flag", "lower", _code_block),
    Metric(
        "specific_examples", "amount", "lower",
        lambda subject: specifics.specific_examples(subject.reading), specifics.find_specifics,
    ),
    Metric(
        "instruction_following", "score", "lower",
        lambda subject: instructions.share_followed(subject.verdicts), instructions.share_followed,
    ),
    Metric("similarity", "score", "lower", _similarity, similarity.similarity),
    Metric("tool_calls", "amount", "either", _tool_calls),
    Metric(
        "truncated", "flag", "higher",
        lambda subject: ending.truncated(subject.answer.stop_reason), ending.truncated,
    ),
    Metric(
        "refusal", "flag", "higher",
        lambda subject: ending.refusal(subject.reading, subject.answer.stop_reason), ending.refusal,
    ),
)  # fmt: skip
"""In the order of the columns. To add a metric, add a row."""


def measure(answer: Answer, *, request: Mapping[str, Any], expectation: Expectation | None) -> dict[str, Any]:
    """Return each metric of `METRICS` by name, and `instructions`: what `instruction_following` was computed from.

    All values are ones that JSON has. Deterministic, without network or disk. A text of any size costs at most some
    50 ms of CPU; a usual one a fraction of a millisecond. `request` is the Messages API body that was sent: of any
    shape, never trusted.
    """
    subject = Subject(answer, request, expectation)
    measured: dict[str, Any] = {metric.name: metric.of(subject) for metric in METRICS}
    measured["instructions"] = [verdict.to_json() for verdict in subject.verdicts]
    return measured
