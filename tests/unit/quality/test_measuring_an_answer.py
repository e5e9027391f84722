from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.cli.exports import COLUMNS
from promptmill.expectations import Expectation
from tests.support.effort import cases
from worker.quality import METRICS, Answer, measure

KEYS = [
    "chars",
    "words",
    "output_tokens",
    "code_block",
    "code_parses",
    "specific_examples",
    "instruction_following",
    "similarity",
    "token_f1",
    "tool_calls",
    "tool_calls_fit",
    "truncated",
    "refusal",
    "hedging",
    "compression",
    "distinct_trigrams",
    "stray_script",
    "broken_text",
    "grade",
    "instructions",
]

MESSAGE = {
    "type": "message",
    "stop_reason": "max_tokens",
    "content": [
        {"type": "thinking", "thinking": "not part of the text", "signature": "x"},
        {"type": "text", "text": "Try this:\n\n```python\nprint(1)\n```\n"},
        {"type": "tool_use", "id": "t", "name": "run", "input": {}},
        {"type": "text", "text": "It prints 1."},
    ],
    "usage": {"input_tokens": 5, "output_tokens": 42},
}


def test_an_answer_is_measured_whole() -> None:
    request = {"messages": [{"role": "user", "content": "Show me, in at most 10 words."}]}
    measured = measure(
        Answer.from_message(MESSAGE),
        request=request,
        expectation=Expectation(similar_to="It prints 1.", format="code"),
    )
    assert measured == {
        "chars": 46,
        "words": 7,
        "output_tokens": 42,
        "code_block": True,
        "code_parses": True,
        "specific_examples": 2,
        "instruction_following": 1.0,
        "instructions": [
            {"name": "max_words", "source": "prompt", "followed": True},
            {"name": "format", "source": "expectation", "followed": True},
        ],
        "similarity": pytest.approx(2 * 3 / (8 + 3)),
        "token_f1": pytest.approx(2 * 3 / (8 + 3)),
        "tool_calls": 1,
        "tool_calls_fit": None,
        "truncated": True,
        "refusal": False,
        "hedging": None,
        "compression": None,
        "distinct_trigrams": None,
        "stray_script": False,
        "broken_text": False,
        "grade": None,
    }


def test_every_metric_is_there_for_every_answer_in_a_fixed_order() -> None:
    assert list(measure(Answer(""), request={}, expectation=None)) == KEYS


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_says_what_it_cannot_see(metric: Any) -> None:
    assert metric.explanation


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({}, Answer("", {})),
        ({"content": "x", "usage": [], "stop_reason": 7}, Answer("", {"content": "x", "usage": [], "stop_reason": 7})),
        (
            {"content": [None, {"type": "text"}, {"type": "text", "text": 5}]},
            Answer("", {"content": [None, {"type": "text"}, {"type": "text", "text": 5}]}),
        ),
    ],
)  # fmt: skip
def test_a_message_of_another_shape_is_an_empty_answer(message: dict[str, Any], expected: Answer) -> None:
    assert Answer.from_message(message) == expected


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
instructive = st.lists(
    st.sampled_from(
        [
            "Answer", "in", "at most", "5", "words", "sentences", "no more than", '"quoted"', "“", "”", "'", "```\n",
            "<document>", "</document>", "JSON", "only", "in French", "Use", "the word", "without", "commas", "\n",
            "\n\n", "- ", "1. ", ": ", ".", ",", "Start with", "end with", "yes or no", "\ue000", "\ue0007\ue001",
            "\ud800", "\0", "`", "as a table", "bullet points", "between", "and", "uppercase", "the following text:\n",
        ]
    ),
    max_size=40,
).map(" ".join)  # fmt: skip
code = st.lists(
    st.sampled_from(
        ["```python\n", "```json\n", "```toml\n", "```xml\n", "\n```\n", "{", "}", "(", ")", "[", "]", "a", "=", "1",
         ":", '"', "'", "<a>", "</a>", "<!DOCTYPE a [", "<!ENTITY b 'c'>", "&b;", "\n", " ", "\\", "lambda ", ".",
         ",", "\0"]
    ),
    max_size=40,
).map("".join)  # fmt: skip
texts = st.text(max_size=200) | instructive | code | st.text(alphabet='a.!?"\n`-*#|[]{}<>1 A€我', max_size=300)
contents = texts | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": texts}) | anything) | anything
tools = st.fixed_dictionaries({"name": st.sampled_from(["a", "b"]), "input_schema": anything})
requests = st.dictionaries(st.text(max_size=8), anything, max_size=3) | st.fixed_dictionaries(
    {
        "system": contents,
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": contents}) | anything,
            max_size=3,
        )
        | anything,
        "tools": st.lists(tools | anything, max_size=3) | anything,
        "output_config": st.fixed_dictionaries(
            {"format": st.fixed_dictionaries({"type": st.just("json_schema"), "schema": anything}) | anything}
        ),
    }
)
messages = st.none() | st.dictionaries(st.sampled_from(["content", "usage"]), anything) | st.fixed_dictionaries(
    {"content": st.lists(st.fixed_dictionaries(
        {"type": st.just("tool_use"), "name": st.sampled_from(["a", "c", None, 5, []]), "input": anything}
    ) | anything)}
)  # fmt: skip
expectations = st.none() | st.builds(
    Expectation,
    similar_to=st.none() | texts,
    contains=st.lists(texts, max_size=3).map(tuple),
    excludes=st.lists(texts, max_size=3).map(tuple),
    matches=st.sampled_from([None, r"\w+$", r"(a|b)*c"]),
    format=st.sampled_from([None, "text", "json", "markdown", "code"]),
    json_schema=st.none() | st.dictionaries(st.text(max_size=8), anything, max_size=3),
    min_words=st.none() | st.integers(0, 5),
    language=st.sampled_from([None, "en", "fr", "xx"]),
)


