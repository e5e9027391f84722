"""What connections do when they fail, over real sockets and the HTTP client that workers use."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from datetime import timedelta

import httpx2
import pytest

from tests.support.providers import ScriptedApi, answering, breaking, event, events_of, message
from tests.support.sockets import distrusted_tls, full_backlog, listening, reset
from tests.support.workers import LONG, REQUEST, make_settings
from worker.outcomes import classify
from worker.provider import Provider

LONG_TIME = timedelta(seconds=60)
PATIENT = {
    "attempt_timeout": LONG_TIME,
    "first_byte_timeout": LONG_TIME,
    "read_timeout": LONG_TIME,
    "connect_timeout": LONG_TIME,
}
LIMIT_OF = {"timed_out": "attempt_timeout", "no_first_byte": "first_byte_timeout", "stalled": "read_timeout"}


def patience(outcome):
    """Limits for what has this outcome: however slow the machine, the end is the same."""
    return {**PATIENT, LIMIT_OF[outcome]: timedelta(milliseconds=50)} if outcome in LIMIT_OF else PATIENT


WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = events_of(message("Hello."))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


ANSWER = answer(
    b'{"type":"message","content":[{"type":"text","text":"Hi."}],"stop_reason":"end_turn","usage":{"output_tokens":1}}'
)


def after_request(*parts: bytes, then=lambda writer: None):
    async def handle(server, reader, writer):
        await server.read_request(reader)
        for part in parts:
            writer.write(part)
        await writer.drain()
        if then is not None:
            then(writer)
        else:
            await asyncio.Event().wait()

    return handle


async def resets_at_once(_server, _reader, writer):
    reset(writer)


HANG = None

CASES = {
    # what the server does: handler, outcome without streaming, outcome with streaming
    "closes without a byte": (after_request(), "cut_off", "cut_off"),
    "resets without a byte": (after_request(then=reset), "cut_off", "cut_off"),
    "resets before the request": (resets_at_once, "cut_off", "cut_off"),
    "answers with what is not HTTP": (after_request(b"220 mail.example ESMTP\r\n"), "cut_off", "cut_off"),
    "answers with a header without end": (
        after_request(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 100_000 + b"\r\n\r\n"),
        "cut_off",
        "cut_off",
    ),
    "closes before the body": (after_request(WHOLE), "cut_off", "cut_off"),
    "closes within the body": (after_request(WHOLE, b'{"type":'), "cut_off", "cut_off"),
    "resets within the body": (after_request(WHOLE, b'{"type":', then=reset), "cut_off", "cut_off"),
    "sends chunks that are none": (after_request(CHUNKED, b"ZZ\r\n"), "cut_off", "cut_off"),
    "sends what is not gzip": (
        after_request(answer(b"hello").replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n", 1)),
        "cut_off",
        "cut_off",
    ),
    "hangs": (after_request(then=HANG), "timed_out", "no_first_byte"),
    "hangs within the head": (after_request(b"HTTP/1.1 200 OK\r\n", then=HANG), "timed_out", "no_first_byte"),
    "hangs before the body": (after_request(CHUNKED, then=HANG), "timed_out", "no_first_byte"),
    "hangs within the body": (after_request(WHOLE, b"{", then=HANG), "timed_out", "stalled"),
    "closes within the body of an error": (
        after_request(WHOLE.replace(b"200 OK", b"401 Unauthorized"), b"{"),
        "bad_key",
        "bad_key",
    ),
    "answers after other news": (
        after_request(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", ANSWER),
        "succeeded",
        "succeeded",
    ),
    "switches protocols": (
        after_request(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
        "unrecognised",
        "unrecognised",
    ),
    "answers as HTTP/1.0 without a length": (
        after_request(b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER.partition(b"\r\n\r\n")[2]),
        "succeeded",
        "succeeded",
    ),
    "names two lengths": (
        after_request(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}"),
        "cut_off",
        "cut_off",
    ),
    "names headers that are no text": (
        after_request(ANSWER.replace(b"\r\n\r\n", b"\r\nrequest-id: \xff\xfe\r\n\r\n", 1)),
        "succeeded",
        "succeeded",
    ),
    "cuts a stream": (after_request(CHUNKED, *map(chunk, EVENTS[:4])), None, "cut_off"),
    "resets a stream": (after_request(CHUNKED, *map(chunk, EVENTS[:4]), then=reset), None, "cut_off"),
    "stalls within a stream": (after_request(CHUNKED, *map(chunk, EVENTS[:4]), then=HANG), None, "stalled"),
    "ends a stream without message_stop": (
        after_request(CHUNKED, *map(chunk, EVENTS[:-1]), b"0\r\n\r\n"),
        None,
        "cut_off",
    ),
    "ends a stream without an event": (after_request(CHUNKED, b"0\r\n\r\n"), None, "empty_body"),
    "sends an error event": (
        after_request(
            CHUNKED,
            *map(chunk, EVENTS[:3]),
            chunk(event("error", error={"type": "overloaded_error", "message": "Overloaded"})),
            b"0\r\n\r\n",
        ),
        None,
        "overloaded",
    ),
    "streams whole": (after_request(CHUNKED, *map(chunk, EVENTS), b"0\r\n\r\n"), None, "succeeded"),
    "answers a stream with a page": (after_request(answer(b"<html>hello</html>")), None, "not_json"),
}


@pytest.mark.parametrize(
    ("what", "streamed"),
    [(what, streamed) for what, case in CASES.items() for streamed in (False, True) if case[1 + streamed]],
)
async def test_what_the_server_does_has_this_outcome(what, streamed):
    handler, *expected = CASES[what]
    async with listening(handler) as server:
        limits = patience(expected[streamed])
        exchange = await send(f"http://127.0.0.1:{server.port}", LONG if streamed else REQUEST, **limits)
        assert classify(exchange.sighting).name == expected[streamed]
        assert server.requests <= 1
        assert server.connections <= 1, "a failed request is never sent again by anybody but the queue"


@pytest.mark.parametrize("request_body", [REQUEST, LONG], ids=["whole", "streamed"])
async def test_an_error_whose_body_never_ends_is_the_error_that_its_status_tells(request_body):
    refuses = after_request(WHOLE.replace(b"200 OK", b"401 Unauthorized"), b"{", then=HANG)
    async with listening(refuses) as server:
        moment = timedelta(milliseconds=50)
        limits = {**PATIENT, "attempt_timeout": moment, "first_byte_timeout": moment}
        exchange = await send(f"http://127.0.0.1:{server.port}", request_body, **limits)
    assert classify(exchange.sighting).name == "bad_key"
    assert exchange.first_byte is None, "an error has no place among the times of answers"


async def send(base_url: str, request=REQUEST, **settings):
    async with Provider(make_settings(anthropic_base_url=base_url, **settings)) as provider:
        return await provider.send(request, job_id="job-1")


async def test_a_port_where_nobody_listens_is_a_connection_that_failed():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    exchange = await send(f"http://127.0.0.1:{port}", **PATIENT)
    assert classify(exchange.sighting).name == "connection_failed"
    assert "refused" in exchange.sighting.message or "Connect call failed" in exchange.sighting.message


async def test_an_address_that_is_none_is_a_connection_that_failed():
    exchange = await send("localhost:8000", **PATIENT)
    assert classify(exchange.sighting).name == "connection_failed"


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels refuse what does not fit into the backlog")
@pytest.mark.parametrize("request_body", [REQUEST, LONG], ids=["whole", "streamed"])
async def test_a_connection_that_takes_too_long_is_a_connection_that_failed(request_body):
    with full_backlog() as port:
        impatient = {**PATIENT, "connect_timeout": timedelta(milliseconds=50)}
        exchange = await send(f"http://127.0.0.1:{port}", request_body, **impatient)
    assert classify(exchange.sighting).name == "connection_failed"


async def test_a_plain_server_answering_a_tls_hello_is_a_failed_handshake():
    async def plain(_server, reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()

    async with listening(plain) as server:
        exchange = await send(f"https://127.0.0.1:{server.port}", **PATIENT)
        assert server.connections == 2, "a fresh one is tried once"
    assert classify(exchange.sighting).name == "tls_failed"


async def test_a_certificate_that_nobody_vouches_for_is_a_failed_handshake(tmp_path):
    async with listening(after_request(ANSWER), tls=distrusted_tls(tmp_path)) as server:
        exchange = await send(f"https://localhost:{server.port}", **PATIENT)
        assert server.requests == 0, "no key and no prompt was shown to it"
    assert classify(exchange.sighting).name == "tls_failed"
    assert "certificate verify failed" in exchange.sighting.message


async def test_a_handshake_that_fails_is_tried_once_more_at_once():
    provider = ScriptedApi(breaking(broken_handshake()), answering()).provider(make_settings())
    exchange = await provider.send(REQUEST, job_id="job-1")
    assert classify(exchange.sighting).name == "succeeded"


async def test_a_handshake_that_fails_twice_is_left_to_the_queue():
    api = ScriptedApi(breaking(broken_handshake()), breaking(broken_handshake()), answering())
    exchange = await api.provider(make_settings()).send(REQUEST, job_id="job-1")
    assert classify(exchange.sighting).name == "tls_failed"
    assert len(api.requests) == 2


def broken_handshake() -> httpx2.ConnectError:
    error = httpx2.ConnectError("handshake")
    error.__cause__ = ssl.SSLError("handshake failure")
    return error


async def test_a_kept_connection_that_the_server_closed_meanwhile_costs_an_attempt_not_a_second_request():
    """Nobody can know whether the server read the request before it closed."""

    async def answers_once_and_closes_on_the_next_request(server, reader, writer):
        await server.read_request(reader)
        writer.write(ANSWER)
        await writer.drain()
        await server.read_request(reader)

    async with listening(answers_once_and_closes_on_the_next_request) as server:
        settings = make_settings(anthropic_base_url=f"http://127.0.0.1:{server.port}", **PATIENT)
        async with Provider(settings) as provider:
            outcomes = [classify((await provider.send(REQUEST, job_id="j")).sighting).name for _ in range(2)]
        assert outcomes == ["succeeded", "cut_off"]
        assert (server.requests, server.connections) == (2, 1)


async def test_a_redirect_is_not_followed():
    """It would be a second request that nobody admitted, with the key, to wherever the answer says."""
    redirect = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
    async with listening(after_request(redirect)) as server:
        exchange = await send(f"http://127.0.0.1:{server.port}", **PATIENT)
        assert (server.requests, classify(exchange.sighting).name) == (1, "redirected")


async def test_a_stream_that_never_falls_silent_ends_at_the_attempt_timeout():
    async def pings(server, reader, writer):
        await server.read_request(reader)
        writer.write(CHUNKED + chunk(EVENTS[0]))
        while True:
            writer.write(chunk(event("ping")))
            await writer.drain()
            await asyncio.sleep(0)

    async with listening(pings) as server:
        impatient = {**PATIENT, "attempt_timeout": timedelta(milliseconds=50)}
        exchange = await send(f"http://127.0.0.1:{server.port}", LONG, **impatient)
    assert classify(exchange.sighting).name == "timed_out"


async def test_as_many_calls_as_the_worker_may_run_are_open_at_once():
    all_there = asyncio.Event()

    async def waits_for_all(server, reader, writer):
        await server.read_request(reader)
        if server.requests == 30:
            all_there.set()
        await all_there.wait()
        writer.write(ANSWER)
        await writer.drain()

    async with listening(waits_for_all) as server:
        settings = make_settings(anthropic_base_url=f"http://127.0.0.1:{server.port}", concurrency=30, **PATIENT)
        async with Provider(settings) as provider:
            exchanges = await asyncio.gather(*(provider.send(REQUEST, job_id=f"job-{n}") for n in range(30)))
    assert {classify(exchange.sighting).name for exchange in exchanges} == {"succeeded"}


async def test_a_call_that_is_stopped_closes_its_connection():
    closed = asyncio.Event()

    async def sees_the_end(server, reader, _writer):
        await server.read_request(reader)
        arrived.set()
        assert await reader.read() == b""
        closed.set()

    arrived = asyncio.Event()
    async with listening(sees_the_end) as server:
        settings = make_settings(anthropic_base_url=f"http://127.0.0.1:{server.port}", **PATIENT)
        async with Provider(settings) as provider:
            sending = asyncio.create_task(provider.send(REQUEST, job_id="job-1"))
            await arrived.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await closed.wait()


def test_the_certificate_of_these_tests_is_one(tmp_path):
    assert isinstance(distrusted_tls(tmp_path), ssl.SSLContext)
