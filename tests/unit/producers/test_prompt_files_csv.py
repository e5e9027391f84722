"""CSV files: with a prompt column, or with a template that rows fill."""

from __future__ import annotations

import pytest

from producers.files import Problem, PromptFile, check
from producers.files import raw_lines as raw_lines_module
from producers.files.template import Template
from producers.runs.identity import LineJobs
from promptmill.errors import BadFile, BadInput


@pytest.fixture
def write(tmp_path):
    def write(content: str | bytes, name: str = "prompts.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def make(settings):
    return LineJobs(settings)


def fields_of(path, **options):
    with PromptFile(path, **options).reading() as reading:
        return [row if isinstance(row, Problem) else (row.line, reading.format.fields(row)) for row in reading.rows()]


async def problems_of(path, make, **options) -> list[str]:
    with pytest.raises(BadFile) as caught:
        await check(PromptFile(path, **options), make)
    return [str(problem) for problem in caught.value.problems]


def test_columns_are_fields_of_the_job_and_empty_cells_are_absent(write):
    path = write(
        "id,prompt,max_tokens,lane,tags.topic,expect.max_words,expect.contains\n"
        "a,Why?,200,overnight,physics,40,light\n"
        "b,How?,,,,,\n"
    )
    assert fields_of(path) == [
        (
            2,
            {
                "id": "a",
                "prompt": "Why?",
                "max_tokens": 200,
                "lane": "overnight",
                "tags": {"topic": "physics"},
                "expect": {"max_words": "40", "contains": "light"},
            },
        ),
        (3, {"id": "b", "prompt": "How?"}),
    ]


async def test_texts_in_cells_become_what_a_job_needs(write, make):
    path = write("prompt,expect.max_words,expect.contains,deadline\nWhy?,40,light,2099-01-01T00:00:00Z\n")
    jobs = []
    await check(PromptFile(path), lambda line, fields: jobs.append(make(line, fields)) or jobs[-1])
    (submission,) = jobs
    assert submission.job.expect.max_words == 40
    assert submission.job.expect.contains == ("light",)
    assert submission.job.deadline.year == 2099


def test_a_template_takes_cells_as_they_are(write):
    path = write('word,model,id\n" two  words",Volvo,a\n"quoted ""x"" {y}",,b\n')
    assert fields_of(path, template="Explain {word} in {{braces}} ({model})") == [
        (2, {"id": "a", "prompt": "Explain  two  words in {braces} (Volvo)"}),
        (3, {"id": "b", "prompt": 'Explain quoted "x" {y} in {braces} ()'}),
    ]


def test_a_record_over_several_lines_has_the_number_of_its_first(write):
    path = write('prompt,id\r\n"two\r\nlines",a\r\n\r\n"after a blank line",b\r\n')
    assert fields_of(path) == [
        (2, {"prompt": "two\r\nlines", "id": "a"}),
        (5, {"prompt": "after a blank line", "id": "b"}),
    ]


def test_byte_order_mark_semicolon_file_and_tabs(write):
    assert fields_of(write("\ufeffprompt\nhello")) == [(2, {"prompt": "hello"})]
    assert fields_of(write("prompt\tid\nhello, you\ta\n", "prompts.tsv")) == [(2, {"prompt": "hello, you", "id": "a"})]
    with pytest.raises(BadFile, match="unknown column 'prompt;id'"):
        fields_of(write("prompt;id\nhello;a\n"))


def test_the_format_can_be_said_where_the_name_does_not(write):
    assert fields_of(write("prompt\nhello\n", "prompts.txt"), format="csv") == [(2, {"prompt": "hello"})]


@pytest.mark.parametrize(
    ("header", "template", "expected"),
    [
        ("promt", None, "header: unknown column 'promt'; did you mean 'prompt'? Name it tags.promt to keep it"),
        ("id,lane", None, "header: expected a column 'prompt', or a template"),
        ("prompt,prompt", None, "header: expected each column once, got 'prompt' twice"),
        ("prompt,tags.", None, "header: unknown column 'tags.'"),
        ("word,id", "Explain {wort}", "template: the file has no column 'wort'; did you mean {word}?"),
        ("word,id", "Explain {zzz}", "template: the file has no column 'zzz'; expected one of word, id"),
    ],
)
async def test_a_wrong_header_is_refused_by_name(write, make, header, template, expected):
    path = write(f"{header}\nx,y\n")
    with pytest.raises(BadFile) as caught:
        await check(PromptFile(path, template=template), make)
    assert f"{path}: {expected}" in str(caught.value)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("Explain {word", "expected {column}, got a single '{' at character 9; write '{{'"),
        ("Explain word}", "got a single '}' at character 13; write '}}'"),
        ("Explain {{word}}", "expected at least one {column}, got none"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template, expected):
    with pytest.raises(BadInput) as caught:
        Template(template)
    assert expected in str(caught.value)


def test_a_template_has_no_formats_and_reaches_into_nothing():
    template = Template("{a.__class__} {b!r} {c:>10}")
    assert template.columns == ["a.__class__", "b!r", "c:>10"]


async def test_every_bad_row_is_reported(write, make):
    path = write(
        b"prompt,id,max_tokens\n"
        b"fine,a,10\n"
        b"too few\n"
        b"one,too,1,many\n"
        b"not a number,b,ten\n"
        b"caf\xe9,c,10\n"
        b",d,10\n"
        b"same id,a,10\n"
    )
    assert await problems_of(path, make) == [
        "line 3: expected 3 cells as in the header, got 1",
        "line 4: expected 3 cells as in the header, got 4",
        "line 5: max_tokens: expected a whole number, got 'ten'",
        "line 6: prompt: expected UTF-8, got bytes that are not",
        'line 7: prompt: expected either "prompt" (a text) or "params" (a Messages API body), got neither',
        "line 8: id: expected each id once, got 'a', which stands on line 2 already",
    ]


async def test_a_quote_that_is_never_closed_is_named_where_it_was_opened(write, make):
    path = write('prompt,id\nfine,a\n"never closed,b\nfine,c\n')
    assert await problems_of(path, make) == [
        "line 3: expected a closing quote for the one opened in this row, got none"
    ]


async def test_text_behind_a_closing_quote_is_a_bad_row(write, make):
    (problem,) = await problems_of(write('prompt,id\n"x"y,a\nfine,b\n'), make)
    assert problem.startswith("line 2: expected CSV, got something else")


async def test_a_cell_of_ten_megabytes_and_a_zero_are_taken(write, make):
    path = write(b'prompt\n"' + b"long\n" * 2_000_000 + b'"\nzero \x00 byte\n')
    assert (await check(PromptFile(path), make)).good == 2


async def test_an_endless_line_is_a_bad_row(write, make, monkeypatch):
    monkeypatch.setattr(raw_lines_module, "MAX_LINE_BYTES", 100)
    path = write(b"prompt\nfine\n" + b"x" * 5_000 + b"\nfine too\n")
    (problem,) = await problems_of(path, make)
    assert problem.startswith("line 3: expected at most")


@pytest.mark.parametrize("content", ["", "prompt\n", "prompt,id\r\n\r\n  \r\n"])
async def test_a_file_without_rows_is_refused(write, make, content):
    with pytest.raises(BadFile, match="holds no prompt"):
        await check(PromptFile(write(content)), make)
