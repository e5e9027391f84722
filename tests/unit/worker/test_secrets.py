"""No key, prompt or answer gets into a log, a failure or an exception (I7), whatever goes wrong on the way."""

from __future__ import annotations

import io
import logging
import ssl
import sys
import warnings

import httpx2
import orjson
import pytest
import structlog

from promptmill.errors import StoreUnavailable
from promptmill.queue import keys
from tests.support.providers import Request, answering, breaking, event, events_of, failing, message, sending, streaming
from tests.support.workers import LONG, REQUEST, make_job, workshop
from worker.logs import configure_logs, where

KEY = "sk-ant-KEYMARK"
PROMPT = "PROMPTMARK: attack at dawn"
ANSWER = "ANSWERMARK: at noon"
MARKS = ("KEYMARK", "PROMPTMARK", "ANSWERMARK")
JSON = {"content-type": "application/json"}


def quoting(text: str) -> Exception:
    """What no library should say, and some do."""
    return RuntimeError(f"could not handle {text}")


def caused(error: Exception, by: BaseException) -> Exception:
    error.__cause__ = by
    return error


async def echoing(request: Request) -> httpx2.Response:
    """A proxy that shows what it was sent."""
    return httpx2.Response(502, content=bytes(request.headers["authorization"], "ascii") + request.body)


async def raising_bug(request: Request) -> httpx2.Response:
    raise KeyError(PROMPT)


WHOLE = {
    "answered": answering(ANSWER),
    "refused": answering(ANSWER, stop_reason="refusal"),
    "no stop reason": answering(ANSWER, stop_reason=None),
    "an answer that is no Message": sending(200, orjson.dumps({"text": ANSWER, "prompt": PROMPT}), JSON),
    "an answer cut short": sending(200, orjson.dumps(message(ANSWER))[:-40], JSON),
    "an answer that is text": sending(200, ANSWER.encode()),
    "an error page with everything": echoing,
    "an error that is no API error": sending(400, orjson.dumps({"detail": PROMPT}), JSON),
    "an error of an odd shape": sending(400, orjson.dumps({"error": {"type": PROMPT, "message": [PROMPT]}}), JSON),
    "an API error": failing(400, "invalid_request_error", "messages.0.content: too long"),
    "rate limited": failing(429, "rate_limit_error"),
    "a bad key": failing(401, "authentication_error", "invalid bearer token"),
    "a garbled answer": breaking(caused(httpx2.RemoteProtocolError(ANSWER), quoting(ANSWER))),
    "a broken handshake": breaking(caused(httpx2.ConnectError(KEY), ssl.SSLError(1, "certificate verify failed"))),
    "a bug": raising_bug,
}
STREAMED = {
    "answered": answering(ANSWER),
    "cut": streaming(*events_of(message(ANSWER))[:4], then=httpx2.ReadError(ANSWER)),
    "an event that is no JSON": streaming(
        events_of(message())[0], f"event: message_delta\ndata: {ANSWER}\n\n".encode()
    ),
    "an event that cannot be put together": streaming(
        events_of(message())[0],
        event("content_block_start", index=0, content_block={"type": "tool_use", "id": "t", "name": "n", "input": {}}),
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": f"}}{ANSWER}"}),
    ),
    "a block of another kind than documented": streaming(
        events_of(message())[0],
        event("content_block_start", index=0, content_block={"type": "text", "text": [ANSWER]}),
    ),
    "no stream": sending(200, ANSWER.encode()),
    "an error event that is no API error": streaming(f"event: error\ndata: {ANSWER}\n\n".encode()),
}
STRANGERS = {
    "a pickle": PROMPT.encode() + b"\x80",
    "no prompt": orjson.dumps({"f": "run_prompt", "a": [[PROMPT]], "k": {}, "et": 1}),
    "another function": orjson.dumps({"f": "f", "a": [PROMPT], "k": {}, "et": 1}),
    "a bad request": orjson.dumps({"f": "run_prompt", "a": [{"request": {"model": "m", "messages": PROMPT}}], "et": 1}),
    "a bad expectation": orjson.dumps(
        {"f": "run_prompt", "a": [{"prompt": PROMPT, "expect": {"similar_to": [ANSWER]}}], "et": 1}
    ),
}


