"""Sets of canaries: what a line may say, and what is said of one that cannot be used."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from promptmill.canaries.schedule import round_at
from promptmill.canaries.sets import MOST, load
from promptmill.errors import BadFile, BadSettings
from promptmill.settings import Settings

GOOD = {"id": "sum", "prompt": "What is 1 + 1?", "expect": {"similar_to": "2", "contains": "2"}}


@pytest.fixture
def write(tmp_path):
    def write(*lines) -> str:
        path = tmp_path / "canaries.jsonl"
        path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        return str(path)

    return write


def without(name: str) -> dict:
    return {field: value for field, value in GOOD.items() if field != name}


def test_a_line_is_one_that_run_takes(write):
    batch_form = {
        "custom_id": 7,
        "params": {"messages": [{"role": "user", "content": "Hello"}]},
        "expect": {"min_words": 1},
    }
    first, second = load(write(GOOD, "", batch_form), max_tokens=99).canaries
    assert (first.id, first.line, second.id, second.line) == ("sum", 1, "7", 3)
    assert first.request_to("some-model") == {
        "model": "some-model",
        "max_tokens": 99,
        "messages": [{"role": "user", "content": "What is 1 + 1?"}],
    }
    assert second.expect.min_words == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "expected a JSON object, got something else"),
        ("[]", "expected a JSON object, got list"),
        (without("id"), "id: expected a name"),
        (without("prompt"), 'prompt: expected either "prompt"'),
        (without("expect"), "expect: expected at least one check beside similar_to"),
        (GOOD | {"expect": {"similar_to": "2"}}, "expect: expected at least one check beside similar_to"),
        (GOOD | {"expect": {"contain": "2"}}, "expect.contain: unknown field"),
        (GOOD | {"expect": {"matches": "("}}, "expect.matches: expected a regular expression"),
        (GOOD | {"id": "two words"}, "id: expected 1 to 256 bytes"),
        (GOOD | {"id": "x" * 61}, "id: expected at most 60 characters, got 61"),
        (GOOD | {"model": "claude-haiku-5-5"}, "model: expected none in a canary"),
        (GOOD | {"lane": "interactive"}, "lane: expected none in a canary"),
        (GOOD | {"fallbacks": ["claude-opus-5-5"]}, "fallbacks: expected none in a canary"),
        (
            without("prompt")
            | {"params": {"model": "claude-haiku-5-5", "messages": [{"role": "user", "content": "x"}]}},
            "model: expected none in a canary",
        ),
        (GOOD, "id: expected each once, got 'sum', which line 1 has"),
    ],
)
def test_a_bad_line_is_named_with_what_was_expected(write, line, said):
    name = write(GOOD, line)
    with pytest.raises(BadFile) as refused:
        load(name, max_tokens=99)
    assert str(refused.value).startswith(f"canaries: {name}: line 2: {said}")
    assert [problem[0] for problem in refused.value.problems] == [2]


def test_every_bad_line_is_counted(write):
    with pytest.raises(BadFile, match=r"line 1: .* \(2 bad lines in all\)"):
        load(write("{", GOOD, "nonsense"), max_tokens=99)


def test_a_file_of_prompts_given_by_mistake_is_not_sent_every_hour(write):
    with pytest.raises(BadFile, match=f"expected 1 to {MOST} of them in .*, got 501"):
        load(write(*({**GOOD, "id": str(number)} for number in range(MOST + 1))), max_tokens=99)
    with pytest.raises(BadFile, match="got 0"):
        load(write(""), max_tokens=99)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(BadFile, match=r"expected 'starter' or a file, got nowhere\.jsonl: No such file"):
        load("nowhere.jsonl", max_tokens=99)


def test_a_changed_set_makes_new_series(write):
    kind = load(write(GOOD), max_tokens=99).kind
    assert kind.startswith("canary:")
    assert load(write(GOOD), max_tokens=99).kind == kind
    assert load(write(GOOD | {"prompt": "What is 1+1?"}), max_tokens=99).kind != kind
    assert load(write(GOOD | {"expect": {"contains": "two"}}), max_tokens=99).kind != kind


@pytest.mark.parametrize("seconds", [60, 900, 1_800, 3_600, 7_200, 6 * 3_600, 86_400])
def test_rounds_begin_at_the_same_times_every_day(seconds):
    every = Settings(canary_every=seconds).canary_every
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    begins = {round_at(midnight + timedelta(seconds=7 * number), every) for number in range(86_400 // 7)}
    assert begins == {midnight + number * every for number in range(86_400 // seconds)}


@pytest.mark.parametrize("given", [0, 30, 90, 420, 5_400, 5 * 3_600, 2 * 86_400, "soon"])
def test_an_interval_that_no_clock_shows_is_refused(given):
    with pytest.raises(BadSettings, match=r"canary_every: expected (minutes|seconds)"):
        Settings.load(environ={}, canary_every=given)


def test_the_models_are_a_list_of_names():
    assert Settings.load(environ={"PROMPTMILL_CANARY_MODELS": '["a", "b"]'}).canary_models == ("a", "b")
    with pytest.raises(BadSettings, match="expected the name of a model, got 'two words'"):
        Settings.load(environ={"PROMPTMILL_CANARY_MODELS": '["two words"]'})
