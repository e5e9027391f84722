"""Carries out a plan on one connection: proper responses, and everything that can happen instead.

A handler that waits here for ever is ended when its client goes or the simulator closes: the server cancels
handlers whose connection is lost.
"""

import asyncio
import socket
import struct
from itertools import chain
from typing import NoReturn

import orjson
from aiohttp import web

from promptmill.testing.simulator.clock import Clock
from promptmill.testing.simulator.events import beginning_of, end_of, error_event, middle_of, unknown_event
from promptmill.testing.simulator.faults import OVERLOADED, Disruption
from promptmill.testing.simulator.provider import Delivery, Plan
from promptmill.testing.simulator.replies import ErrorReply, PlainReply

HUNG_UP = web.RequestKey("hung_up", bool)
"""Set on a request whose connection was closed by the simulator itself, on purpose."""

_JSON = "application/json"
_BARE = b"HTTP/1.1 %d OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_GARBAGE = bytes(range(0x80, 0xC0)) + b"\r\n\r\n"


async def carry_out(plan: Plan, request: web.Request, clock: Clock) -> web.StreamResponse:
    """Send what `plan` says, when it says so."""
    await clock.sleep_until(plan.due_ns)
    match plan.does:
        case bytes() as body:
            return _json(plan, 200, body)
        case ErrorReply() as reply:
            return _error(plan, reply)
        case PlainReply() as reply:
            return await _plain(reply, request)
        case Disruption() as disruption:
            return await _disrupt(request, disruption)
        case Delivery() as delivery if delivery.streams:
            return await _stream(plan, delivery, request, clock)
        case delivery:
            return await _deliver_whole(plan, delivery, request)


def _json(plan: Plan, status: int, body: bytes) -> web.Response:
    headers = {"Content-Type": _JSON, "request-id": plan.request_id, **dict(plan.headers)}
    return web.Response(status=status, body=body, headers=headers)


def _error(plan: Plan, reply: ErrorReply) -> web.Response:
    response = _json(plan, reply.status, reply.body(plan.request_id))
    if reply.retry_after is not None:
        response.headers["retry-after"] = str(reply.retry_after)
    return response


async def _plain(reply: PlainReply, request: web.Request) -> web.Response:
    if not reply.content_type:  # aiohttp would add one
        await _hang_up(request, last_words=_BARE % reply.status)
    headers = {"Content-Type": reply.content_type, **dict(reply.headers)}
    return web.Response(status=reply.status, body=reply.body, headers=headers)


async def _disrupt(request: web.Request, disruption: Disruption) -> NoReturn:
    """Do to the connection what was planned before a byte of an answer was sent."""
    match disruption:
        case Disruption.RESET:
            await _reset(request)
        case Disruption.GARBAGE:
            await _hang_up(request, last_words=_GARBAGE)
        case Disruption.CLOSE:
            await _hang_up(request)
        case _:
            await _until_client_is_gone()


async def _deliver_whole(plan: Plan, delivery: Delivery, request: web.Request) -> web.StreamResponse:
    body = orjson.dumps(delivery.answer.message())
    match delivery.disruption:
        case None | Disruption.SLOW_FIRST_BYTE | Disruption.STREAM_REPEATED | Disruption.STREAM_UNKNOWN:
            return _json(plan, 200, body)
        case Disruption.STREAM_NO_STOP:
            return _json(plan, 200, body[: len(body) // 2])
        case Disruption.STREAM_EMPTY:
            return _json(plan, 200, b"")
        case disruption:
            response = web.StreamResponse(headers={"request-id": plan.request_id, **dict(plan.headers)})
            response.content_type = _JSON
            response.content_length = len(body)
            await response.prepare(request)
            if disruption is not Disruption.HEADERS_ONLY:
                await response.write(body[: len(body) // 2])
            if disruption in {Disruption.SHORT_BODY, Disruption.STREAM_CUT}:
                await _hang_up(request)
            return await _until_client_is_gone()


async def _stream(plan: Plan, delivery: Delivery, request: web.Request, clock: Clock) -> web.StreamResponse:
    answer, disruption = delivery.answer, delivery.disruption
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-cache",
            "request-id": plan.request_id,
            **dict(plan.headers),
        }
    )
    await response.prepare(request)
    if disruption is Disruption.STREAM_EMPTY:
        return response
    if disruption is Disruption.HEADERS_ONLY:
        await _until_client_is_gone()
    pieces = list(middle_of(answer))
    if disruption in _HALF_WAY:
        pieces = pieces[: max(len(pieces) // 2, 1)]
    if disruption is Disruption.STREAM_REPEATED:
        pieces += [(answer.output_tokens, part) for part in beginning_of(answer)]
    if disruption is Disruption.STREAM_UNKNOWN:
        pieces = [piece for tokens, part in pieces for piece in ((tokens, unknown_event()), (tokens, part))]
    await _send_as_generated(response, delivery, pieces, clock)
    match disruption:
        case Disruption.STREAM_ERROR:
            await response.write(error_event(OVERLOADED, plan.request_id))
        case Disruption.STREAM_CUT | Disruption.SHORT_BODY:
            await _hang_up(request)
        case Disruption.STREAM_STALL:
            await _until_client_is_gone()
        case Disruption.STREAM_NO_STOP:
            pass
        case _:
            await response.write(b"".join(end_of(answer)))
    return response


_HALF_WAY = {
    Disruption.STREAM_ERROR,
    Disruption.STREAM_CUT,
    Disruption.SHORT_BODY,
    Disruption.STREAM_STALL,
}


async def _send_as_generated(
    response: web.StreamResponse, delivery: Delivery, pieces: list[tuple[int, bytes]], clock: Clock
) -> None:
    """Write each piece when its last token is due; what is due together goes out together."""
    waiting: list[bytes] = []
    opening = ((0, part) for part in beginning_of(delivery.answer))
    for tokens, part in chain(opening, pieces):
        due_ns = delivery.start_ns + tokens * delivery.per_token_ns
        if due_ns > clock.now_ns():
            if waiting:
                await response.write(b"".join(waiting))
                waiting.clear()
            await clock.sleep_until(due_ns)
        waiting.append(part)
    await response.write(b"".join(waiting))


async def _hang_up(request: web.Request, *, last_words: bytes = b"") -> NoReturn:
    """Close the connection, perhaps after bytes that the server would not send by itself."""
    transport = _transport(request)
    transport.write(last_words)
    transport.close()
    await _until_client_is_gone()


async def _reset(request: web.Request) -> NoReturn:
    transport = _transport(request)
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await _until_client_is_gone()


def _transport(request: web.Request) -> asyncio.Transport:
    """Return the connection of a request, to end it."""
    if request.transport is None:
        raise ConnectionResetError("the client was gone before its request was answered")
    request[HUNG_UP] = True
    return request.transport


async def _until_client_is_gone() -> NoReturn:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("expected to be cancelled once the connection is lost")
