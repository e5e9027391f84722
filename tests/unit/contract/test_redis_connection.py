"""What is said when Redis cannot be reached or does not take writes, and that no password is said with it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions

from promptmill.errors import BadSettings, QueueUnavailable
from promptmill.queue import Queue, connect
from promptmill.queue.connection import hide_password, redis_errors


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:s3cret@host/0", "redis://:***@host/0"),
        ("rediss://user:s3cret@host:6380/0?ssl_cert_reqs=none", "rediss://user:***@host:6380/0?ssl_cert_reqs=none"),
        ("redis://user@host", "redis://user@host"),
        ("redis://:s3/cr@et@host", "redis://:***@host"),
        ("redis://:s3?cret@host", "redis://:***@host"),
        ("redis://host/0?password=s3cret&db=1", "redis://host/0?password=***&db=1"),
        ("unix:///run/redis.sock?db=1&PASSWORD=s3cret", "unix:///run/redis.sock?db=1&PASSWORD=***"),
        ("unix:///run/a@b.sock", "unix:///run/a@b.sock"),
        ("redis://:s3cret@[::1", "redis://:***@[::1"),
        ("s3cret", "s3cret"),
    ],
)
def test_an_address_is_shown_without_its_password(url, shown):
    assert hide_password(url) == shown


@given(password=st.text(st.characters(exclude_characters="@*"), min_size=8))
def test_a_password_never_shows_however_it_was_written(password):
    assert password not in hide_password(f"redis://user:{password}@host:6379/0")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "http://host",
        "redis://host:s3cret",
        "redis://:s3/cret@host",
        "redis://:s3cret@[::1",
        "redis://host/0?db=s3cret&password=s3cret",
    ],
)
def test_an_address_that_is_none_is_refused_without_its_password(url):
    with pytest.raises(BadSettings, match="redis_url: expected redis://host:port/db") as raised:
        connect(url)
    if "@" in url or "password" in url:
        assert "s3cret" not in str(raised.value).replace("db=s3cret", "")
        assert "cret@" not in str(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("refused"),
        exceptions.TimeoutError("no answer"),
        exceptions.BusyLoadingError("LOADING"),
        ConnectionResetError(104, "reset"),
        BrokenPipeError(32, "pipe"),
    ],
)
def test_a_redis_that_does_not_answer_is_unavailable(error):
    with pytest.raises(QueueUnavailable, match="Redis does not answer"), redis_errors():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ReadOnlyError("You can't write against a read only replica."),
        exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        exceptions.ResponseError(
            "OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:1."
        ),
        exceptions.ResponseError("-READONLY You can't write against a read only replica. script: 1"),
        exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots, but is unable to persist on disk"),
        exceptions.ResponseError("BUSY Redis is busy running a script."),
        exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."),
        exceptions.ResponseError("MASTERDOWN Link with MASTER is down"),
    ],
)
def test_a_redis_that_takes_no_writes_is_unavailable(error):
    with pytest.raises(QueueUnavailable, match="Redis does not take writes"), redis_errors():
        raise error


def test_a_wrong_password_is_a_matter_of_settings():
    with pytest.raises(BadSettings, match="check PROMPTMILL_REDIS_URL"), redis_errors():
        raise exceptions.AuthenticationError("WRONGPASS invalid username-password pair")


def test_what_redis_answers_on_purpose_passes_through():
    with pytest.raises(exceptions.ResponseError, match="WRONGTYPE"), redis_errors():
        raise exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


async def test_every_call_to_a_redis_that_is_not_there_says_so(tmp_path):
    redis = connect(f"unix://{tmp_path}/nobody.sock")
    queue = Queue(redis)
    for call in (queue.cancel(["a"]), queue.leave("w"), queue.block("c", timedelta(1), "why")):
        with pytest.raises(QueueUnavailable, match="Redis does not answer"):
            await call
    await redis.aclose()
