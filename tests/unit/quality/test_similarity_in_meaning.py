"""A plug-in made from whatever turns texts into vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from promptmill.expectations import Expectation
from worker import events
from worker.quality import Answer, Metric, PlugIns, Subject, similarity_in_meaning
from worker.quality.plug_ins import Thread

WORDS = ("cat", "dog", "car")


def count_words(texts: Sequence[str]) -> list[list[float]]:
    """A model of the meaning of three words; synonyms mean the same."""
    counts = [Counter(text.replace("kitten", "cat").split()) for text in texts]
    return [[float(count[word]) for word in WORDS] for count in counts]


def subject(answer: str, known: str | None = "cat cat dog") -> Subject:
    return Subject(Answer(answer), {}, None if known is None else Expectation(similar_to=known), {})


def meaning(answer: str, known: str | None = "cat cat dog", embed: Any = count_words) -> Any:
    return similarity_in_meaning(embed).of(subject(answer, known))


def test_it_is_the_cosine_between_the_vectors() -> None:
    assert meaning("dog cat cat") == pytest.approx(1.0)
    assert meaning("kitten kitten dog") == pytest.approx(1.0), "other words of the same meaning"
    assert meaning("cat dog") == pytest.approx(3 / (5**0.5 * 2**0.5))
    assert meaning("car") == 0


def test_what_points_the_other_way_is_as_bad_as_it_gets() -> None:
    assert meaning("a", "b", embed=lambda texts: [[1.0] if text == "a" else [-1.0] for text in texts]) == 0


def test_where_nothing_is_expected_or_a_text_has_no_direction_it_does_not_apply() -> None:
    assert (meaning("cat", None), meaning(""), meaning("cat", "nothing known")) == (None, None, None)


def test_a_known_answer_is_embedded_once() -> None:
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> list[list[float]]:
        asked.extend(texts)
        return count_words(texts)

    metric = similarity_in_meaning(embed, name="ours")
    for answer in ("cat", "dog", "car"):
        metric.of(subject(answer))
    assert asked == ["cat cat dog", "cat", "dog", "car"]
    assert (metric.name, metric.kind, metric.worse) == ("ours", "score", "lower")
    assert "Cannot see" in metric.explanation


@pytest.mark.parametrize(
    "embed",
    [
        lambda texts: [],
        lambda texts: [[1.0], [2.0]],
        lambda texts: [[1.0] * len(text) for text in texts],
        lambda texts: [["x"] for _ in texts],
        lambda texts: [[float("nan")] for _ in texts],
    ],
)
def test_a_model_that_returns_something_else_costs_the_value_and_is_named(embed: Any) -> None:
    metric: Metric = similarity_in_meaning(embed)
    plug_ins = PlugIns([metric], new_thread=lambda: Thread(timedelta(minutes=1)))
    with capture_logs() as logs:
        assert plug_ins.measure(subject("cat"), job="job-1") == {"meaning": None}
    assert [(entry["event"], entry["metric"]) for entry in logs] == [(events.METRIC_FAILED, "meaning")]
