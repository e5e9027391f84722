from __future__ import annotations

from typing import Any

import pytest

from promptmill.expectations import Expectation
from worker.quality import Answer, measure

ENGLISH = "The cat is in the house and it does not want to go out, because the rain has been falling since then."
SCHEMA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "pattern": "^A"}}}


def verdicts(answer: str, expectation: Expectation) -> dict[str, bool | None]:
    measured = measure(Answer(answer), request={}, expectation=expectation)
    assert {verdict["source"] for verdict in measured["instructions"]} <= {"expectation"}
    return {verdict["name"]: verdict["followed"] for verdict in measured["instructions"]}


@pytest.mark.parametrize(
    ("stated", "good", "bad"),
    [
        ({"contains": ("Paris", "1889")}, "In 1889, in PARIS.", "In Paris."),
        ({"excludes": ("sorry", "as an AI")}, "Here it is.", "As an ai, I cannot."),
        ({"matches": r"\bISO \d{4}\b"}, "See ISO 8601.", "See ISO 86."),
        ({"format": "json"}, ' {"a": [1, null]}\n', '```json\n{"a": 1}\n```'),
        ({"format": "code"}, "Try:\n```\nls\n```", "Try ls"),
        ({"format": "code"}, "~~~sh\nls\n~~~", "```sh\nls"),
        ({"format": "markdown"}, "# Title\n\ntext", "text"),
        ({"format": "text"}, "Just text - with a dash.", "**Bold** text"),
        ({"json_schema": SCHEMA}, '{"name": "Ada"}', '{"name": "Bob"}'),
        ({"json_schema": SCHEMA}, '{"name": "Ada"}', "Ada"),
        ({"min_words": 3}, "one two three", "one two"),
        ({"max_words": 3}, "- one two three", "one two three four"),
        (
            {"language": "en"},
            ENGLISH,
            "Le chat est dans la maison et il ne veut pas sortir de la maison pour le moment.",
        ),
    ],
)
def test_each_field_is_one_instruction_named_like_it(stated: dict[str, Any], good: str, bad: str) -> None:
    (name,) = stated
    assert verdicts(good, Expectation(**stated)) == {name: True}
    assert verdicts(bad, Expectation(**stated)) == {name: False}


def test_all_fields_together_make_the_share() -> None:
    expectation = Expectation(contains=("cat",), excludes=("dog",), max_words=3, language="en")
    measured = measure(Answer(ENGLISH), request={}, expectation=expectation)
    assert measured["instruction_following"] == 0.75


def test_an_empty_expectation_expects_nothing() -> None:
    measured = measure(Answer(ENGLISH), request={}, expectation=Expectation())
    assert (measured["instruction_following"], measured["instructions"], measured["similarity"]) == (None, [], None)


def test_an_empty_answer_follows_nothing_even_what_it_cannot_violate() -> None:
    assert verdicts("", Expectation(excludes=("sorry",), max_words=5)) == {"excludes": False, "max_words": False}


def test_a_language_that_is_not_certain_gives_no_verdict() -> None:
    assert verdicts("OK.", Expectation(language="en")) == {"language": None}


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|a)*$", r"(\w+\s?)+$", r"(.)(.*)\1\2$"])
def test_a_pattern_that_would_take_forever_gives_no_verdict(pattern: str) -> None:
    assert verdicts("aaaa " * 5_000 + "a" * 5_000 + "!", Expectation(matches=pattern)) == {"matches": None}


@pytest.mark.parametrize("pattern", ["a{99999999}", "(?:(?:(?:a{999}){999}){999}){999}"])
def test_a_pattern_that_would_take_all_memory_gives_no_verdict(pattern: str) -> None:
    assert verdicts("aaaa", Expectation(matches=pattern)) == {"matches": None}


def test_a_pattern_that_is_not_found_in_the_part_searched_gives_no_verdict() -> None:
    answer = "a" * 200_000 + "needle"
    assert verdicts(answer, Expectation(matches="needle")) == {"matches": None}
    assert verdicts(answer, Expectation(matches="^a")) == {"matches": True}


def test_thousands_of_required_words_in_a_huge_answer_are_searched_within_a_budget() -> None:
    answer = "Berlin " + "x" * 1_000_000 + " Paris"
    many = tuple("Berlin" for _ in range(10_000))
    assert verdicts(answer, Expectation(contains=many)) == {"contains": True}
    assert verdicts(answer, Expectation(contains=(*many, "Paris"))) == {"contains": None}
    assert verdicts(answer, Expectation(excludes=("Paris", *("Rome" for _ in range(10_000))))) == {"excludes": None}
    assert verdicts(answer, Expectation(excludes=("Paris",))) == {"excludes": False}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "no such type"},
        {"$ref": "http://127.0.0.1:1/other.json"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"pattern": "("},
        {"patternProperties": {"(a+)+$": {}}},
        {"properties": {"a": {"$schema": "http://json-schema.org/draft-04/schema#"}}},
        {"description": "x" * 30_000},
        {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)}, "$ref": "#/$defs/d0"},
    ],
    ids=[
        "not a schema",
        "elsewhere",
        "nowhere",
        "itself",
        "bad pattern",
        "pattern properties",
        "nested",
        "huge",
        "bomb",
    ],
)
def test_a_schema_that_cannot_be_checked_gives_no_verdict(schema: dict[str, Any]) -> None:
    assert verdicts('"some text"', Expectation(json_schema=schema)) == {"json_schema": None}


def test_a_schema_may_name_its_dialect_at_the_root() -> None:
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "string"}
    assert verdicts('"text"', Expectation(json_schema=schema)) == {"json_schema": True}


def test_unique_items_are_compared_as_long_as_that_is_cheap() -> None:
    expectation = Expectation(json_schema={"uniqueItems": True})
    assert verdicts('[{"a": 1}, {"a": 2}]', expectation) == {"json_schema": True}
    assert verdicts('[{"a": 1}, {"a": 1}]', expectation) == {"json_schema": False}
    assert verdicts(str([*range(5_000)]), expectation) == {"json_schema": True}
    assert verdicts("[" + '{"a": 1},' * 5_000 + "{}]", expectation) == {"json_schema": None}


def test_json_nested_too_deep_is_not_json() -> None:
    assert verdicts("[" * 5_000 + "]" * 5_000, Expectation(format="json")) == {"format": False}


def test_a_null_answer_is_json() -> None:
    assert verdicts("null", Expectation(format="json", json_schema={"type": "null"})) == {
        "format": True,
        "json_schema": True,
    }
