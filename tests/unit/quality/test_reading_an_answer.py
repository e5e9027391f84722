from __future__ import annotations

import pytest

from worker.quality.markdown import Lists, find_fences
from worker.quality.reading import NOT_JSON, Reading


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("one two  three\nfour", 4),
        ("- one\n* two\n---\n# three", 3),
        ("well-known e-mail, isn't it?", 4),
        ("… — ! ***", 0),
        ("3.14 is 1/7", 3),
        ("我爱北京", 4),
        ("私はPython が好き", 6),
        ("한국어 문장", 2),
        ("a " * 40_000, 40_000),
    ],
)
def test_words(text: str, words: int) -> None:
    assert Reading(text).words == words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", 0),
        ("One.", 1),
        ("One. Two! Three? Four…", 4),
        ("Without an end", 1),
        ("Dr. Smith met J. R. Ewing, e.g. in Dallas. Then he left.", 2),
        ("It costs 3.50 dollars. Version 2.0 is out.", 2),
        ('He said "No." and left.', 1),
        ("Really?! Yes...", 2),
        ("# A heading\n\nOne sentence over\ntwo lines.", 1),
        ("- an item\n- another item.\n- a third. With two.", 4),
        ("| a | b |\n|---|---|\n| 1. | 2. |", 0),
        ("今日は。元気です。", 2),
        ("Before.\n\n```\nprint('a. b. c.')\n```\n\nAfter.", 2),
        ("- one\n- two\n" * 3, 6),
    ],
)
def test_sentences(text: str, sentences: int) -> None:
    assert Reading(text).sentences == sentences


def test_paragraphs_are_blocks_without_headings_and_code() -> None:
    assert Reading("# Title\n\nOne\nstill one.\n \nTwo.\n\n```\ncode\n\ncode\n```\n").paragraphs == 2


def test_list_items_are_those_of_the_outermost_level() -> None:
    assert Reading("- a\n  - b\n  - c\n- d\n\n1. e\n   1) f\n2. g\n\n* * *\n---").lists == Lists(bullets=2, numbers=2)


def test_a_fence_is_closed_by_one_of_its_own_kind_and_length() -> None:
    (fence,) = find_fences("````markdown\n```python\nx\n```\n~~~\n````\nafter")
    assert (fence.language, fence.code, fence.closed) == ("markdown", "```python\nx\n```\n~~~\n", True)


def test_a_fence_that_was_cut_reaches_to_the_end() -> None:
    (fence,) = find_fences("Look:\n```py\nx = 1\n")
    assert (fence.language, fence.code, fence.closed) == ("py", "x = 1\n", False)


def test_code_inside_a_line_is_no_fence() -> None:
    assert find_fences("Use ```x``` here") == ()


def test_prose_is_the_text_without_its_code() -> None:
    assert Reading("a\n```\nb\n```\nc").prose.split() == ["a", "c"]


@pytest.mark.parametrize("text", ["", "{", "NaN", "'a'", '{"a": 1} and more', "\ud800"])
def test_what_is_not_json(text: str) -> None:
    assert Reading(text).json is NOT_JSON


def test_one_code_block_around_the_whole_answer_can_be_unwrapped() -> None:
    assert Reading("\n```json\n[1]\n```\n").json_unwrapped == [1]
    assert Reading("Here:\n```json\n[1]\n```\n").json_unwrapped is NOT_JSON
