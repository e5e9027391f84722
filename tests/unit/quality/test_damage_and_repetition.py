# ruff: noqa: RUF001 - broken characters are the data of these tests
from __future__ import annotations

import random
from typing import Any

import pytest

from worker.quality import Answer, measure

PROSE = (
    "A closure is a function that remembers the variables around it. It keeps them for as long as it lives itself, so "
    "it can be called later, when the code that made it has long returned. Counters, caches and decorators are built "
    "on it; in older languages people passed a pointer to a structure by hand instead, which came to much the same."
)


def metric(name: str, text: str, stop_reason: str | None = "end_turn") -> Any:
    return measure(Answer(text, stop_reason=stop_reason), request={}, expectation=None)[name]


@pytest.mark.parametrize(
    "text",
    [
        "It is caf\ufffd.",
        "It\x00is.",
        "It\x1b[0m is.",
        "A lone \ud83d here.",
        "It doesnâ€™t work.",
        "Le cafÃ© est bon.",
        "ðŸ˜€ hello",
        "That is all.<|im_end|>",
        "That is all. [/INST]",
        "That is all.</s>",
        "First line.\\n\\nSecond line.",
        "This is the the end.",
        "We need to to go.",
        "Look:\n\n```python\nx = 1\n",
    ],
)
def test_signs_of_damage_are_seen(text: str) -> None:
    assert metric("broken_text", text) is True


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        "",
        "Tabs\tand\r\nlines\n.",
        "NÃO é São Paulo; «Ã» et l’été à Noël – 20 € … “so”.",
        "I know that that had had no effect. It is, is it?",
        "Go to the. The end of. Of what?",
        "The token `<|im_end|>` ends a turn, `</s>` a sequence, and `\\n\\n` is two line breaks.",
        "Use $\\nabla f$ and \\nu; <s>struck</s>through.",
        '{"text": "one\\n\\ntwo"}',
        "Look:\n\n```\nthe the <|im_end|> \\n\\n\n```\n",
        "x <| f |> y [INSTALL]",
        "😀👨‍👩‍👧 e\u0301 \u200b \u00a0 \u2028",
    ],
)
def test_ordinary_text_is_not_damaged(text: str) -> None:
    assert metric("broken_text", text) is False


def test_a_block_left_open_is_damage_only_where_the_answer_ended_by_itself() -> None:
    text = "Look:\n\n```python\nx = 1\n"
    assert [metric("broken_text", text, reason) for reason in ("end_turn", "max_tokens", "stop_sequence")] == [
        True, False, False,
    ]  # fmt: skip


def test_prose_repeats_little_and_a_loop_everything() -> None:
    loop = "I will say it again and again. " * 60
    assert metric("distinct_trigrams", PROSE) > 0.95
    assert metric("distinct_trigrams", loop) < 0.05
    assert metric("compression", PROSE) > 0.5
    assert metric("compression", loop) < 0.1


def test_a_loop_at_the_end_of_a_long_answer_is_seen() -> None:
    rng = random.Random(1)
    varied = " ".join("".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(3_000))
    assert metric("distinct_trigrams", varied) == 1.0
    assert metric("distinct_trigrams", varied + " and so on" * 500) < 0.05


def test_repetition_below_the_level_of_words_is_seen_by_compression_alone() -> None:
    loop = "ha" * 500
    assert metric("compression", loop) < 0.1
    assert metric("distinct_trigrams", loop) is None


def test_short_texts_have_no_repetition_to_speak_of() -> None:
    assert (metric("compression", "Yes. " * 30), metric("distinct_trigrams", "Yes. " * 20)) == (None, None)


def test_random_characters_do_not_compress_beyond_one() -> None:
    rng = random.Random(1)
    assert metric("compression", "".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(200))) <= 1


def test_hedging_counts_phrases_of_doubt_in_a_hundred_words() -> None:
    assert metric("hedging", PROSE) == 0
    twenty = "Perhaps it might help here, but I'm not sure; it depends on many things, so you should consult a doctor."
    assert len(twenty.replace("'", " ").split()) == 21
    assert metric("hedging", twenty) == pytest.approx(100 * 5 / 21)
    assert metric("hedging", twenty.replace("'", "’")) == pytest.approx(100 * 5 / 21)


def test_below_twenty_words_there_is_no_rate_of_hedging() -> None:
    assert metric("hedging", "Perhaps.") is None
