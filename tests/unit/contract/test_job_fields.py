"""What a job may be, and what it says of one that may not: before anything was queued, and without showing prompts."""

from __future__ import annotations

import string
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.errors import BadJob
from promptmill.jobs import MAX_ID_BYTES, MOVES, Job, JobState, make_job, new_job_id
from promptmill.models import UnknownModel
from promptmill.queue import prepare
from promptmill.settings import Settings
from promptmill.wire import pack_job, unpack_envelope, unpack_job

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SETTINGS = Settings.load(environ={})
REQUEST = {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}


def request(**changed):
    return {**REQUEST, **changed}


def refusal(**fields) -> str:
    with pytest.raises(BadJob) as raised:
        make_job({"request": REQUEST, **fields})
    return str(raised.value)


def nested(depth: int):
    inside: object = "end"
    for _ in range(depth):
        inside = [inside]
    return inside


# ids -----------------------------------------------------------------------------------------------------------------


def test_a_made_up_id_is_20_characters_that_need_no_quoting_anywhere():
    ids = {new_job_id() for _ in range(1_000)}
    assert len(ids) == 1_000
    assert {len(job_id) for job_id in ids} == {20}
    assert set("".join(ids)) <= set(string.ascii_lowercase + string.digits)


@pytest.mark.parametrize("job_id", ["a", "läuft/7", "日本", "🦀", "x" * MAX_ID_BYTES, "a:b", "{x}", "-"])
def test_an_id_of_ones_own_may_be_anything_printable(job_id):
    assert make_job({"request": REQUEST, "id": job_id}).id == job_id


@pytest.mark.parametrize("field", ["id", "run"])
@pytest.mark.parametrize(
    "value",
    ["", " ", "a b", "a\nb", "a\tb", "nul\x00", "\x7f", "half \ud800", "\udcff", "x" * (MAX_ID_BYTES + 1), "ä" * 129],
)
def test_an_id_or_run_that_does_not_fit_into_a_key_is_refused(field, value):
    message = refusal(**{field: value})
    assert message.startswith(f"{field}: expected 1 to {MAX_ID_BYTES} bytes of UTF-8 without white space")
    assert len(message) < 300
    message.encode()


# the request ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"model": None}, "request.model to name a model, got None"),
        ({"model": ""}, "request.model to name a model, got ''"),
        ({"model": 7}, "request.model to name a model, got 7"),
        ({"model": ["a secret"]}, "request.model to name a model, got list"),
        ({"max_tokens": None}, "request.max_tokens to be a whole number from 1 to 1,000,000,000,000, got None"),
        ({"max_tokens": 0}, "request.max_tokens to be a whole number from 1 to 1,000,000,000,000, got 0"),
        ({"max_tokens": -1}, "request.max_tokens to be a whole number from 1 to 1,000,000,000,000, got -1"),
        ({"max_tokens": 2**60}, "request.max_tokens to be a whole number from 1 to 1,000,000,000,000, got 1152921504"),
        ({"max_tokens": True}, "request.max_tokens to be a whole number from 1 to 1,000,000,000,000, got True"),
        ({"max_tokens": 1.5}, "request.max_tokens to be a whole number from 1 to 1,000,000,000,000, got 1.5"),
        ({"max_tokens": "100"}, "request.max_tokens to be a whole number from 1 to 1,000,000,000,000, got '100'"),
        ({"messages": None}, "request.messages to be a list with at least one message"),
        ({"messages": []}, "request.messages to be a list with at least one message"),
        ({"messages": "Hello"}, "request.messages to be a list with at least one message"),
        ({"stream": True}, "request.stream is the worker's choice: leave it out"),
    ],
)
def test_a_body_that_the_api_would_refuse_at_once_is_refused_here(changed, says):
    assert says in refusal(request=request(**changed))


@pytest.mark.parametrize("missing", ["model", "max_tokens", "messages"])
def test_a_body_that_lacks_what_every_body_has_is_refused(missing):
    body = request()
    del body[missing]
    assert f"request.{missing}" in refusal(request=body)


def test_fields_of_a_request_that_are_unknown_to_us_are_passed_through_unchanged():
    body = request(future={"knob": [1, 2.5, None, True, {"ü": "\u2028"}]}, stream=False, service_tier="auto")
    assert round_trip(make_job({"request": body})).request == body


def test_values_of_prompts_never_show_in_a_message():
    message = refusal(request={"model": {"secret": "s3cret"}, "messages": "s3cret", "max_tokens": ["s3cret"]})
    assert "s3cret" not in message
    assert "s3cret" not in refusal(request="s3cret")
    assert "s3cret" not in refusal(tags={"s3cret key": ["s3cret"]}).replace("s3cret key", "")


def test_a_message_stays_short_whatever_came():
    for changed in ({"model": 10**200}, {"max_tokens": "9" * 10_000}, {"max_tokens": nested(100_000)}):
        assert len(refusal(request=request(**changed))) < 300


def round_trip(job: Job) -> Job:
    return unpack_job(unpack_envelope(pack_job(job, NOW)), job_id=job.id)


# what cannot be written as JSON --------------------------------------------------------------------------------------


class Colour(StrEnum):
    RED = "red"


