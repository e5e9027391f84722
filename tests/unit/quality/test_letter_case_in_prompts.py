# ruff: noqa: RUF001 - letters that look like others are the data of these tests
from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.quality import Answer, measure
from worker.quality.phrases import lowered

TEN = "one two three four five six seven eight nine ten"


def found_in(prompt: str, answer: str) -> dict[str, bool | None]:
    request = {"messages": [{"role": "user", "content": prompt}]}
    measured = measure(Answer(answer), request=request, expectation=None)
    return {verdict["name"]: verdict["followed"] for verdict in measured["instructions"]}


@pytest.mark.parametrize(
    ("prompt", "answer", "expected"),
    [
        ("ANSWER IN AT MOST NINE WORDS.", TEN, {"max_words": False}),
        ("Word Limit: Nine Words", TEN, {"max_words": False}),
        ("Keep It Under Fifty Characters.", TEN, {"max_characters": True}),
        ("return only a json array.", "[1]", {"json_only": True}),
        ("RETURN ONLY A JSON ARRAY.", "{}", {"json_only": False}),
        ("please answer in french.", "Oui.", {"language": None}),
        ("WRITE IN ALL LOWERCASE LETTERS.", "small", {"lowercase": True}),
        ("Answer YES or NO.", "yes", {"one_of": True}),
        ('Use the word "Zebra" AT LEAST TWICE.', "zebra, ZEBRA", {"frequency": True}),
        ("- **Answer** in *at most* 9 words.", TEN, {"max_words": False}),
        ("Use **plain** text only.", "**no**", {"plain_text": False}),
    ],
)
def test_prompts_are_read_without_letter_case(prompt: str, answer: str, expected: dict[str, bool | None]) -> None:
    assert found_in(prompt, answer) == expected


def test_only_capital_letters_show_that_a_language_is_one_of_several() -> None:
    assert found_in("Translate this sentence to French, German and Dutch.", "Oui.") == {}
    assert found_in("Translate this sentence to French, please.", "Oui.") == {"language": None}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Answer in at most sıx words.", {"max_words": False}),
        ("ANSWER İN AT MOST SİX WORDS.", {"max_words": False}),
        ("Please answer in İtalian.", {"language": None}),
        ("Anſwer in at moſt ſix words.", {"max_words": False}),
    ],
)
def test_relatives_of_i_and_s_are_read_as_these(prompt: str, expected: dict[str, bool | None]) -> None:
    """`re` takes them for an i or an s where letter case is ignored; `str.lower` does not, and makes two of an İ."""
    assert found_in(prompt, TEN) == expected


@given(st.text() | st.text(alphabet="aIİıſßΣﬁ"))
def test_lowering_keeps_every_letter_in_its_place(text: str) -> None:
    assert len(lowered(text)) == len(text)
    for letter, low in zip(text, lowered(text), strict=True):
        assert low == letter.lower() or not letter.isascii()


@pytest.mark.parametrize("letter", string.ascii_lowercase)
def test_lowered_text_has_a_letter_wherever_ignoring_case_would_find_it(letter: str) -> None:
    every = "".join(map(chr, range(0x3000)))
    assert re.findall(letter, every, re.IGNORECASE) == [other for other in every if lowered(other) == letter]
