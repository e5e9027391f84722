"""Prompt files with damaged lines among sound ones: every sound line is the prompt that it was, every other a job or a
problem with its number, and the text of no prompt shows in a message."""

from __future__ import annotations

import csv
import io
import json
import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.files import PromptFile, check
from producers.files.problems import Problem
from producers.runs.identity import LineJobs
from promptmill.errors import BadFile, BadInput
from promptmill.settings import Settings
from tests.support.damage import ODD_BYTES, ODD_VALUES, damaged_bytes, damaged_json
from tests.support.effort import cases

SECRET = "PROMPTMARK"
LINES = 24
WHOLE = (
    {
        "id": "own",
        "prompt": SECRET,
        "max_tokens": 7,
        "tags": {"a": "b"},
        "lane": "overnight",
        "expect": {"min_words": 1},
    },
    {"custom_id": "own", "params": {"model": "claude-haiku-5-5", "messages": [{"role": "user", "content": SECRET}]}},
)
HEADER = "id,prompt,model,max_tokens,lane,tags.a,expect.max_words,deadline"
SEEDS = st.integers(0, 2**64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def make(folder):
    return LineJobs(Settings.load(environ={}, data_dir=folder))


class Kept(LineJobs):
    """Also remembers what it made, by line."""

    def __init__(self, make: LineJobs) -> None:
        self._make = make
        self.messages: dict[int, object] = {}

    def __call__(self, line, fields):
        submission = self._make(line, fields)
        self.messages[line] = submission.job.request["messages"]
        return submission


def says(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def without_line_ends(data: bytes) -> bytes:
    return data.replace(b"\n", b" ").replace(b"\r", b" ")


@settings(max_examples=cases(500))
@given(seed=SEEDS)
def test_sound_lines_of_jsonl_are_what_they_were_whatever_stands_between(loop, folder, make, seed):
    chance = random.Random(seed)
    lines, sound = [], {}
    for number in range(1, LINES + 1):
        if chance.random() < 0.3:
            sound[number] = says(f"prompt {number}")
            lines.append(json.dumps({"id": f"sound-{number}", "prompt": f"prompt {number}"}).encode())
        else:
            lines.append(without_line_ends(damaged_json(chance.choice(WHOLE), chance)))
    end = chance.choice([b"\n", b"\r\n"])
    content = chance.choice([b"", b"\xef\xbb\xbf"]) + end.join(lines) + chance.choice([b"", end])
    kept, problems = loop.run(read(folder / "prompts.jsonl", content, make))
    if content[:2] not in {b"\xff\xfe", b"\xfe\xff"}:
        assert sound.items() <= kept.items()
    for problem in problems:
        assert 1 <= problem.line <= LINES
        assert len(str(problem)) < 700
        assert SECRET not in problem.reason or f'{SECRET}"'.encode() not in lines[problem.line - 1]


@settings(max_examples=cases(500))
@given(seed=SEEDS, tabs=st.booleans())
def test_sound_rows_of_a_table_are_what_they_were_whatever_stands_between(loop, folder, make, seed, tabs):
    chance = random.Random(seed)
    odd = [str(value) for value in ODD_VALUES if not isinstance(value, str) or "\ud800" not in value]
    odd = [text for text in odd if "\udcff" not in text]
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t" if tabs else ",", lineterminator=chance.choice(["\n", "\r\n"]))
    columns = HEADER.split(",")
    writer.writerow(columns)
    sound = {}
    for number in range(LINES):
        line = text.getvalue().count("\n") + 1
        if chance.random() < 0.4:
            prompt = f'prompt "{number}",\tin quotes'
            sound[line] = says(prompt)
            writer.writerow([f"sound-{number}", prompt, *[""] * (len(columns) - 2)])
        else:
            cells = [chance.choice(odd) if chance.random() < 0.3 else "" for _ in range(chance.randint(0, 12))]
            writer.writerow([cell.replace("\r", " ") for cell in cells])
    kept, _ = loop.run(read(folder / ("t.tsv" if tabs else "t.csv"), text.getvalue().encode(), make))
    assert sound.items() <= kept.items()


@settings(max_examples=cases(1_000))
@given(seed=SEEDS, suffix=st.sampled_from(["jsonl", "csv", "tsv", "txt"]), template=st.none() | st.text(max_size=12))
def test_any_bytes_are_a_prompt_file_or_a_bad_one(loop, folder, make, seed, suffix, template):  # noqa: PLR0917
    chance = random.Random(seed)
    table = (HEADER + "\n" + "\n".join(f'a{n},"{SECRET} {n}",,5,standard,x,9,' for n in range(5))).encode()
    lines = b"\n".join(json.dumps(line).encode() for line in WHOLE * 3)
    content = damaged_bytes(table if "sv" in suffix else lines, chance)
    if chance.random() < 0.1:
        content = chance.choice([b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\0", b""]) + chance.choice(ODD_BYTES) * 3
    with suppress(BadInput):
        loop.run(read(folder / f"any.{suffix}", content, make, template=template))


async def read(path, content, make, *, template=None):
    path.write_bytes(content)
    kept = Kept(make)
    file = PromptFile(path, template=template)
    try:
        checked = await check(file, kept, skip_bad=True)
    except BadFile as error:
        return kept.messages, [Problem(*problem) for problem in error.problems]
    usable = {line for line, usable in enumerate(checked.usable) if usable}
    assert len(usable) == checked.good
    assert usable <= kept.messages.keys(), "the others have an id that stood there before"
    return kept.messages, checked.problems