@dataclass
class Thing:
    a: int = 1


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        "half a pair \ud83e",
        {"key \udc00": 1},
        b"bytes",
        {1, 2},
        {1: "a number for a key"},
        Decimal(1),
        datetime(2026, 1, 1, tzinfo=UTC),
        UUID(int=1),
        Thing(),
        object(),
        ValueError("text"),
        timedelta(1),
        2**64,
        nested(300),
        nested(100_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_request_that_json_cannot_say_as_it_is_is_refused_before_it_is_queued(value):
    job = Job(id="a", request=request(metadata={"user_id": value}))
    with pytest.raises(BadJob, match="job a: expected what can be written as UTF-8 JSON, got what cannot"):
        prepare(job, SETTINGS)


def test_a_request_that_holds_itself_is_refused():
    body = request()
    body["metadata"] = body
    with pytest.raises(BadJob):
        prepare(Job(request=body), SETTINGS)


@pytest.mark.parametrize("where", ["fallbacks", "tags"])
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(where):
    value = {"tags": {"team": "\ud800"}, "fallbacks": ("claude-sonnet-5-5\ud800",)}[where]
    with pytest.raises((BadJob, UnknownModel)):
        prepare(Job(request=REQUEST, **{where: value}), SETTINGS)


def test_a_tuple_and_an_enum_of_texts_are_as_good_as_a_list_and_a_text():
    job = round_trip(Job(request=request(metadata={"a": (1, 2), "colour": Colour.RED})))
    assert job.request["metadata"] == {"a": [1, 2], "colour": "red"}


def test_nul_in_a_prompt_is_passed_through():
    body = request(messages=[{"role": "user", "content": "a\x00b"}])
    assert round_trip(Job(request=body)).request == body


def test_ten_megabytes_go_and_forty_are_refused_with_a_way_out():
    def of_size(megabytes: int) -> Job:
        return Job(id="big", request=request(messages=[{"role": "user", "content": "x" * megabytes * 1_000_000}]))

    submission = prepare(of_size(10), SETTINGS)
    assert len(submission.payload) > 10_000_000
    assert submission.cost.input == 4_000_002
    with pytest.raises(
        BadJob, match=r"job big: expected at most 33,554,432 bytes, got 40,000,\d+; send large documents"
    ):
        prepare(of_size(40), SETTINGS)


# the other fields ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, None, ["a"], {"b": "c"}, b"x\xff"])
def test_a_tag_is_a_text(value):
    assert refusal(tags={"team": value}).startswith("tags.team: Input should be a valid string")


def test_fields_that_do_not_exist_are_named():
    assert refusal(requets={}) == "requets: unknown field"


def test_every_problem_is_named_at_once():
    message = refusal(lane="fast", max_attempts=0, position=0)
    assert [part.split(":")[0] for part in message.split("; ")] == ["lane", "position", "max_attempts"]


@pytest.mark.parametrize("number", [0, -1, 101])
def test_attempts_are_at_least_one_and_at_most_a_hundred(number):
    assert refusal(max_attempts=number).startswith("max_attempts:")


def test_a_result_cannot_be_kept_for_less_than_no_time():
    assert refusal(keep_result=-1).startswith("keep_result:")
    assert make_job({"request": REQUEST, "keep_result": 0}).keep_result == timedelta(0)


def test_times_without_a_zone_are_utc_and_others_are_converted():
    east = timezone(timedelta(hours=2))
    job = Job(request=REQUEST, not_before=datetime(2026, 1, 1, 12), deadline=datetime(2026, 1, 1, 15, tzinfo=east))  # noqa: DTZ001
    assert (job.not_before, job.deadline) == (
        datetime(2026, 1, 1, 12, tzinfo=UTC),
        datetime(2026, 1, 1, 13, tzinfo=UTC),
    )


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
def test_a_time_that_does_not_exist_in_utc_is_refused(time):
    assert refusal(deadline=time).startswith("deadline: expected a time between the years 1 and 9999 in UTC")


@pytest.mark.parametrize("offset", [timedelta(0), timedelta(seconds=-1)])
def test_a_deadline_has_to_lie_after_the_start(offset):
    assert "is not after not_before" in refusal(not_before=NOW, deadline=NOW + offset)


def test_a_job_cannot_be_changed_after_it_was_made():
    with pytest.raises(ValueError, match="frozen"):
        Job(request=REQUEST).lane = "overnight"


@pytest.mark.parametrize("fields", [None, 7, "text", [], [("request", REQUEST)]])
def test_what_is_no_mapping_is_no_job(fields):
    with pytest.raises(BadJob):
        make_job(fields)


def test_a_fallback_nobody_knows_limits_of_is_found_before_the_job_is_queued():
    with pytest.raises(UnknownModel, match=r"'claude-sonet-5-5'; did you mean 'claude-sonnet-5-5'\?"):
        prepare(Job(request=REQUEST, fallbacks=("claude-sonet-5-5",)), SETTINGS)


def test_the_reference_of_a_request_depends_on_what_it_says_and_not_on_the_order_of_its_fields():
    turned = dict(reversed(REQUEST.items()))
    assert Job(request=turned).request_ref == Job(request=REQUEST).request_ref
    assert Job(request=request(max_tokens=101)).request_ref != Job(request=REQUEST).request_ref


def test_every_state_has_its_moves_and_only_a_leased_job_ends():
    assert set(MOVES) == set(JobState)
    ends = {state for state in JobState if not MOVES[state]} | {JobState.FAILED}
    for end in ends:
        assert {state for state in JobState if end in MOVES[state]} == {JobState.LEASED}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(st.characters()) | st.integers(), inside),
    max_leaves=20,
)
field_names = st.sampled_from([*Job.model_fields, "unknown"])


@given(fields=st.dictionaries(field_names, anything) | anything, valid=st.booleans())
def test_whatever_is_handed_in_is_a_job_or_a_bad_job(fields, valid):
    if valid and isinstance(fields, dict):
        fields = {**fields, "request": REQUEST}
    assert len(refusal_of(fields)) < 10_000


def refusal_of(fields) -> str:
    try:
        prepare(make_job(fields), SETTINGS)
    except (BadJob, UnknownModel) as error:
        return str(error)
    return ""
