"""What spares a search must not spare a find."""

# ruff: noqa: RUF001 - letters of many scripts are the data of these tests
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.quality import Answer, measure
from worker.quality.markdown import find_fences, without
from worker.quality.reading import Reading, count_words
from worker.quality.specifics import find_specifics


@given(st.text(alphabet=st.characters(max_codepoint=0x2FFF)) | st.text(alphabet="aZ9 _-'’.–\x00\x1c\n\té"))
def test_words_are_the_runs_that_hold_a_letter_or_digit(text: str) -> None:
    assert count_words(text) == sum(any(map(str.isalnum, run)) for run in text.split())


@pytest.mark.parametrize(
    "phrase",
    [
        "for example", "an example", "for instance", "e.g.", "such as a", "to illustrate", "way of illustration",
        "an illustration", "case in point", "take the case of", "consider the case", "consider a", "consider an",
        "imagine a", "imagine you", "imagine that", "suppose you", "suppose that", "let's say", "namely",
        "to name a few", "zum beispiel", "par exemple", "por ejemplo", "misalnya", "na przykład", "například",
        "például", "örneğin", "ví dụ", "например", "к примеру", "наприклад", "例えば", "たとえば", "例如", "比如",
        "예를 들어", "على سبيل المثال", "उदाहरण के लिए", "לדוגמה",
    ],
)  # fmt: skip
def test_every_announcement_of_an_example_is_seen(phrase: str) -> None:
    assert find_specifics(Reading(f"That is so, {phrase} one.")).announcements == 1


@pytest.mark.parametrize(
    "text",
    [
        "As an AI, I do not have opinions.",
        "As an AI assistant, I don't have access to it.",
        "I am unable to help.",
        "I’m not going to write that.",
        "I have to refuse.",
        "I\ncan\nnot help.",
        "Je ne puis pas vous répondre.",
        "No puedo ayudar con eso.",
        "Desculpe, mas não posso.",
        "Mi dispiace, non posso.",
    ],
)
def test_every_form_of_declining_is_seen(text: str) -> None:
    assert measure(Answer(text), request={}, expectation=None)["refusal"] is True


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("He met Ada Lovelace.", 1),
        ("Ada came.", 0),
        ("So it was. Ada came.", 0),
        ("“Ada came.”", 0),
        ("> Ada came.\n- Ada came.\n2. Ada came.", 0),
        ("It was (see below). Ada Lovelace came.", 1),
        ("NASA said so.", 1),
        ("The NASA said so.", 1),
        ("ALL OF IT IS SHOUTED AT NASA.", 0),
    ],
)
def test_a_capital_at_the_start_of_a_sentence_makes_no_name(text: str, names: int) -> None:
    assert find_specifics(Reading(text)).names == names


@pytest.mark.parametrize(
    ("text", "code", "prose"),
    [
        ("```\na\n```", ["a\n"], "\n\n"),
        ("```\na\n```\nb", ["a\n"], "\n\n\nb"),
        ("b\n> ~~~ py\na\n> ~~~\n", ["a\n"], "b\n\n\n\n"),
        ("b ``` c\n```x\na", ["a"], "b ``` c\n\n\n"),
        ("```", [""], "\n\n"),
    ],
)
def test_code_blocks_are_cut_out_to_the_character(text: str, code: list[str], prose: str) -> None:
    fences = find_fences(text)
    assert [fence.code for fence in fences] == code
    assert without(text, fences) == prose