@settings(max_examples=cases(400), deadline=None)
@given(
    text=texts,
    request=requests,
    expectation=expectations,
    stop_reason=st.sampled_from([None, "end_turn", "refusal", "max_tokens", "tool_use", "new_one"]),
    message=messages,
)
def test_measuring_never_raises_and_is_json(
    text: str, request: dict[str, Any], expectation: Expectation | None, stop_reason: str | None, message: Any
) -> None:
    measured = measure(Answer(text, message, stop_reason, 5), request=request, expectation=expectation)
    assert orjson.loads(orjson.dumps(measured)) == measured
    assert list(measured) == KEYS
    for metric in METRICS:
        value = measured[metric.name]
        assert value is None or isinstance(value, bool) == (metric.kind == "flag")
        assert value is None or 0 <= value <= (math.inf if metric.kind == "amount" else 1)


@given(text=texts)
def test_the_same_answer_is_measured_the_same_twice(text: str) -> None:
    request = {"messages": [{"role": "user", "content": text}]}
    first, second = (measure(Answer(text), request=request, expectation=None) for _ in range(2))
    assert first == second


MEGABYTE = 1_000_000
REPEATED = [
    ".", " ", "-", "a", "a ", "`", "```\n", "~~~\n", '"', "“", "[", "**a", "- ", "- a\n", "1", "1 ", "1.", "1:", "A",
    "Aa ", "aA", "a_", "()", "a()", "\n", "\n ", "\t- ", "# a\n", "|-", "| --- |\n", "://", "http://a", "a.a", "ab.ab.",
    "--a", "例", "例。", "ß", "😀", "[1,", '{"a":1},', "i'm sorry ", "i can't ", "\ud800", "Name of ", "May 1, ", "\0",
    "<a>", ".'", 'a.A 1-_`*"', "系a", "系 ", "ก系", "the ", "may ", "i think ", "<|a|>", "\\n", "â€", "\uff0c",
    "```python\n(\n```\n", "```toml\na.a.a.a=1\n```\n", "```xml\n<a>\n```\n", "```json\n[\n```\n",
]  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", REPEATED, ids=ascii)
def test_a_megabyte_of_anything_does_not_blow_up(part: str) -> None:
    """A step that takes the square of the length would take hours here: the timeout is what can fail."""
    text = (part * (MEGABYTE // len(part) + 1))[:MEGABYTE]
    prompt = (
        'Answer in at most 3 sentences, in French. Give exactly 3 bullet points. Start with "x". Do not use commas. '
        'Use the word "a" at least 5 times. Reply with JSON only. Use plain text. Answer in exactly two paragraphs. '
        'Write in all lowercase letters. Explain it as a table, without using the word "b".'
    )
    expectation = Expectation(
        similar_to="a b c " * 1_000, contains=("a", "zz"), matches=r"(a|a|\.)+$", language="en", format="markdown"
    )
    answer = Answer(text, stop_reason="end_turn")
    measured = measure(answer, request={"messages": [{"role": "user", "content": prompt}]}, expectation=expectation)
    assert measured["chars"] == MEGABYTE
    assert measure(answer, request={"system": text, "messages": [{"role": "user", "content": text}]}, expectation=None)


def test_every_metric_has_a_column_of_its_own_in_exports() -> None:
    """`output_tokens` has one already, with what else was billed."""
    types = {metric.name: COLUMNS[metric.name] for metric in METRICS}
    assert {name for name, kind in types.items() if kind == "bool"} == {
        metric.name for metric in METRICS if metric.kind == "flag"
    }
    assert {name for name, kind in types.items() if kind == "float64"} >= {
        metric.name for metric in METRICS if metric.kind == "score"
    }
