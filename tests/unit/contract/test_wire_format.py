"""Bytes in Redis: what we write is read back as it was, and nothing that a stranger writes is more than unreadable."""

from __future__ import annotations

import json
import pickle
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson
import pytest
from arq.jobs import deserialize_job, deserialize_result, serialize_job
from hypothesis import given
from hypothesis import strategies as st

from promptmill import wire
from promptmill.expectations import Expectation
from promptmill.jobs import Job, Lane
from promptmill.results import Attempt, Failure, Result, Status, Usage
from promptmill.tracing import TRACEPARENT
from promptmill.wire import (
    FUNCTION,
    SINCE,
    WIRE_VERSION,
    Envelope,
    TooNew,
    Unreadable,
    deserialize,
    job_fields,
    pack_job,
    pack_result,
    serialize,
    unpack_envelope,
    unpack_job,
    unpack_result,
)

NOW = datetime(2026, 11, 22, 12, 30, 15, 123_000, tzinfo=UTC)
REQUEST = {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}

texts = st.text(st.characters(exclude_categories=["Cs"]))
names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=40)
times = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=st.just(UTC))  # noqa: DTZ001
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(texts, inside, max_size=4),
    max_leaves=10,
)
requests = st.builds(
    lambda more, max_tokens, content: {
        **more,
        "model": "claude-haiku-5-5",
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": content}],
        "stream": False,
    },
    st.dictionaries(texts, json_values, max_size=4),
    st.integers(1, 10**9),
    json_values,
)
expectations = st.builds(
    Expectation,
    similar_to=st.none() | texts,
    contains=st.lists(texts, max_size=3).map(tuple),
    matches=st.sampled_from([None, "a+", "ü"]),
    format=st.sampled_from([None, "json", "code"]),
    json_schema=st.none() | st.dictionaries(texts, json_values, max_size=3),
    min_words=st.none() | st.integers(0, 10),
    max_words=st.none() | st.integers(10, 100),
    language=st.sampled_from([None, "de"]),
)
jobs = st.builds(
    Job,
    id=names,
    request=requests,
    lane=st.sampled_from(Lane),
    not_before=st.none() | times.map(lambda time: min(time, datetime(5000, 1, 1, tzinfo=UTC))),
    deadline=st.none() | times.map(lambda time: max(time, datetime(5000, 1, 2, tzinfo=UTC))),
    fallbacks=st.lists(names, max_size=3).map(tuple),
    expect=st.none() | expectations,
    tags=st.dictionaries(texts, texts, max_size=3),
    run=st.none() | names,
    position=st.none() | st.integers(1, 10**12),
    max_attempts=st.none() | st.integers(1, 100),
    trace=st.none() | st.from_regex(TRACEPARENT, fullmatch=True),
    for_claude_code=st.booleans(),
    keep_result=st.none() | st.timedeltas(timedelta(0), timedelta(days=3_650)),
)


