"""What the API does, through the real SDK, to the outcome that it is given; every row of what is known of it."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from typing import Any

import httpx2
import orjson
import pytest

from tests.support.providers import (
    Held,
    ScriptedApi,
    answering,
    breaking,
    event,
    events_of,
    failing,
    message,
    sending,
    streaming,
)
from tests.support.workers import LONG, REQUEST, make_settings
from worker.outcomes import _BY_ERROR_TYPE, classify
from worker.provider import Exchange
from worker.provider.provider import _Heard, _Seen

REQUEST_OF = {"whole": REQUEST, "streamed": LONG}
JSON = {"content-type": "application/json"}
HTML = {"content-type": "text/html"}
PAGE = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"

ERRORS = {
    # status, error.type, error.details.error_code, error.message
    "400": (failing(400, "invalid_request_error"), "invalid_request"),
    "400, own spend limit": (
        failing(400, "invalid_request_error", "You have reached your specified API usage limits."),
        "spend_limit_reached",
    ),
    "401": (failing(401, "authentication_error"), "bad_key"),
    "402": (failing(402, "billing_error"), "billing_problem"),
    "402, linked organization": (
        failing(402, "billing_error", code="linked_organization_spend_limit_reached"),
        "billing_problem",
    ),
    "403": (failing(403, "permission_error"), "not_permitted"),
    "404": (failing(404, "not_found_error"), "not_found"),
    "408": (failing(408), "request_timeout"),
    "408 with the type of a gateway's": (failing(408, "timeout_error"), "request_timeout"),
    "409": (failing(409, "conflict_error"), "conflict"),
    "413": (failing(413, "request_too_large"), "too_large"),
    "413 as HTML": (sending(413, PAGE, HTML), "too_large"),
    "400 of a proxy": (sending(400, PAGE, HTML), "foreign_error"),
    "404 of a proxy": (sending(404, PAGE, HTML), "foreign_error"),
    "404 as JSON that is no API error": (sending(404, b'{"error":"no such route"}', JSON), "foreign_error"),
    "405": (failing(405), "foreign_error"),
    "407 of a proxy": (sending(407, PAGE, HTML), "connection_failed"),
    "418": (failing(418), "foreign_error"),
    "418 of the API": (failing(418, "teapot_error"), "invalid_request"),
    "422": (failing(422, "invalid_request_error"), "invalid_request"),
    "429": (failing(429, "rate_limit_error", headers={"retry-after": "7"}), "rate_limited"),
    "429 without a body": (failing(429), "rate_limited"),
    "429 as text": (sending(429, b"slow down", {"content-type": "text/plain"}), "rate_limited"),
    "429, ramp": (failing(429, "rate_limit_error", code="ramp_limit_exceeded"), "ramp_limited"),
    "429, tier's spend limit": (
        failing(429, "rate_limit_error", code="enforced_spend_limit_reached"),
        "spend_limit_reached",
    ),
    "429, contract's spend limit": (
        failing(429, "rate_limit_error", code="contract_spend_limit_reached"),
        "spend_limit_reached",
    ),
    "500": (failing(500, "api_error"), "server_error"),
    "500 as HTML": (sending(500, PAGE, HTML), "server_error"),
    "502": (sending(502, PAGE, HTML), "server_error"),
    "503": (sending(503, b"upstream connect error"), "unavailable"),
    "503 without a body": (failing(503), "unavailable"),
    "504": (failing(504, "timeout_error"), "gateway_timeout"),
    "504 without a body": (failing(504), "gateway_timeout"),
    "520": (sending(520, PAGE, HTML), "server_error"),
    "529": (failing(529, "overloaded_error"), "overloaded"),
    "529 without a body": (failing(529), "overloaded"),
    "500 with a type that tells more": (failing(500, "overloaded_error"), "overloaded"),
    "a type of the future": (failing(500, "quantum_error"), "server_error"),
    "a type that is no text": (sending(500, b'{"error":{"type":["x"],"message":{}}}', JSON), "server_error"),
    "a redirect": (sending(302, b"", {"location": "/v1/messages"}), "redirected"),
    "a redirect that would keep the body": (sending(307, b"", {"location": "/v1/messages"}), "redirected"),
    "304": (sending(304, b""), "redirected"),
    "101": (sending(101, b""), "unrecognised"),
    "a status of the future": (sending(700, b""), "unrecognised"),
    **{
        f"529 in a charset that it is not in: {charset}": (
            sending(
                529, b'{"error":{"type":"overloaded_error"}}', {"content-type": f"application/json; charset={charset}"}
            ),
            "overloaded",
        )
        for charset in ("utf-16", "utf-32", "idna", "rot13", "hex", "undefined", "nonsense")
    },
    "500 as bytes that are no text": (
        sending(500, b"\xff\xfe\x81", {"content-type": "text/html; charset=utf-16"}),
        "server_error",
    ),
    "503 as what is not gzip": (sending(503, b"oops", {"content-encoding": "gzip"}), "unavailable"),
    "429 as what is not gzip": (sending(429, b"oops", {"content-encoding": "gzip"}), "rate_limited"),
    "500 of three megabytes": (sending(500, b"x" * 3_000_000), "server_error"),
    "500 nested too deep": (sending(500, b"[" * 100_000, JSON), "server_error"),
    "429 whose error is a text": (sending(429, b'{"type":"error","error":"slow down"}', JSON), "rate_limited"),
    "429 whose details are a list": (
        sending(429, b'{"error":{"type":"rate_limit_error","message":"m","details":[1]}}', JSON),
        "rate_limited",
    ),
    "refused": (breaking(httpx2.ConnectError("[Errno 111] Connection refused")), "connection_failed"),
    "connect timeout": (breaking(httpx2.ConnectTimeout("too late")), "connection_failed"),
    "pool timeout": (breaking(httpx2.PoolTimeout("too late")), "connection_failed"),
    "read timeout": (breaking(httpx2.ReadTimeout("too late")), "timed_out"),
    "cut before the answer": (breaking(httpx2.RemoteProtocolError("disconnected")), "cut_off"),
    "cut while sending": (breaking(httpx2.WriteError("broken pipe")), "cut_off"),
}
"""Streaming or not makes no difference to these."""

WHOLE = {
    "answered": (answering(), "succeeded"),
    "empty, labelled JSON": (sending(200, b"", JSON), "empty_body"),
    "empty, not labelled": (sending(200, b""), "empty_body"),
    "204": (sending(204, b""), "empty_body"),
    "white space": (sending(200, b" \n", JSON), "not_json"),
    "HTML": (sending(200, PAGE, HTML), "not_json"),
    "HTML, labelled JSON": (sending(200, PAGE, JSON), "not_json"),
    "cut JSON": (sending(200, b'{"id":"msg_1","type":"mess', JSON), "not_json"),
    "not UTF-8": (sending(200, b'{"id":"msg_\xff\xfe","type":"message"}', JSON), "not_json"),
    "nested too deep": (sending(200, b"[" * 100_000 + b"]" * 100_000, JSON), "not_json"),
    "another object": (sending(200, b'{"foo":1}', JSON), "not_a_message"),
    "an error envelope": (
        sending(200, b'{"type":"error","error":{"type":"api_error","message":"Oops."}}', JSON),
        "not_a_message",
    ),
    "null": (sending(200, b"null", JSON), "not_a_message"),
    "a list": (sending(200, b"[1]", JSON), "not_a_message"),
    "a number": (sending(200, b"0", JSON), "not_a_message"),
    "content that is no list": (answering(content="Hello."), "not_a_message"),
    "no content": (answering(content=None), "not_a_message"),
    "no stop reason": (answering(stop_reason=None), "incomplete_message"),
    "a blank stop reason": (answering(stop_reason=""), "incomplete_message"),
    "usage that is partly nonsense": (
        answering(usage={"input_tokens": "many", "output_tokens": 7, "cache_creation": [1]}),
        "succeeded",
    ),
    "201": (sending(201, orjson.dumps(message()), JSON), "succeeded"),
    "a stream, though none was asked for": (streaming(*events_of(message())), "not_json"),
    "no usage": (answering(usage=None), "incomplete_message"),
    "usage without output tokens": (answering(usage={"input_tokens": 10}), "incomplete_message"),
}

STREAMS = {
    "answered": (answering(), "succeeded"),
    "empty": (sending(200, b""), "empty_body"),
    "empty, labelled a stream": (streaming(), "empty_body"),
    "204": (sending(204, b""), "empty_body"),
    "HTML": (sending(200, PAGE, HTML), "not_json"),
    "a whole Message": (sending(200, orjson.dumps(message()), JSON), "succeeded"),
    "another object": (sending(200, b'{"foo":1}', JSON), "not_a_message"),
    "a stream that is labelled JSON": (sending(200, b"".join(events_of(message())), JSON), "succeeded"),
    "pings alone": (streaming(event("ping"), event("ping")), "cut_off"),
    "unknown events among the others": (
        streaming(*(part for whole in events_of(message()) for part in (event("novelty", what=[1]), whole))),
        "succeeded",
    ),
    "an unknown event that is of no type": (
        streaming(b'event: novelty\ndata: {"what":1}\n\n', *events_of(message()), b"event: novelty\n\n"),
        "succeeded",
    ),
    "comments, ids and other line ends": (
        streaming(b": hello\n\nid: 7\nretry: 9\n", *(part.replace(b"\n", b"\r\n") for part in events_of(message()))),
        "succeeded",
    ),
    "two beginnings": (streaming(events_of(message())[0], *events_of(message())), "not_a_message"),
    "a beginning in the middle": (streaming(*events_of(message())[:4], *events_of(message())), "not_a_message"),
    "the same Message twice": (streaming(*events_of(message()), *events_of(message())), "succeeded"),
    "whole, then an error": (
        streaming(*events_of(message()), event("error", error={"type": "overloaded_error", "message": "Oops"})),
        "succeeded",
    ),
    "whole, then what is no event": (
        streaming(*events_of(message()), b"event: message_delta\ndata: {\n\n"),
        "succeeded",
    ),
    "whole, then cut": (streaming(*events_of(message()), then=httpx2.ReadError("cut")), "succeeded"),
    "the same block twice": (
        streaming(*events_of(message())[:3], *events_of(message())[2:]),
        "not_a_message",
    ),
    "text for the block before the first": (
        streaming(
            *events_of(message())[:3],
            event("content_block_delta", index=-1, delta={"type": "text_delta", "text": "x"}),
            *events_of(message())[-2:],
        ),
        "not_a_message",
    ),
    "an end without a beginning": (streaming(event("message_stop")), "not_a_message"),
    "an event that is no JSON": (streaming(events_of(message())[0], b"event: message_delta\ndata: {\n\n"), "not_json"),
    "an event that is not UTF-8": (
        streaming(events_of(message())[0], b'event: message_delta\ndata: "\xff"\n\n'),
        "not_json",
    ),
    "a start without usage": (
        streaming(
            event("message_start", message={**message(None), "usage": None}),
            event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1}),
            event("message_stop"),
        ),
        "not_a_message",
    ),
    "a start without a Message": (streaming(event("message_start", message=None)), "not_a_message"),
    "text for a block that was never begun": (
        streaming(
            events_of(message())[0],
            event("content_block_delta", index=3, delta={"type": "text_delta", "text": "x"}),
        ),
        "not_a_message",
    ),
    "no stop reason": (streaming(*events_of(message(stop_reason=None))), "incomplete_message"),
    "no message_stop": (streaming(*events_of(message())[:-1]), "cut_off"),
    "ends within an event": (streaming(*events_of(message())[:4], b"event: content_block_de"), "cut_off"),
    "cut": (streaming(*events_of(message())[:4], then=httpx2.RemoteProtocolError("cut")), "cut_off"),
    "cut, as aiohttp has it": (streaming(*events_of(message())[:4], then=httpx2.ReadError("cut")), "cut_off"),
    **{
        f"error event {where}: {kind}": (
            streaming(*events_of(message())[:before], event("error", error={"type": kind, "message": "Oops"})),
            outcome,
        )
        for kind, outcome in _BY_ERROR_TYPE.items()
        for where, before in {"at first": 0, "in the middle": 4}.items()
    },
    "error event: ramp": (
        streaming(
            events_of(message())[0],
            event(
                "error",
                error={"type": "rate_limit_error", "message": "m", "details": {"error_code": "ramp_limit_exceeded"}},
            ),
        ),
        "ramp_limited",
    ),
    "error event that is no JSON": (streaming(b"event: error\ndata: oops\n\n"), "unrecognised"),
    "error event of a type of the future": (
        streaming(event("error", error={"type": "quantum_error", "message": "Oops"})),
        "unrecognised",
    ),
}

ANSWERS = {
    # stop reason and content say whether it is an answer; the same for both ways of sending
    "end_turn": (answering("Hello."), "succeeded"),
    "end_turn without content": (answering(None), "empty_answer"),
    "end_turn with blank text": (answering(" \n"), "empty_answer"),
    "max_tokens": (answering("Hel", stop_reason="max_tokens"), "cut_at_max_tokens"),
    "max_tokens without content": (answering(None, stop_reason="max_tokens"), "empty_answer"),
    "stop_sequence without content": (answering(None, stop_reason="stop_sequence"), "succeeded"),
    "pause_turn without content": (answering(None, stop_reason="pause_turn"), "turn_paused"),
    "tool_use without content": (answering(None, stop_reason="tool_use"), "succeeded"),
    "refusal": (answering(None, stop_reason="refusal"), "refused"),
    "refusal with a beginning": (answering("I", stop_reason="refusal"), "refused"),
    "model_context_window_exceeded": (answering("Hel", stop_reason="model_context_window_exceeded"), "context_full"),
    "a stop reason of the future": (answering("Hello.", stop_reason="bored"), "succeeded"),
}

BLOCKS = {
    "a tool call alone": ([{"type": "tool_use", "id": "t", "name": "n", "input": {}}], "tool_use", "succeeded"),
    "thinking alone": ([{"type": "thinking", "thinking": "Hm.", "signature": "s"}], "end_turn", "empty_answer"),
    "thinking, then text": (
        [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": "Yes."}],
        "end_turn",
        "succeeded",
    ),
    "a block of the future": ([{"type": "hologram", "data": "x"}], "end_turn", "succeeded"),
    "blocks that are none": ([None, 3, "x"], "end_turn", "empty_answer"),
}

ROWS = [
    *((how, name, *row) for how in ("whole", "streamed") for name, row in {**ERRORS, **ANSWERS}.items()),
    *(("whole", name, *row) for name, row in WHOLE.items()),
    *(("streamed", name, *row) for name, row in STREAMS.items()),
    *(
        ("whole", name, answering(None, content=blocks, stop_reason=reason), outcome)
        for name, (blocks, reason, outcome) in BLOCKS.items()
    ),
]


async def send(api: ScriptedApi, how: str = "whole", **settings: Any) -> Exchange:
    async with api.provider(make_settings(**settings)) as provider:
        return await provider.send(REQUEST_OF[how], job_id="job-1")


@pytest.mark.parametrize(("how", "does", "step", "outcome"), ROWS, ids=[f"{how}: {does}" for how, does, *_ in ROWS])
async def test_what_the_api_does_has_this_outcome(how, does, step, outcome):
    api = ScriptedApi(step)
    exchange = await send(api, how)
    assert classify(exchange.sighting).name == outcome
    assert len(api.requests) == 1, "admission let one request through"


async def test_a_failed_handshake_is_no_failed_connection():
    error = httpx2.ConnectError("handshake")
    error.__cause__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    exchange = await send(ScriptedApi(breaking(error)))
    assert classify(exchange.sighting).name == "tls_failed"


async def test_a_secured_connection_that_breaks_was_cut():
    error = httpx2.ReadError("broken")
    error.__cause__ = ssl.SSLError(1, "bad record mac")
    exchange = await send(ScriptedApi(breaking(error)))
    assert classify(exchange.sighting).name == "cut_off"


async def test_a_fault_of_the_sdk_is_an_internal_error_that_names_the_place():
    api = ScriptedApi()
    provider = api.provider(make_settings())

    async def post(*_args, **_how):
        raise KeyError("a prompt, perhaps")

    provider._client.post = post
    exchange = await provider.send(REQUEST, job_id="job-1")
    assert classify(exchange.sighting).name == "internal_error"
    assert exchange.sighting.message.startswith("KeyError at test_provider_outcomes.py:")


async def test_an_address_that_is_none_is_a_connection_that_failed():
    api = ScriptedApi(breaking(httpx2.UnsupportedProtocol("no scheme")))
    exchange = await send(api, anthropic_base_url="localhost:8000")
    assert classify(exchange.sighting).name == "connection_failed"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, timedelta(seconds=7)),
        ({"retry-after": "0.5"}, timedelta(milliseconds=500)),
        ({"retry-after-ms": "1500", "retry-after": "9"}, timedelta(milliseconds=1500)),
        ({"retry-after": "3601"}, timedelta(hours=1)),
        ({"retry-after": "4233600"}, timedelta(hours=1)),
        ({"retry-after": "1e300"}, timedelta(hours=1)),
        ({"retry-after": "inf"}, timedelta(hours=1)),
        ({"retry-after-ms": "0.2"}, timedelta(milliseconds=1)),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:00 GMT"}, None),
        ({}, None),
    ],
)
async def test_retry_after_is_obeyed_for_an_hour_at_most(headers, wait):
    exchange = await send(ScriptedApi(failing(429, "rate_limit_error", headers=headers)))
    assert exchange.sighting.retry_after == wait


async def test_what_the_api_says_is_kept_up_to_500_characters():
    exchange = await send(ScriptedApi(failing(400, "invalid_request_error", "x" * 501)))
    assert exchange.sighting.message == "x" * 500


async def test_of_an_error_that_is_no_api_error_only_the_status_is_kept():
    exchange = await send(ScriptedApi(sending(502, b"the prompt was: attack at dawn")))
    assert exchange.sighting.message == "status 502 with a body that is not an API error"


@pytest.mark.parametrize(
    "step",
    [failing(529, "overloaded_error"), streaming(*events_of(message())[:3], then=httpx2.ReadError("cut"))],
    ids=["refused", "cut"],
)
async def test_a_failed_stream_keeps_its_request_id(step):
    exchange = await send(ScriptedApi(step), "streamed")
    assert exchange.request_id in {"req_bad", "req_stream"}


async def test_a_stream_tells_when_its_first_byte_came():
    exchange = await send(ScriptedApi(answering()), "streamed")
    assert timedelta(0) < exchange.first_byte <= exchange.ended_at - exchange.started_at


async def test_a_stream_is_put_together_to_the_message_that_a_whole_answer_is():
    whole = await send(ScriptedApi(answering("One, two, three.")), "whole")
    streamed = await send(ScriptedApi(answering("One, two, three.")), "streamed")
    assert {**streamed.message, "stop_details": None} == {**whole.message, "stop_details": None}


async def test_halves_of_a_surrogate_pair_that_a_stream_parted_are_joined():
    events = events_of(message("ab"))
    grin = [delta.replace(b'"a"', rb'"\ud83d"').replace(b'"b"', rb'"\ude00, \ud800"') for delta in events]
    exchange = await send(ScriptedApi(streaming(*grin)), "streamed")
    assert exchange.message["content"][0]["text"] == "\N{GRINNING FACE}, \N{REPLACEMENT CHARACTER}"


async def test_an_answer_is_not_thrown_away_over_what_strict_json_readers_refuse():
    body = rb'{"type":"message","content":[{"type":"text","text":"\ud83d\ude00 \ud800"}],"stop_reason":"end_turn",'
    body += b'"usage":{"input_tokens":1,"output_tokens":123456789012345678901234567890},"score":NaN}'
    exchange = await send(ScriptedApi(sending(200, body, JSON)))
    assert exchange.message["content"][0]["text"] == "\N{GRINNING FACE} \N{REPLACEMENT CHARACTER}"
    assert exchange.message["score"] is None


def stream_that_hangs_after(*events):
    async def body():
        for part in events:
            yield part
        await asyncio.Event().wait()

    async def step(request):
        return httpx2.Response(200, content=body(), headers={"content-type": "text/event-stream"})

    return step


MOMENT, LONG_TIME = timedelta(milliseconds=50), timedelta(seconds=60)


async def test_a_stream_that_does_not_begin_has_a_limit_of_its_own():
    limits = {"first_byte_timeout": MOMENT, "read_timeout": LONG_TIME}
    exchange = await send(ScriptedApi(stream_that_hangs_after()), "streamed", **limits)
    assert classify(exchange.sighting).name == "no_first_byte"
    assert exchange.first_byte is None


async def test_a_stream_that_falls_silent_has_another():
    limits = {"first_byte_timeout": LONG_TIME, "read_timeout": MOMENT}
    exchange = await send(ScriptedApi(stream_that_hangs_after(*events_of(message())[:4])), "streamed", **limits)
    assert classify(exchange.sighting).name == "stalled"
    assert exchange.first_byte is not None


async def test_a_stream_that_does_not_end_after_its_message_was_paid_for_and_is_kept(monkeypatch):
    monkeypatch.setattr("worker.provider.provider.LAST_WORDS", MOMENT)
    exchange = await send(ScriptedApi(stream_that_hangs_after(*events_of(message()))), "streamed")
    assert classify(exchange.sighting).name == "succeeded"
    assert exchange.message["content"][0]["text"] == "Hello."


async def test_what_comes_after_a_message_is_none_of_it():
    twice = streaming(*events_of(message()), *events_of(message()))
    exchange = await send(ScriptedApi(twice), "streamed")
    assert exchange.message["content"][0]["text"] == "Hello."


async def test_a_whole_answer_that_takes_longer_than_silence_in_a_stream_may_is_awaited():
    held = Held()
    api = ScriptedApi(held)
    limits = {"first_byte_timeout": timedelta(microseconds=1), "read_timeout": timedelta(microseconds=1)}
    async with api.provider(make_settings(**limits)) as provider:
        sending = asyncio.create_task(provider.send(REQUEST, job_id="job-1"))
        await api.arrival()
        held.release()
        assert classify((await sending).sighting).name == "succeeded"


async def test_whatever_comes_prolongs_a_stream_pings_too():
    silence = ManualSilence()
    seen = _Seen(started=0.0, longest_silence=7)
    heard = _Heard(httpx2.ByteStream(event("ping")), lambda: seen.see_bytes(silence))
    before = asyncio.get_running_loop().time()
    assert [part async for part in heard] == [event("ping")]
    assert silence.until >= before + 7


class ManualSilence:
    def reschedule(self, when):
        self.until = when


async def test_the_call_ends_at_the_attempt_timeout_even_if_the_stream_never_falls_silent():
    async def endless():
        yield events_of(message())[0]
        while True:
            await asyncio.sleep(0)
            yield event("ping")

    async def step(request):
        return httpx2.Response(200, content=endless(), headers={"content-type": "text/event-stream"})

    exchange = await send(ScriptedApi(step), "streamed", attempt_timeout=timedelta(milliseconds=50))
    assert classify(exchange.sighting).name == "timed_out"
