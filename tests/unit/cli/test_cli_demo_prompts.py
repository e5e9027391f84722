"""The demo's prompts: made from this very Python."""

from __future__ import annotations

from collections import Counter

import pytest

from producers.cli import demo_prompts
from producers.cli.demo_prompts import PROMPTS, demo_lines, standard_modules
from promptmill.errors import BadInput
from promptmill.lines import job_from_line


def test_there_are_enough_of_them_and_every_one_is_a_job():
    lines = demo_lines()
    jobs = [job_from_line(line, model="claude-haiku-5-5", max_tokens=1) for line in lines]
    assert len({job.id for job in jobs}) == PROMPTS >= 200


def test_every_kind_of_expectation_and_every_lane_comes_up():
    lines = demo_lines()
    kinds = Counter(line["tags"]["kind"] for line in lines)
    assert set(kinds) == {"explain", "name", "summarize", "code", "json"}
    assert {name for line in lines for name in line["expect"]} >= {
        "max_words",
        "contains",
        "similar_to",
        "format",
        "json_schema",
    }
    assert {line.get("lane", "standard") for line in lines} == {"interactive", "standard", "overnight"}


def test_they_are_the_same_each_time():
    assert demo_lines(20) == demo_lines(20)


def test_a_small_library_is_asked_about_more_than_once(tmp_path, monkeypatch):
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "__init__.py").write_text(
        '# a comment\n\nr"""JSON is a format. It is everywhere, and this text is long enough."""\nimport os\n'
    )
    (tmp_path / "_private.py").write_text('"""' + "Not for users. " * 10 + '"""')
    (tmp_path / "bare.py").write_text("import os\n")
    (tmp_path / "terse.py").write_text('"""Terse."""')
    (module,) = standard_modules(tmp_path)
    assert (module.name, module.summary) == ("json", "JSON is a format.")
    monkeypatch.setattr(demo_prompts, "_HOME", tmp_path)
    assert [line["id"] for line in demo_lines(3)] == ["001-json", "002-json", "003-json"]


def test_a_python_without_sources_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_prompts, "_HOME", tmp_path)
    with pytest.raises(BadInput, match="finds no sources"):
        demo_lines()
