"""All metrics of one answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from promptmill.expectations import Expectation
from promptmill.metrics import BUILT_IN
from worker.quality import (
    damage,
    ending,
    grade,
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


def _built_in(
    name: str, of: Callable[[Subject], bool | float | None], explained_by: Callable[..., Any] | None = None
) -> Metric:
    declared = BUILT_IN[name]
    return Metric(name, declared.kind, declared.worse, of, explained_by)


METRICS: tuple[Metric, ...] = (
    _built_in("chars", _chars),
    _built_in("words", lambda subject: subject.reading.words, count_words),
    _built_in("output_tokens", _output_tokens),
    _built_in("code_block", _code_block),
    _built_in("code_parses", lambda subject: syntax.code_parses(subject.reading.fences), syntax.code_parses),
    _built_in(
        "specific_examples", lambda subject: specifics.specific_examples(subject.reading), specifics.find_specifics
    ),
    _built_in(
        "instruction_following",
        lambda subject: instructions.share_followed(subject.verdicts),
        instructions.share_followed,
    ),
    _built_in("similarity", _against_known(similarity.similarity), similarity.similarity),
    _built_in("token_f1", _against_known(similarity.token_f1), similarity.token_f1),
    _built_in("tool_calls", lambda subject: tools.tool_calls(subject.answer), tools.tool_calls),
    _built_in(
        "tool_calls_fit", lambda subject: tools.tool_calls_fit(subject.answer, subject.request), tools.tool_calls_fit
    ),
    _built_in("truncated", lambda subject: ending.truncated(subject.answer.stop_reason), ending.truncated),
    _built_in("refusal", lambda subject: ending.refusal(subject.reading, subject.answer.stop_reason), ending.refusal),
    _built_in("hedging", lambda subject: hedging.hedging(subject.reading), hedging.hedging),
    _built_in("compression", lambda subject: repetition.compression(subject.reading), repetition.compression),
    _built_in(
        "distinct_trigrams", lambda subject: repetition.distinct_trigrams(subject.reading), repetition.distinct_trigrams
    ),
    _built_in(
        "stray_script", lambda subject: scripts.stray_script(subject.reading, subject.request), scripts.stray_script
    ),
    _built_in(
        "broken_text",
        lambda subject: damage.broken_text(subject.reading, subject.answer.stop_reason),
        damage.broken_text,
    ),
    _built_in("grade", lambda subject: grade.grade(subject.reading, subject.tags), grade.grade),
)
"""In the order of `BUILT_IN`. To add a metric, add a row here and there."""


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