@given(job=jobs, enqueued_at=st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_every_field_of_a_job_comes_back_as_it_was(job, enqueued_at):
    envelope = unpack_envelope(pack_job(job, enqueued_at))
    assert unpack_job(envelope, job_id=job.id) == job
    assert timedelta(0) <= enqueued_at - envelope.enqueued_at < timedelta(milliseconds=1)


def test_the_strategies_above_leave_no_field_of_a_job_out():
    assert set(Job.model_fields) == {
        "id", "request", "lane", "not_before", "deadline", "fallbacks", "expect", "tags", "run", "position",
        "max_attempts", "for_claude_code", "keep_result", "trace",
    }  # fmt: skip


def test_arq_reads_what_we_write_and_we_read_what_arq_writes():
    theirs = deserialize_job(pack_job(Job(id="a", request=REQUEST), NOW), deserializer=deserialize)
    assert (theirs.function, theirs.job_try, theirs.enqueue_time) == (FUNCTION, None, NOW)
    assert theirs.args[0]["request"] == REQUEST
    written = serialize_job(FUNCTION, ({"request": REQUEST},), {}, None, 1_700_000_000_000, serializer=serialize)
    envelope = unpack_envelope(written)
    assert envelope == Envelope(FUNCTION, ({"request": REQUEST},), {}, datetime.fromtimestamp(1_700_000_000, UTC))
    assert unpack_job(envelope, job_id="theirs").request == REQUEST


def test_a_job_is_under_the_id_that_it_has_in_redis_whatever_it_says_itself():
    envelope = unpack_envelope(pack_job(Job(id="a", request=REQUEST), NOW))
    assert unpack_job(envelope, job_id="b").id == "b"


# what is no job ------------------------------------------------------------------------------------------------------

HARMFUL = b"cos\nsystem\n(S'exit 1'\ntR."


def envelope_of(**changed) -> bytes:
    return json.dumps({"t": None, "f": FUNCTION, "a": [{"request": REQUEST}], "k": {}, "et": 1, **changed}).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b'{"f": "run_prompt"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"f":' * 100_000,
        HARMFUL,
        pickle.dumps({"t": None, "f": FUNCTION, "a": ({"request": REQUEST},), "k": {}, "et": 1}),
        envelope_of(f=None),
        envelope_of(f=["run_prompt"]),
        envelope_of(a="text"),
        envelope_of(a={"request": REQUEST}),
        envelope_of(a=7),
        envelope_of(k=[["prompt", "x"]]),
        envelope_of(k="x"),
        envelope_of(et=None),
        envelope_of(et="1"),
        envelope_of(et=1.5),
        envelope_of(et=10**18),
        envelope_of(et=-(10**18)),
        envelope_of(et=10**30),
        b'{"f":"run_prompt","a":[],"k":{},"et":NaN}',
    ],
    ids=lambda payload: payload[:30].decode("latin-1"),
)
def test_what_is_no_envelope_is_unreadable(payload):
    with pytest.raises(Unreadable) as raised:
        unpack_envelope(payload)
    assert raised.value.name == "unreadable_payload"
    assert f"got {len(payload)} bytes that are not one (a pickle is never loaded)" in str(raised.value)


class Bomb:
    """Notices when it is unpickled."""

    went_off = False

    def __reduce__(self):
        return (_go_off, ())


def _go_off():
    Bomb.went_off = True


def test_a_pickle_is_never_loaded():
    bomb = pickle.dumps(Bomb())
    for read in (unpack_envelope, unpack_result):
        with pytest.raises(Unreadable):
            read(bomb)
    with pytest.raises(ValueError, match="not valid UTF-8"):
        deserialize(bomb)
    assert Bomb.went_off is False
    pickle.loads(bomb)
    assert Bomb.went_off is True


def read(payload: bytes) -> Job:
    return unpack_job(unpack_envelope(payload), job_id="a")


@pytest.mark.parametrize(
    ("payload", "name", "says"),
    [
        (envelope_of(f="another"), "unknown_function", "expected function 'run_prompt', got 'another'"),
        (envelope_of(f="x" * 10_000), "unknown_function", "got 'xxx"),
        (envelope_of(a=[7]), "bad_job", "expected the job's fields as an object, got int"),
        (envelope_of(a=[None]), "bad_job", "expected the job's fields as an object, got NoneType"),
        (envelope_of(a=[{"request": REQUEST}, 1]), "bad_job", "expected the job as the one argument, got 2 arguments"),
        (envelope_of(a=[]), "bad_job", "request: Field required"),
        (envelope_of(a=["just a prompt"]), "bad_job", "prompt: unknown field"),
        (envelope_of(a=[{"request": REQUEST, "lane": "fast"}]), "bad_job", "lane: Input should be"),
        (envelope_of(a=[{"request": {}}]), "bad_job", "request: expected request.model"),
    ],
)
def test_an_envelope_without_a_job_of_ours_says_what_is_wrong(payload, name, says):
    with pytest.raises(Unreadable) as raised:
        read(payload)
    assert raised.value.name == name
    assert says in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("version", [WIRE_VERSION + 1, 10**15])
