# ruff: noqa: RUF001 - letters of many scripts are the data of these tests
from __future__ import annotations

import pytest

from tests.support import answers
from worker.quality.reading import Reading
from worker.quality.specifics import Specifics, find_specifics, specific_examples

VAGUE = (
    "There are many ways to do this. Some of them are better than others, and it depends on what you need. "
    "Generally, you should think about it carefully. However, most people find that it works well in practice."
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (VAGUE, Specifics()),
        ("It took 12 ms, then 12 ms again.", Specifics(numbers=1)),
        ("It grew by 45% to $1,200.50 in 1999.", Specifics(numbers=3)),
        ("It happened on March 5, 2020 at noon.", Specifics(numbers=1)),
        ("It dropped to -5 °C.", Specifics(numbers=1)),
        ("There are 3 main reasons, in 2 steps.", Specifics()),
        ("1. First, mix.\n2. Then bake, as in step 1.", Specifics()),
        ("This is known [1], and disputed [2].", Specifics()),
        ("It was found by the physicist Paul Langevin, and by Langevin's wife in Paris.", Specifics(names=3)),
        ("Albert Einstein was right.", Specifics(names=1)),
        ("Nobody was right. Everybody was wrong.", Specifics()),
        ("The agency NASA works with the European Space Agency.", Specifics(names=2)),
        ("## Getting Started With Everything\n\n**Key Points**: none.\n\nFurther Reading\n", Specifics()),
        ("WE MUST NOT SHOUT AT PEOPLE IN CAPITALS.", Specifics()),
        ("Er sagte, dass die Katze auf der Bank nicht der Hund ist und das Haus der Mutter sah.", Specifics()),
        ('She called it "the best of times" and left.', Specifics(quotes=1)),
        ("Call `open`, then my_function and camelCase with --verbose in config.yaml.", Specifics(identifiers=5)),
        ("It is well known, i.e. nobody checks... End.", Specifics()),
        ("Do it so:\n\n```\nx = 1\n```\n", Specifics(code_blocks=1)),
        ("Fruit, for example apples, or e.g. pears, such as these.", Specifics(announcements=3)),
        ("Frutas, por ejemplo peras.", Specifics(announcements=1)),
        ("水果，例如苹果。", Specifics(announcements=1)),
    ],
)
def test_what_is_specific_is_counted_and_what_only_looks_so_is_not(text: str, expected: Specifics) -> None:
    assert find_specifics(Reading(text)) == expected


def test_the_metric_is_the_sum_of_all_kinds() -> None:
    text = "For example, Ada Lovelace wrote `main()` in 1843."
    assert find_specifics(Reading(text)) == Specifics(numbers=1, names=1, identifiers=1, announcements=1)
    assert specific_examples(Reading(text)) == 4


def test_a_specific_answer_scores_far_above_a_vague_one_of_the_same_length() -> None:
    specific = (
        "Python 3.12 made `asyncio` up to 75% faster, for instance in socket servers; Guido van Rossum measured 12 ms "
        'on a MacBook. See "What is new in Python" for the table, and try `asyncio.TaskGroup` from 3.11 on.'
    )
    assert specific_examples(Reading(specific)) >= 8
    assert specific_examples(Reading(VAGUE)) == 0


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        # Counted by hand. The step numbers and the units (MB) are none; "CPU" and "Kubernetes" count once each.
        (answers.EXPLANATION, Specifics(numbers=12, names=17, quotes=1, identifiers=1, announcements=4)),
        # Numbers inside inline code belong to it.
        (answers.CODE, Specifics(numbers=5, names=1, quotes=1, identifiers=10, code_blocks=2)),
        (answers.EMAIL, Specifics(numbers=11, names=9, quotes=2)),
    ],
    ids=["explanation", "code", "email"],
)
def test_answers_as_they_come_in_practice(example: answers.Example, expected: Specifics) -> None:
    assert find_specifics(Reading(example.text)) == expected
