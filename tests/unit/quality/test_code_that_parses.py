from __future__ import annotations

import time

import pytest

from worker.quality import Answer, measure

PYTHON = "def f(x):\n    return [y for y in x if y]\n"


def parses(text: str) -> bool | None:
    value = measure(Answer(text), request={}, expectation=None)["code_parses"]
    assert value is None or isinstance(value, bool)
    return value


def block(language: str, code: str) -> str:
    return f"Like this:\n\n```{language}\n{code}\n```\n"


@pytest.mark.parametrize(
    ("language", "good", "bad"),
    [
        ("python", PYTHON, "def f(x)\n    return x\n"),
        ("py", "await f()\nreturn 1", "print 'hello'"),
        ("Python", "    x = 1\n    y = 2", "x = 1\n  y = 2"),
        ("python3", r"'\d'", "x = (1, 2"),
        ("json", '{"a": [1, null]}', '{"a": [1, null}'),
        ("json", "[]", "{'a': 1}"),
        ("jsonl", '{"a": 1}\n\n{"a": 2}\n', '{"a": 1}\n{"a": '),
        ("toml", '[a]\nb = "c"', "[a]\nb = c"),
        ("xml", '<?xml version="1.0"?>\n<a><b c="d"/></a>', "<a><b></a>"),
        ("svg", "<svg><path d='M0'/></svg>", "<svg><path d=M0/></svg>"),
        ("xml", "<item/>\n<item/>", "<item>\n<item/>"),
        ("xml", "<a>one &amp; two</a>", "<a>one & two</a>"),
    ],
)
def test_a_block_parses_or_it_does_not(language: str, good: str, bad: str) -> None:
    assert parses(block(language, good)) is True
    assert parses(block(language, bad)) is False


@pytest.mark.parametrize(
    "text",
    [
        "No code at all.",
        block("", "x = (1"),
        block("javascript", "let = ("),
        block("html", "<p>one<p>two"),
        block("sql", "SELEC"),
        block("python", "  \n"),
        "```python\ndef f(x",
    ],
    ids=["none", "no language", "javascript", "html", "sql", "empty", "cut"],
)
def test_what_nobody_here_can_parse_is_not_judged(text: str) -> None:
    assert parses(text) is None


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "def f(x, ...):\n    …"),
        ("python", ">>> 1 + 1\n2"),
        ("python", "%pip install numpy\nimport numpy"),
        ("python", "!ls"),
        ("json", '{"a": 1, ...}'),
        ("json", '{\n  // the name\n  "a": 1\n}'),
        ("json", '{"a": 1} // the name'),
        ("xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
        ("python", "x = " + "(" * 30 + ")" * 30),
        ("python", "x = 1\n" * 2_000),
        ("toml", ".".join("a" * 400) + " = 1"),
    ],
    ids=lambda value: value[:12],
)
def test_what_is_abridged_or_beyond_the_bounds_is_not_judged(language: str, code: str) -> None:
    assert parses(block(language, code)) is None


def test_every_block_has_to_parse_and_those_not_judged_do_not_count() -> None:
    good, bad = block("python", PYTHON), block("json", "{")
    assert parses(good + block("bash", "if [") + good) is True
    assert parses(good + bad + good) is False


def test_code_inside_a_list_item_is_indented_as_a_whole() -> None:
    assert parses("1. Do this:\n\n   ```python\n   if x:\n       y = 1\n   ```\n") is True


def test_code_is_parsed_without_a_word(recwarn: pytest.WarningsRecorder, capfd: pytest.CaptureFixture[str]) -> None:
    """Python warns of an odd escape and shows it: a piece of an answer in the log."""
    assert parses(block("python", r"'\d' is '\q'")) is True
    assert not recwarn
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "opening", ["(", "[", "{", "f(", "lambda:", "not ", "-", "a if b else ", "x = ", "a.", "**", "a["]
)
def test_nesting_cannot_stop_the_worker(opening: str) -> None:
    began = time.thread_time()
    for language in ("python", "json", "toml", "xml"):
        parses(block(language, (opening * 8_000)[:7_900]))
    assert time.thread_time() - began < 5


def test_entities_are_not_expanded() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaa">' + "".join(
        f'<!ENTITY {"abcdefghij"[n]} "{"&" + "abcdefghij"[n - 1] + ";"}{"&" + "abcdefghij"[n - 1] + ";"}">'
        for n in range(1, 10)
    )
    assert parses(block("xml", bomb + "]><a>&j;</a>")) is None
