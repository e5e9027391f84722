"""Settings of any file and environment are settings or BadSettings, and what is accepted can be paced with;
expectations of any shape are refused, or every answer can be measured by them."""

from __future__ import annotations

import math
import random
from contextlib import suppress

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptmill.errors import BadJob, BadSettings
from promptmill.lines import job_from_line
from promptmill.pacing import paces
from promptmill.settings import Settings
from promptmill.settings_sources import CONFIG_VARIABLE, PREFIX
from tests.support.damage import ODD_VALUES, damaged_bytes, damaged_value
from tests.support.effort import cases
from worker.quality import Answer, measure

KEY = "sk-ant-KEYMARK"
FILE = b"""
redis_url = "redis://localhost:6379/0"
model = "claude-haiku-5-5"
max_tokens = 200
rpm = 50
itpm = 50_000
headroom = 0.05
lease = 12.5
grace = "PT30S"
token_burst = "00:00:01"
log_level = "info"
log_content = false

[budgets."haiku-5-5"]
rpm = 100
models = ["my-tuned-haiku"]

[budgets.elsewhere]
otpm = 1_000
"""
VARIABLES = [PREFIX + name.upper() for name in Settings.model_fields]
EXPECT = {
    "similar_to": "The sun is a star.",
    "contains": ["sun", "star"],
    "excludes": "moon",
    "matches": r"(?i)\bsun\b.*star",
    "format": "json",
    "json_schema": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a+$"}}, "required": ["a"]},
    "min_words": 2,
    "max_words": 50,
    "language": "en",
}
PATTERNS = (
    "(a+)+$",
    "a{999999999999999999999}",
    "(?P<n>a)(?P=n)",
    "[z-a]",
    "(" * 400 + ")" * 400,
    "\\",
    "(?=",
    "*",
    "a{9999}",
)
SCHEMAS = (
    {"$ref": "#"},
    {"$ref": "http://127.0.0.1:1/x"},
    {"allOf": [{"$ref": "#/allOf/0"}]},
    {"type": 7},
    {"pattern": "(a+)+$", "type": "string"},
    {"enum": []},
    {"multipleOf": 1e-300},
    {"required": "a"},
    {"$schema": "http://json-schema.org/draft-03/schema#"},
)
ANSWERS = ("", "The sun is a star.", '{"a":"aaa"}', "a" * 60, '{"a":' * 60, '[[1e999,"\\ud800"]]', "```json\n{}\n```")
SEEDS = st.integers(0, 2**64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("settings")


@settings(max_examples=cases(1_500))
@given(seed=SEEDS)
def test_any_file_and_environment_are_settings_that_can_be_paced_with_or_bad_settings(folder, seed):
    chance = random.Random(seed)
    file = folder / "any.toml"
    file.write_bytes(damaged_bytes(FILE, chance))
    odd = [str(value).replace("\0", "") for value in ODD_VALUES]
    environ = {chance.choice(VARIABLES): chance.choice(odd) for _ in range(chance.choice([0, 0, 0, 1, 2]))}
    environ |= {CONFIG_VARIABLE: str(file), "ANTHROPIC_API_KEY": KEY}
    made, said = None, ""
    try:
        made = Settings.load(environ=environ)
    except BadSettings as error:
        said = str(error)
    assert KEY not in said + repr(made)
    if made is None:
        return
    for model_class in ("haiku-5-5", *made.budgets):
        pace = paces(
            made.limits(model_class),
            headroom=made.headroom,
            request_burst=made.request_burst,
            token_burst=made.token_burst,
        )
        for dimension in pace.values():
            assert 0 < dimension.rate < math.inf
            assert 0 < dimension.burst < math.inf


@settings(max_examples=cases(1_000))
@given(seed=SEEDS)
def test_any_expectation_is_refused_or_every_answer_can_be_measured_by_it(seed):
    chance = random.Random(seed)
    expect = damaged_value(EXPECT, chance)
    if isinstance(expect, dict):
        if chance.random() < 0.3:
            expect["matches"] = chance.choice(PATTERNS)
        if chance.random() < 0.3:
            expect["json_schema"] = chance.choice(SCHEMAS)
    job = None
    with suppress(BadJob):
        job = job_from_line({"prompt": "Why?", "expect": expect}, model="claude-haiku-5-5", max_tokens=10)
    if job is not None:
        measured = measure(Answer(chance.choice(ANSWERS)), request=job.request, expectation=job.expect)
        assert orjson.loads(orjson.dumps(measured)) == measured