def test_a_job_of_a_later_promptmill_is_told_apart_even_if_it_has_fields_that_nobody_knows_here(version):
    with pytest.raises(
        TooNew, match=f"wire version {version}, and this promptmill reads up to {WIRE_VERSION}"
    ) as raised:
        read(envelope_of(a=[{"request": REQUEST, "version": version, "colour": "red"}]))
    assert (raised.value.version, raised.value.enqueued_at.timestamp()) == (version, 0.001)


@pytest.mark.parametrize("version", [0, -1, 1.5, "2", None, [1], True])
def test_a_version_that_is_no_version_is_no_reason_to_wait_for_another_worker(version):
    with pytest.raises(Unreadable, match="version: expected a whole number from 1") as raised:
        read(envelope_of(a=[{"request": REQUEST, "version": version}]))
    assert raised.value.name == "bad_job"


# what old and new have to agree on ------------------------------------------------------------------------------------

FIRST = {
    *("id", "request", "lane", "not_before", "deadline", "fallbacks", "expect", "tags", "run", "position"),
    *("max_attempts", "trace", "for_claude_code", "keep_result"),
}
FIRST_EXPECTED = {
    *("similar_to", "contains", "excludes", "matches", "format", "json_schema", "min_words", "max_words", "language"),
}


def test_each_field_that_0_1_0_refuses_says_since_when_it_is_there():
    """Its workers bury a job with a field that they do not know: the version tells them, and later ones wait."""
    new = {*Job.model_fields} - FIRST | {f"expect.{name}" for name in {*Expectation.model_fields} - FIRST_EXPECTED}
    assert set(SINCE) == new
    assert all(version > 1 for version in SINCE.values())


def version_in(job: Job) -> int:
    return orjson.loads(pack_job(job, NOW))["a"][0]["version"]


@given(job=jobs)
def test_a_job_that_uses_nothing_new_is_read_by_the_first_version(job):
    assert version_in(job) == 1 or SINCE


def test_a_job_needs_the_version_that_brought_the_newest_field_that_it_uses(monkeypatch):
    monkeypatch.setattr(wire, "SINCE", {"tags": 2, "expect.language": 4, "expect.format": 3})
    assert version_in(Job(request=REQUEST)) == 1
    assert version_in(Job(request=REQUEST, expect={"contains": "a"})) == 1
    assert version_in(Job(request=REQUEST, tags={"a": "b"})) == 2
    assert version_in(Job(request=REQUEST, tags={"a": "b"}, expect={"format": "json"})) == 3
    assert version_in(Job(request=REQUEST, expect={"format": "json", "language": "de"})) == 4


@pytest.mark.parametrize(
    ("args", "kwargs", "fields"),
    [
        (["Hello"], {}, {"prompt": "Hello"}),
        (["Hello"], {"max_tokens": 5}, {"prompt": "Hello", "max_tokens": 5}),
        ([{"prompt": "Hello"}], {}, {"prompt": "Hello"}),
        ([{"prompt": "Hello"}], {"lane": "overnight"}, {"prompt": "Hello", "lane": "overnight"}),
        ([], {"prompt": "Hello", "model": "m"}, {"prompt": "Hello", "model": "m"}),
        ([], {"job": {"prompt": "Hello"}}, {"prompt": "Hello"}),
        ([], {"job": "Hello", "system": "s"}, {"prompt": "Hello", "system": "s"}),
        ([], {}, {}),
    ],
)
def test_arqs_callers_may_hand_a_job_over_in_any_way_and_none_of_it_is_dropped(args, kwargs, fields):
    assert job_fields(unpack_envelope(envelope_of(a=args, k=kwargs))) == fields


@given(payload=st.binary() | json_values.map(orjson.dumps))
def test_any_bytes_are_a_job_or_unreadable(payload):
    with suppress(Unreadable):
        assert isinstance(read(payload), Job)


@given(
    envelope=st.fixed_dictionaries(
        {"f": st.just(FUNCTION) | json_values, "a": st.lists(json_values, max_size=2) | json_values},
        optional={"k": json_values, "et": st.integers() | json_values, "t": json_values},
    ),
)
def test_any_envelope_is_a_job_or_unreadable(envelope):
    with pytest.raises(Unreadable):
        read(json.dumps(envelope).encode())


