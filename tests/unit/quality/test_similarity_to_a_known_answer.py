from __future__ import annotations

import pytest

from promptmill.expectations import Expectation
from worker.quality import Answer, measure


def similarity(answer: str, expected: str) -> float:
    value = measure(Answer(answer), request={}, expectation=Expectation(similar_to=expected))["similarity"]
    assert isinstance(value, float)
    return value


def test_case_punctuation_and_layout_do_not_matter() -> None:
    assert similarity("**Paris**, the capital\nof France!", "paris the capital of france") == 1.0


def test_it_is_the_f1_of_the_longest_common_sequence_of_words() -> None:
    # "the cat on the mat" of 5 words, in texts of 6 and 8 words
    assert similarity("the cat sat on the mat", "the black cat lay on the red mat") == pytest.approx(2 * 5 / (6 + 8))


def test_it_falls_with_every_word_that_is_missing_added_or_moved() -> None:
    known = "first boil the water then add the salt and the pasta"
    missing = similarity("first boil the water then add the pasta", known)
    moved = similarity("first add the salt and the pasta then boil the water", known)
    unrelated = similarity("a triangle has three sides of any length", known)
    assert 1 > missing > moved > unrelated
    assert unrelated < 0.2


def test_ideographs_are_compared_one_by_one() -> None:
    assert similarity("我爱北京", "我爱上海") == 0.5


def test_nothing_is_similar_to_an_empty_answer_but_the_empty_text() -> None:
    assert similarity("", "paris") == 0.0


def test_texts_without_words_are_compared_by_character() -> None:
    assert similarity("{}", "{}") == 1.0
    assert similarity("[]", "{}") == 0.0


def test_without_a_known_answer_there_is_none() -> None:
    assert measure(Answer("x"), request={}, expectation=None)["similarity"] is None


def test_of_long_texts_the_first_four_thousand_words_count() -> None:
    assert similarity("same " * 4_000 + "and then something else", "same " * 4_000) == 1.0


def token_f1(answer: str, expected: str) -> float:
    value = measure(Answer(answer), request={}, expectation=Expectation(similar_to=expected))["token_f1"]
    assert isinstance(value, float)
    return value


def test_the_bag_of_words_does_not_mind_the_order() -> None:
    assert token_f1("the mat on the cat", "the cat on the mat") == 1.0
    assert token_f1("the the the cat", "the cat") == pytest.approx(2 * 2 / (4 + 2))
    assert token_f1("a triangle", "the cat") == 0.0


def test_both_measures_agree_on_texts_without_words() -> None:
    assert (token_f1("{}", "{}"), token_f1("[]", "{}"), token_f1("", "paris")) == (1.0, 0.0, 0.0)
