"""A Messages API that does, request by request, what a test wrote down; the real SDK talks to it without a socket.

    api = ScriptedApi(failing(429, "rate_limit_error", headers={"retry-after": "7"}), answering("Hello."))
    provider = api.provider(settings)

The last step of a script is repeated. A step is called with the request and returns the response, or raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import orjson

from promptmill.settings import Settings
from worker.provider import Provider

Step = Callable[["Request"], Awaitable[httpx2.Response]]

USAGE: Final = {"input_tokens": 10, "output_tokens": 5}


@dataclass(frozen=True)
class Request:
    """One HTTP request that arrived."""

    headers: httpx2.Headers
    body: bytes
    method: str
    path: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def job(self) -> str:
        return self.headers["x-promptmill-job"]

    @property
    def streamed(self) -> bool:
        return bool(self.json.get("stream"))


class ScriptedApi:
    """Takes the steps of its script in the order in which requests arrive, and remembers the requests."""

    def __init__(self, *script: Step) -> None:
        self.script = list(script) or [answering()]
        self.requests: list[Request] = []
        self._arrivals = asyncio.Condition()

    @property
    def jobs(self) -> list[str]:
        """The job of each request."""
        return [request.job for request in self.requests]

    async def arrival(self, number: int = 1) -> Request:
        """Return the request of this number (from 1) once it has arrived."""
        async with self._arrivals:
            await self._arrivals.wait_for(lambda: len(self.requests) >= number)
        return self.requests[number - 1]

    def provider(self, settings: Settings, **how: Any) -> Provider:
        transport = httpx2.MockTransport(self._respond)
        return Provider(settings, http_client=httpx2.AsyncClient(transport=transport), **how)

    async def _respond(self, request: httpx2.Request) -> httpx2.Response:
        arrived = Request(request.headers, await request.aread(), request.method, request.url.path)
        async with self._arrivals:
            self.requests.append(arrived)
            self._arrivals.notify_all()
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await step(arrived)


def message(text: str | None = "Hello.", **fields: Any) -> dict[str, Any]:
    """A Message as the API sends it; None for `text`: without content."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [] if text is None else [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
        **fields,
    }


def answering(text: str | None = "Hello.", *, headers: Mapping[str, str] | None = None, **fields: Any) -> Step:
    """Answer with a Message, streamed where that was asked for."""
    whole = message(text, **fields)

    async def step(request: Request) -> httpx2.Response:
        about = {"request-id": "req_ok", **(headers or {})}
        if not request.streamed:
            return httpx2.Response(200, json=whole, headers=about)
        return httpx2.Response(
            200, content=_parts(events_of(whole)), headers={**about, "content-type": "text/event-stream"}
        )

    return step


def failing(
    status: int,
    kind: str | None = None,
    words: str = "Something is wrong.",
    *,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Step:
    """Answer with an error as the API words it; without `kind`, with an empty body."""
    error = {"type": kind, "message": words, **({"details": {"error_code": code}} if code else {})}
    body = b"" if kind is None else orjson.dumps({"type": "error", "error": error, "request_id": "req_bad"})
    return sending(status, body, {"content-type": "application/json", "request-id": "req_bad", **(headers or {})})


def sending(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Step:
    """Answer with these bytes, streaming or not."""

    async def step(request: Request) -> httpx2.Response:
        return httpx2.Response(status, content=_parts([body]), headers=dict(headers or {}))

    return step


def streaming(*events: bytes, then: BaseException | None = None) -> Step:
    """Answer with these events; then end, or break with an exception."""

    async def step(request: Request) -> httpx2.Response:
        headers = {"content-type": "text/event-stream", "request-id": "req_stream"}
        return httpx2.Response(200, content=_parts(events, then), headers=headers)

    return step


async def _parts(parts: Sequence[bytes], then: BaseException | None = None) -> AsyncIterator[bytes]:
    """A body that comes bit by bit, as from a socket: one given as bytes would count as read already."""
    for part in parts:
        yield part
    if then is not None:
        raise then


def breaking(error: Exception) -> Step:
    """Fail without an answer."""

    async def step(request: Request) -> httpx2.Response:
        raise error

    return step


class Held:
    """Answers only when the test says so."""

    def __init__(self, step: Step | None = None) -> None:
        self._step = step or answering()
        self._released = asyncio.Event()

    def release(self) -> None:
        self._released.set()

    async def __call__(self, request: Request) -> httpx2.Response:
        await self._released.wait()
        return await self._step(request)


def event(kind: str, **fields: Any) -> bytes:
    """One server-sent event."""
    return f"event: {kind}\ndata: ".encode() + orjson.dumps({"type": kind, **fields}) + b"\n\n"


def events_of(whole: Mapping[str, Any]) -> list[bytes]:
    """The events of a Message whose content is text."""
    usage = whole["usage"]
    start = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    events = [event("message_start", message=start), event("ping")]
    for index, block in enumerate(whole["content"]):
        text = block["text"]
        half = len(text) // 2
        events += [
            event("content_block_start", index=index, content_block={"type": "text", "text": ""}),
            *(
                event("content_block_delta", index=index, delta={"type": "text_delta", "text": part})
                for part in (text[:half], text[half:])
            ),
            event("content_block_stop", index=index),
        ]
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": whole.get("stop_sequence")}
    return [*events, event("message_delta", delta=delta, usage=usage), event("message_stop")]