@given(fields=st.dictionaries(st.sampled_from([*Job.model_fields, "x"]), json_values))
def test_any_fields_are_a_job_or_unreadable(fields):
    try:
        job = read(json.dumps({"f": FUNCTION, "a": [{"request": REQUEST, **fields}], "k": {}, "et": 1}).encode())
    except Unreadable:
        return
    assert unpack_job(unpack_envelope(pack_job(job, NOW)), job_id=job.id) == job


# results -------------------------------------------------------------------------------------------------------------


def a_result() -> Result:
    usage = Usage(10, 20, 1, 2, 3, 4, "standard")
    attempts = (
        Attempt(
            1, "m", NOW, NOW + timedelta(seconds=1), "overloaded", 529, "req_1", failure=Failure("overloaded", "x")
        ),
        Attempt(2, "m", NOW + timedelta(seconds=3), NOW + timedelta(seconds=9), "succeeded", 200, "req_2", usage=usage),
    )
    return Result(
        job_id="a",
        status=Status.SUCCEEDED,
        model="m",
        text="forty-two",
        message={"content": [{"type": "text", "text": "forty-two"}]},
        usage=usage,
        cost_usd=Decimal("0.000012345"),
        attempts=attempts,
        quality={"words": 1},
        lane="overnight",
        tags={"team": "ü"},
        run="r",
        position=7,
        request_ref="0" * 64,
        submitted_at=NOW,
        finished_at=NOW + timedelta(seconds=10),
        queue_time=timedelta(milliseconds=5),
        latency=timedelta(seconds=6),
        worker="w",
    )


def test_a_result_comes_back_as_it_was():
    result = a_result()
    assert unpack_result(pack_result(result, queue="q", enqueued_at=NOW)) == result


def test_arq_reads_our_results():
    theirs = deserialize_result(pack_result(a_result(), queue="q", enqueued_at=NOW), deserializer=deserialize)
    assert (theirs.success, theirs.job_try, theirs.queue_name, theirs.job_id) == (True, 2, "q", "a")
    assert (theirs.enqueue_time, theirs.start_time, theirs.finish_time) == (NOW, NOW, NOW + timedelta(seconds=10))
    assert theirs.result == orjson.loads(orjson.dumps(a_result().to_line()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"r": null}',
        b'{"r": "text"}',
        b'{"r": 7}',
        b'{"r": []}',
        b'{"r": {"id": "a", "status": "unheard of"}}',
        b'{"r": {"id": "a", "status": "succeeded", "cost_usd": "much", "finished_at": "2026-01-01T00:00:00+00:00"}}',
        b'{"r": {"id": "a", "status": "succeeded", "latency_s": 1e300, "finished_at": "2026-01-01T00:00:00+00:00"}}',
        b'{"r": {"id": "a", "status": "succeeded", "attempts": [1], "finished_at": "2026-01-01T00:00:00+00:00"}}',
        b'{"r": {"id": "a", "status": "succeeded", "usage": [], "finished_at": "2026-01-01T00:00:00+00:00"}}',
    ],
)
def test_what_is_no_result_is_unreadable(data):
    with pytest.raises(Unreadable) as raised:
        unpack_result(data)
    assert raised.value.name == "unreadable_result"


@given(line=json_values | st.dictionaries(st.sampled_from([*a_result().to_line(), "x"]), json_values))
def test_any_result_line_is_a_result_or_unreadable(line):
    if isinstance(line, dict):
        line = {**a_result().to_line(), **line}
    with suppress(Unreadable):
        assert isinstance(unpack_result(json.dumps({"r": line}).encode()), Result)


@pytest.mark.parametrize("odd", ["half a pair: \ud83d", 2**70, {"deep": ["\udfff", -(2**65)]}])
def test_a_result_that_plain_json_refuses_reaches_whoever_waits_as_it_is(odd):
    result = replace(a_result(), text=None, message={"content": odd})
    assert unpack_result(pack_result(result, queue="q", enqueued_at=NOW)) == result
