"""JSONL files: what is read, and what is said of what cannot be."""

from __future__ import annotations

import json

import orjson
import pytest

from producers.files import Problem, PromptFile, check
from producers.files import raw_lines as raw_lines_module
from producers.runs.identity import LineJobs
from promptmill.errors import BadFile, BadInput


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes, name: str = "prompts.jsonl"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def make(settings):
    return LineJobs(settings)


def fields_of(path, **options):
    """Return line number and fields of each row, or the problem."""
    with PromptFile(path, **options).reading() as reading:
        return [row if isinstance(row, Problem) else (row.line, reading.format.fields(row)) for row in reading.rows()]


async def problems_of(path, make) -> list[Problem]:
    with pytest.raises(BadFile) as caught:
        await check(PromptFile(path), make)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    "content",
    [
        b'{"prompt":"a"}\n{"prompt":"b"}\n',
        b'{"prompt":"a"}\n{"prompt":"b"}',
        b'\xef\xbb\xbf{"prompt":"a"}\r\n{"prompt":"b"}\r\n',
        b'  {"prompt" : "a"} \t\n{"prompt":"b"}\n',
    ],
    ids=["plain", "no last line end", "byte-order mark and CRLF", "spaces"],
)
def test_lines_are_read_however_they_end(write, content):
    assert fields_of(write(content)) == [(1, {"prompt": "a"}), (2, {"prompt": "b"})]


def test_blank_lines_count_as_lines_but_hold_nothing(write):
    assert fields_of(write('\n{"prompt":"a"}\n \t \r\n\n{"prompt":"b"}\n\n')) == [
        (2, {"prompt": "a"}),
        (5, {"prompt": "b"}),
    ]


