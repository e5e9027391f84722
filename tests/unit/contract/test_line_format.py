"""The short form of a job, as it stands in a prompt file, an HTTP body or a call."""

from __future__ import annotations

from contextlib import suppress
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.errors import BadJob
from promptmill.jobs import Job, Lane
from promptmill.lines import job_from_line

HELLO = [{"role": "user", "content": "Hello"}]


def job_of(line: Any, **fixed: Any) -> Job:
    return job_from_line(line, model="default-model", max_tokens=1_024, **fixed)


def refusal(line: Any, **fixed: Any) -> str:
    with pytest.raises(BadJob) as raised:
        job_of(line, **fixed)
    return str(raised.value)


def test_a_prompt_alone_is_enough():
    job = job_of({"prompt": "Hello"})
    assert job.request == {"model": "default-model", "max_tokens": 1_024, "messages": HELLO}
    assert job.lane is Lane.STANDARD


def test_what_stands_beside_a_prompt_goes_into_the_request_or_the_job():
    line = {"id": "a", "prompt": "Hello", "model": "m", "system": "Be brief.", "max_tokens": 5, "lane": "overnight"}
    job = job_of({**line, "tags": {"team": "x"}, "expect": {"contains": "hi"}, "deadline": "2030-01-01T00:00:00Z"})
    assert job.request == {"model": "m", "system": "Be brief.", "max_tokens": 5, "messages": HELLO}
    assert (job.id, job.lane, job.tags, job.expect.contains) == ("a", Lane.OVERNIGHT, {"team": "x"}, ("hi",))


def test_the_form_of_message_batches_is_taken_as_it_is():
    params = {"model": "m", "max_tokens": 5, "messages": HELLO, "metadata": {"user_id": "u"}, "new_field": [1]}
    job = job_of({"custom_id": "my-1", "params": params})
    assert (job.id, job.request) == ("my-1", params)


@pytest.mark.parametrize("form", ["params", "request"])
def test_a_whole_body_gets_what_it_lacks_and_keeps_what_it_has(form):
    assert job_of({form: {"messages": HELLO}}).request == {
        "messages": HELLO,
        "model": "default-model",
        "max_tokens": 1_024,
    }
    whole = {"model": "m", "max_tokens": 1, "messages": HELLO}
    assert job_of({form: whole}).request == whole


def test_what_stands_beside_a_body_wins_over_it():
    body = {"model": "m", "max_tokens": 1, "messages": HELLO}
    assert job_of({"params": body, "model": "other"}).request["model"] == "other"
    assert body["model"] == "m"


def test_an_id_wins_over_a_custom_id():
    assert job_of({"prompt": "x", "id": "a", "custom_id": "b"}).id == "a"


def test_null_is_as_good_as_absent():
    absent = dict.fromkeys(
        ["id", "custom_id", "params", "request", "model", "system", "max_tokens", "lane", "expect", "tags", "run"]
    )
    job = job_of({**absent, "prompt": "Hello"})
    assert job.request == {"model": "default-model", "max_tokens": 1_024, "messages": HELLO}
    assert (job.lane, job.tags, job.run) == (Lane.STANDARD, {}, None)
    assert len(job.id) == 20


def test_fixed_fields_win_over_the_lines():
    job = job_of({"prompt": "x", "id": "own", "run": "own"}, id="fixed", run="fixed", position=3)
    assert (job.id, job.run, job.position) == ("fixed", "fixed", 3)


def test_the_line_is_left_as_it_was():
    line = {"params": {"messages": HELLO}, "tags": {}}
    job_of(MappingProxyType(line))
    assert line == {"params": {"messages": HELLO}, "tags": {}}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({}, 'expected either "prompt" (a text) or "params" (a Messages API body), got neither'),
        ({"prompt": None}, "got neither"),
        ({"prompt": "x", "params": {}}, "got prompt and params"),
        ({"prompt": "x", "request": {}, "params": {}}, "got prompt and params and request"),
        ({"prompt": ""}, "prompt: expected a text that is not blank, got a blank text"),
        ({"prompt": " \n"}, "got a blank text"),
        ({"prompt": 7}, "got int"),
        ({"prompt": ["a", "b"]}, "got list"),
        ({"params": "text"}, "params: expected a Messages API body as an object, got a text"),
        ({"params": []}, "got list"),
        ({"request": 7}, "request: expected a Messages API body as an object, got int"),
        ({"prompt": "x", "modle": "m"}, "modle: unknown field; did you mean 'model'?"),
        ({"promt": "x"}, "promt: unknown field; did you mean 'prompt'?"),
        ({"prompt": "x", "zzzz": 1}, "zzzz: unknown field"),
        ({"prompt": "x", "version": 1}, "version: unknown field"),
        ({"prompt": "x", 7: 1}, "7: unknown field"),
        (
            {"prompt": "x", "max_tokens": "5"},
            "request.max_tokens to be a whole number from 1 to 1,000,000,000,000, got '5'",
        ),
        ({"prompt": "x", "custom_id": 7}, "id: Input should be a valid string"),
        ({"prompt": "x", "lane": "fast"}, "lane: Input should be 'interactive', 'standard' or 'overnight'"),
    ],
)
def test_a_line_that_is_no_job_says_which_field_what_was_expected_and_what_came(line, says):
    assert says in refusal(line)


def test_a_message_stays_short_whatever_the_line_is_like():
    assert len(refusal({"x" * 10_000_000: 1})) < 200
    assert len(refusal({"prompt": "x", "max_tokens": "y" * 1_000_000})) < 300


def test_the_text_of_a_prompt_never_shows_in_a_message():
    for line in (
        {"prompt": ["s3cret"]},
        {"params": "s3cret"},
        {"params": {"messages": "s3cret"}},
        {"prompt": "s3cret", "lane": "fast"},
        {"prompt": "s3cret", "params": "s3cret"},
        {"prompt": "s3cret", "tags": {"a": 1}},
    ):
        assert "s3cret" not in refusal(line)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=8,
)
field_names = st.sampled_from(
    [*Job.model_fields, "prompt", "params", "custom_id", "model", "system", "max_tokens"]
) | st.text(max_size=5)


@given(line=st.dictionaries(field_names, values), prompt=st.none() | st.text(st.characters()))
def test_any_line_is_a_job_or_a_bad_job(line, prompt):
    if prompt is not None:
        line = {**{name: value for name, value in line.items() if name not in {"params", "request"}}, "prompt": prompt}
    with suppress(BadJob):
        assert isinstance(job_of(line), Job)