@pytest.fixture
async def spoken(tmp_path, monkeypatch, caplog):
    """A worker that logs all it can, and everything that it said."""
    console = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stderr", console)
    caplog.set_level(logging.WARNING)  # as its own set-up has it: libraries are heard from there up
    async with workshop(tmp_path, ANTHROPIC_API_KEY=KEY, log_level="debug", max_attempts=2) as shop:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            configure_logs(shop.settings)
            try:
                yield shop, lambda: console.buffer.getvalue().decode() + caplog.text + "".join(map(str, warned))
            finally:
                structlog.reset_defaults()


def quiet(text: str) -> bool:
    return not any(mark in text for mark in MARKS)


@pytest.mark.parametrize(
    ("how", "what"), [*(("whole", what) for what in WHOLE), *(("streamed", what) for what in STREAMED)]
)
async def test_whatever_the_api_does_nothing_is_told(spoken, how, what):
    shop, said = spoken
    shop.api.script = [(WHOLE if how == "whole" else STREAMED)[what]]
    request = {**(REQUEST if how == "whole" else LONG), "messages": [{"role": "user", "content": PROMPT}]}
    await shop.submit(make_job(request=request, expect={"similar_to": ANSWER}))
    for _ in range(2):
        await shop.work()
        shop.clock.now += 120_000

    told = said()
    assert '"event"' in told, "nothing was logged: the test would prove nothing"
    assert quiet(told)
    failures = [attempt.failure for attempt in (await shop.store.attempts(["job-1"])).get("job-1", ())]
    assert quiet(repr(failures))
    if (result := await shop.store.result("job-1")) is not None:
        assert quiet(repr(result.error))
    if (letter := await shop.store.dead_letter("job-1")) is not None:
        assert quiet(letter.message)


@pytest.mark.parametrize("what", STRANGERS)
async def test_whatever_strangers_put_into_redis_nothing_is_told(spoken, what):
    shop, said = spoken
    await shop.redis.set(keys.PAYLOAD + "job-1", STRANGERS[what])
    await shop.redis.zadd(keys.QUEUE, {"job-1": 1_000})
    await shop.run_to_end()
    assert quiet(said())
    assert quiet((await shop.store.dead_letter("job-1")).message)
    assert quiet(repr((await shop.left_in_redis()).error))


async def test_what_the_api_says_in_its_own_words_is_kept(shop):
    shop.api.script = [failing(400, "invalid_request_error", "messages.0.content: too long")]
    await shop.submit(make_job())
    await shop.work()
    assert "messages.0.content: too long" in (await shop.store.dead_letter("job-1")).message


async def test_a_store_that_is_away_is_named_without_what_it_should_have_held(spoken):
    shop, said = spoken
    shop.api.script = [answering(ANSWER)]
    shop.steps.fail("record result", StoreUnavailable("the result store at sqlite:///x cannot be used: disk full"))
    await shop.submit(make_job())
    await shop.work()
    told = said()
    assert "disk full" in told
    assert quiet(told)


def test_a_crash_is_told_by_its_places_alone():
    def innermost():
        raise ValueError(PROMPT)

    try:
        innermost()
    except ValueError as error:
        told = where(error)
    assert quiet(told)
    inner, outer = told.split(" < ")
    assert inner.startswith("test_secrets.py:")
    assert inner.endswith(" innermost")
    assert outer.endswith(" test_a_crash_is_told_by_its_places_alone")


async def test_the_key_shows_in_no_representation_of_the_settings(shop):
    assert "test-key" not in repr(shop.settings) + str(shop.settings) + repr(shop.provider) + repr(shop.pipeline)
