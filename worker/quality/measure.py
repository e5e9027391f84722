"""All metrics of one answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from promptmill.expectations import Expectation
from worker.quality import (
    damage,
    ending,
    hedging,
    instructions,
    repetition,
    scripts,
    similarity,
    specifics,
    syntax,
    tools,
)
from worker.quality.answer import Answer
from worker.quality.metric import Metric, Subject
from worker.quality.reading import Reading, count_words


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


def _against_known(
    compare: Callable[[Reading, str], float],
) -> Callable[[Subject], float | None]:
    def of(subject: Subject) -> float | None:
        known = None if subject.expectation is None else subject.expectation.similar_to
        return None if known is None else compare(subject.reading, known)

    return of


METRICS: tuple[Metric, ...] = (
    Metric("chars", "amount", "either", _chars),
    Metric("words", "amount", "either", lambda subject: subject.reading.words, count_words),
    Metric("output_tokens", "amount", "either", _output_tokens),
    Metric("code_block", "flag", "lower", _code_block),
    Metric(
        "code_parses", "flag", "lower",
        lambda subject: syntax.code_parses(subject.reading.fences), syntax.code_parses,
    ),
    Metric(
        "specific_examples", "amount", "lower",
        lambda subject: specifics.specific_examples(subject.reading), specifics.find_specifics,
    ),
    Metric(
        "instruction_following", "score", "lower",
        lambda subject: instructions.share_followed(subject.verdicts), instructions.share_followed,
    ),
    Metric("similarity", "score", "lower", _against_known(similarity.similarity), similarity.similarity),
    Metric("token_f1", "score", "lower", _against_known(similarity.token_f1), similarity.token_f1),
    Metric("tool_calls", "amount", "either", lambda subject: tools.tool_calls(subject.answer), tools.tool_calls),
    Metric(
        "tool_calls_fit", "flag", "lower",
        lambda subject: tools.tool_calls_fit(subject.answer, subject.request), tools.tool_calls_fit,
    ),
    Metric(
        "truncated", "flag", "higher",
        lambda subject: ending.truncated(subject.answer.stop_reason), ending.truncated,
    ),
    Metric(
        "refusal", "flag", "higher",
        lambda subject: ending.refusal(subject.reading, subject.answer.stop_reason), ending.refusal,
    ),
    Metric("hedging", "amount", "higher", lambda subject: hedging.hedging(subject.reading), hedging.hedging),
    Metric(
        "compression", "score", "lower",
        lambda subject: repetition.compression(subject.reading), repetition.compression,
    ),
    Metric(
        "distinct_trigrams", "score", "lower",
        lambda subject: repetition.distinct_trigrams(subject.reading), repetition.distinct_trigrams,
    ),
    Metric(
        "stray_script", "flag", "higher",
        lambda subject: scripts.stray_script(subject.reading, subject.request), scripts.stray_script,
    ),
    Metric(
        "broken_text", "flag", "higher",
        lambda subject: damage.broken_text(subject.reading, subject.answer.stop_reason), damage.broken_text,
    ),
)  # fmt: skip
"""In the order of the columns. To add a metric, add a row."""


def measure(
    answer: Answer,
    *,
    request: Mapping[str, Any],
    expectation: Expectation | None,
    tags: Mapping[str, str] = MappingProxyType({}),
    also: Callable[[Subject], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return each metric of `METRICS` by name, and `instructions`: what `instruction_following` was computed from.

    All values are ones that JSON has. Deterministic, without network or disk. A text of any size costs at most some
    50 ms of CPU; a usual one a fraction of a millisecond. `request` is the Messages API body that was sent: of any
    shape, never trusted. What `also` returns is added: the plug-ins.
    """
    subject = Subject(answer, request, expectation, tags)
    measured: dict[str, Any] = {metric.name: metric.of(subject) for metric in METRICS}
    measured["instructions"] = [verdict.to_json() for verdict in subject.verdicts]
    return measured if also is None else {**measured, **also(subject)}