async def test_the_short_form_and_the_batches_form_are_both_taken(write, make):
    params = {"model": "claude-haiku-4-5", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    lines = [
        {"id": "a", "prompt": "x"},
        {"custom_id": "b", "params": params},
        {"prompt": "x"},
        {"id": 7, "prompt": "x"},
    ]
    path = write("\n".join(map(json.dumps, lines)))
    ids = []

    await check(PromptFile(path), lambda line, fields: ids.append(make(line, fields)) or ids[-1])

    assert [(one.job.id.partition("/")[2], one.budget) for one in ids] == [
        ("a", "haiku-5-5"),
        ("b", "haiku-4-5"),
        ("line-3", "haiku-5-5"),
        ("7", "haiku-5-5"),
    ]
    assert ids[1].job.request == params


async def test_every_bad_line_is_reported_with_its_number_its_field_and_the_reason(write, make):
    path = write(
        b'{"prompt":"good"}\n'
        b'{"prompt":\n'
        b'["a list"]\n'
        b'{"promt":"x"}\n'
        b'{"prompt":"x","lane":"fast"}\n'
        b'{"prompt":"x","model":"gpt-4"}\n'
        b'{"prompt":"x","expect":{"min_words":-1}}\n'
        b'{"prompt":"x","id":"has space"}\n'
        b'{"prompt":"x","id":true}\n'
        b'{"prompt":"half \\ud800 a pair"}\n'
        b'{"prompt":"not \xff UTF-8"}\n'
        b'{"prompt":"raw \x00 zero"}\n'
        b"null\n"
    )

    problems = await problems_of(path, make)

    assert [(problem.line, problem.field) for problem in problems] == [
        (2, ""),
        (3, ""),
        (4, "promt"),
        (5, "lane"),
        (6, "model"),
        (7, "expect.min_words"),
        (8, "id"),
        (9, "id"),
        (10, ""),
        (11, ""),
        (12, ""),
        (13, ""),
    ]
    reasons = {problem.line: problem.reason for problem in problems}
    assert "expected a JSON object, got a list" in reasons[3]
    assert "did you mean 'prompt'?" in reasons[4]
    assert "no rate limits are known for model 'gpt-4'" in reasons[6]
    assert "without white space" in reasons[8]
    assert "expected a JSON object, got null" in reasons[13]


async def test_zeros_and_any_character_are_sent_as_they_are(write, make):
    prompt = "zero \x00, bell \x07, \U0001f600, \u2028, \x10"
    submissions = []
    await check(
        PromptFile(write(json.dumps({"prompt": prompt}))),
        lambda line, fields: submissions.append(make(line, fields)) or submissions[-1],
    )
    payload = orjson.loads(submissions[0].payload)
    assert payload["a"][0]["request"]["messages"][0]["content"] == prompt


async def test_a_prompt_of_ten_megabytes_is_taken(write, make):
    path = write(json.dumps({"prompt": "long " * 2_000_000}))
    assert (await check(PromptFile(path), make)).good == 1


async def test_a_prompt_over_the_limit_of_the_api_is_refused(write, make):
    (problem,) = await problems_of(write(json.dumps({"prompt": "x" * (33 * 1024 * 1024)})), make)
    assert problem.line == 1
    assert "bytes" in problem.reason


async def test_an_endless_line_is_skipped_without_being_held(write, make, monkeypatch):
    monkeypatch.setattr(raw_lines_module, "MAX_LINE_BYTES", 100)
    path = write(b'{"prompt":"a"}\n{"prompt":"' + b"x" * 5_000 + b'"}\n{"prompt":"b"}\n')

    (problem,) = await problems_of(path, make)

    assert (problem.line, problem.field) == (2, "")
    assert (await check(PromptFile(path), make, skip_bad=True)).good == 2


async def test_deep_nesting_is_a_bad_line_and_no_crash(write, make):
    deep = "[" * 900 + "]" * 900
    deeper = "[" * 100_000 + "]" * 100_000
    path = write(f'{{"params":{{"messages":{deep}}}}}\n{{"params":{{"messages":{deeper}}}}}\n{{"prompt":"fine"}}\n')

    problems = await problems_of(path, make)

    assert [problem.line for problem in problems] == [1, 2]


async def test_an_id_that_stands_twice_is_reported_with_both_lines(write, make):
    path = write(
        '{"id":"a","prompt":"x"}\n{"prompt":"x"}\n{"custom_id":"a","prompt":"y"}\n{"id":"line-2","prompt":"z"}\n'
    )

    problems = await problems_of(path, make)

    assert [str(problem) for problem in problems] == [
        "line 3: id: expected each id once, got 'a', which stands on line 1 already",
        "line 4: id: expected each id once, got 'line-2', which stands on line 2 already",
    ]


async def test_with_skip_bad_the_rest_is_taken_and_the_bad_ones_are_counted(write, make):
    path = write('{"id":"a","prompt":"x"}\n{"id":"a","prompt":"y"}\nnonsense\n\n{"prompt":"z"}\n')

    checked = await check(PromptFile(path), make, skip_bad=True)

    assert (checked.good, checked.bad) == (2, 2)
    assert [problem.line for problem in checked.problems] == [2, 3]
    assert checked.usable == bytes([0, 1, 0, 0, 0, 1])
    assert checked.demand.model_classes == ("haiku-5-5",)


async def test_a_file_without_one_usable_line_is_refused_even_so(write, make):
    with pytest.raises(BadFile, match=r"none of the prompts can be used; first line 1: "):
        await check(PromptFile(write("nonsense\n")), make, skip_bad=True)


async def test_the_message_counts_all_problems_and_keeps_the_first_thousand(write, make):
    path = write('{"prompt":"good"}\n' + "nonsense\n" * 1_500)
    with pytest.raises(BadFile, match=r"1,500 of 1,501 prompts cannot be used; first line 2: ") as caught:
        await check(PromptFile(path), make)
    assert len(caught.value.problems) == 1_000


async def test_what_is_said_of_a_line_stays_short_however_long_the_line_is(write, make):
    (problem,) = await problems_of(write(json.dumps({"x" * 1_000_000: 1, "prompt": "x"})), make)
    assert len(str(problem)) < 1_000


@pytest.mark.parametrize(
    "content", ["", "\n \n\n", "\ufeff"], ids=["no bytes", "blank lines", "only a byte-order mark"]
)
async def test_an_empty_file_is_refused(write, make, content):
    with pytest.raises(BadFile, match="holds no prompt"):
        await check(PromptFile(write(content)), make)


async def test_utf_16_is_named(write, make):
    with pytest.raises(BadFile, match="expected UTF-8, got UTF-16"):
        await check(PromptFile(write('{"prompt":"a"}'.encode("utf-16"))), make)


async def test_what_is_no_readable_file_is_refused(tmp_path, make):
    with pytest.raises(BadFile, match="No such file"):
        await check(PromptFile(tmp_path / "absent.jsonl"), make)
    with pytest.raises(BadFile, match="expected a regular file"):
        await check(PromptFile(tmp_path), make)
    with pytest.raises(BadFile, match="expected a regular file"):
        await check(PromptFile(tmp_path.joinpath("/dev/null")), make)


async def test_a_file_that_changes_between_two_passes_is_refused(write, make):
    path = write('{"prompt":"a"}\n')
    file = PromptFile(path)
    await check(file, make)
    path.write_text('{"prompt":"b"}\n{"prompt":"c"}\n')

    with pytest.raises(BadFile, match="was changed while it was being read"), file.reading():
        pass


async def test_a_file_that_changes_while_it_is_checked_is_refused(write, make):
    path = write('{"prompt":"a"}\n' * 3)

    def add_a_line(_share) -> None:
        with path.open("a") as file:
            file.write('{"prompt":"b"}\n')

    with pytest.raises(BadFile, match="was changed while it was being read"):
        await check(PromptFile(path), make, skip_bad=True, on_progress=add_a_line)


async def test_the_digest_tells_the_content_of_every_line(write, make):
    first = await check(PromptFile(write('{"prompt":"a"}\n\n{"prompt":"b"}\n', "1.jsonl")), make)
    same = await check(PromptFile(write('{"prompt":"a"}\n\n{"prompt":"b"}\n', "2.jsonl")), make)
    other = await check(PromptFile(write('{"prompt":"a"}\n{"prompt":"b"}\n', "3.jsonl")), make)
    assert first.digest == same.digest != other.digest


async def test_progress_tells_how_much_of_the_file_is_behind(write, make):
    shares = []
    await check(PromptFile(write('{"prompt":"aa"}\n' * 4)), make, skip_bad=True, on_progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_a_template_needs_a_table(tmp_path):
    with pytest.raises(BadInput, match=r"expected a CSV file, got prompts\.jsonl, read as JSONL"):
        PromptFile(tmp_path / "prompts.jsonl", template="Explain {word}")
