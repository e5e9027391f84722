# ruff: noqa: RUF001 - letters of many scripts are the data of these tests
from __future__ import annotations

import pytest

from worker.quality import Answer, measure


def refused(text: str, stop_reason: str | None = "end_turn") -> bool:
    return bool(measure(Answer(text, stop_reason=stop_reason), request={}, expectation=None)["refusal"])


@pytest.mark.parametrize(
    "text",
    [
        "I can't help with that.",
        "I'm sorry, but I can’t assist with this request.",
        "I cannot provide instructions for that. I'd be happy to talk about chemistry in general.",
        "I'm not able to write that story.",
        "I won't do that.",
        "I must respectfully decline.",
        "As an AI language model, I cannot have opinions.",
        "I'm not comfortable writing this.",
        "Es tut mir leid, ich kann dabei nicht helfen.",
        "Lo siento, pero no puedo hacerlo.",
        "Je ne peux pas vous aider.",
    ],
)
def test_declining_in_the_first_person_at_the_beginning_is_a_refusal(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize(
    "text",
    [
        "Paris is the capital of France.",
        "I can't help but smile at this question. The answer is 42.",
        "I can't recommend this book enough.",
        "You can't help with that unless you have a key.",
        '"I can\'t help you," said the wizard, and vanished.',
        "“I’m sorry, I can’t help,” she wrote.",
        "The model answers: it cannot help with that.",
        "I can't help with the legal part. " + "Here is everything else that you wanted to know. " * 40,
        "",
    ],
)
def test_what_only_sounds_like_declining_is_not_a_refusal(text: str) -> None:
    assert not refused(text)


def test_the_stop_reason_alone_is_enough() -> None:
    assert refused("Certainly! First you", stop_reason="refusal")


@pytest.mark.parametrize(
    ("stop_reason", "expected"),
    [
        ("max_tokens", True),
        ("model_context_window_exceeded", True),
        ("end_turn", False),
        ("stop_sequence", False),
        ("tool_use", False),
        (None, False),
    ],
)
def test_truncation_is_what_the_stop_reason_says(stop_reason: str | None, expected: bool) -> None:  # noqa: FBT001
    assert measure(Answer("Once", stop_reason=stop_reason), request={}, expectation=None)["truncated"] is expected
