"""Sends one request and tells what came of it. Never sends one again: admission decides about every request (I4)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, cast

import httpx2
from anthropic import AsyncAnthropic, AsyncAPIResponse, DefaultAioHttpClient

from promptmill.settings import Settings
from worker.outcomes import Sighting, Wire
from worker.provider.sightings import (
    UNREADABLE,
    EventOrder,
    see_body,
    see_events,
    see_exception,
    see_silence,
    see_unreadable_events,
)

ENDPOINT: Final = "/v1/messages"
JOB_HEADER: Final = "x-promptmill-job"
"""Names the job to a simulator or proxy that wants to count duplicates; the API ignores it."""

STREAM_ALWAYS_ABOVE: Final = 21_333
"""max_tokens above which the API wants a stream, since the answer may take longer than ten minutes."""

LAST_WORDS: Final = timedelta(seconds=1)
"""How long a stream whose Message is whole may take to end: the next request then needs no new connection."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what was seen of its answer."""

    model: str
    sighting: Sighting
    started_at: datetime
    ended_at: datetime
    request_id: str | None = None
    first_byte: timedelta | None = None

    @property
    def message(self) -> dict[str, Any] | None:
        """The decoded body of a 200, whatever it is, where it is an object."""
        body = self.sighting.body
        return body if isinstance(body, dict) else None


class Provider:
    """The Messages API. Owned by one worker process; closes its connections when it is left."""

    def __init__(
        self,
        settings: Settings,
        *,
        http_client: httpx2.AsyncClient | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        key = settings.anthropic_api_key
        self._now = now
        self._stream_above = min(settings.stream_above_tokens, STREAM_ALWAYS_ABOVE)
        self._attempt_timeout = settings.attempt_timeout.total_seconds()
        self._first_byte_timeout = settings.first_byte_timeout.total_seconds()
        self._read_timeout = settings.read_timeout.total_seconds()
        http_client = http_client or DefaultAioHttpClient(
            follow_redirects=False,  # where one leads would be a second request, which nobody admitted (I4)
            limits=httpx2.Limits(
                max_connections=settings.concurrency + 10, max_keepalive_connections=settings.concurrency + 10
            ),
        )
        http_client.event_hooks = {"response": [_see_head]}
        self._client = AsyncAnthropic(
            api_key=None if key is None else key.get_secret_value(),
            base_url=settings.anthropic_base_url,
            max_retries=0,
            # Requests have spans of ours: see worker/telemetry/traces.py.
            open_telemetry={"traces": {"enabled": False}},
            http_client=http_client,
        )
        # Silence in a stream is watched below: the HTTP client would count the wait for its first byte as such, too.
        self._timeout = httpx2.Timeout(self._attempt_timeout, connect=settings.connect_timeout.total_seconds())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def send(
        self, request: Mapping[str, Any], *, job_id: str, hear: Callable[[Mapping[str, str]], None] | None = None
    ) -> Exchange:
        """Send `request`, a Messages API body, as it is; streamed where the answer may be long.

        Never raises but for cancellation: whatever goes wrong is in the exchange's sighting. `hear` is handed the
        answer's headers as soon as they come, those of an error too; a stream's come long before its end.
        """
        exchange = await self._exchange(request, job_id, hear)
        if exchange.sighting.wire is not Wire.TLS:
            return exchange
        # Nothing was sent that anybody would have to admit, and a handshake often succeeds on a fresh connection.
        return await self._exchange(request, job_id, hear)

    async def _exchange(
        self, request: Mapping[str, Any], job_id: str, hear: Callable[[Mapping[str, str]], None] | None
    ) -> Exchange:
        started_at, started = self._now(), time.monotonic()
        seen = _Seen(started, hear)
        _UNDER_WAY.set(seen)
        try:
            async with asyncio.timeout(self._attempt_timeout):
                if int(request["max_tokens"]) > self._stream_above:
                    sighting = await self._stream_in_time(request, job_id, seen)
                else:
                    sighting = await self._whole(request, job_id)
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises becomes a sighting
            sighting = see_exception(error, seen.head)
        return Exchange(
            model=str(request["model"]),
            sighting=seen.answer or sighting,
            started_at=started_at,
            ended_at=started_at + timedelta(seconds=time.monotonic() - started),
            request_id=None if seen.head is None else seen.head.headers.get("request-id"),
            first_byte=seen.first_byte,
        )

    async def _whole(self, request: Mapping[str, Any], job_id: str) -> Sighting:
        answer = await self._client.post(
            ENDPOINT,
            cast_to=AsyncAPIResponse[object],
            body=request,
            options={"timeout": self._timeout, "headers": _headers(job_id)},
        )
        response = answer.http_response
        return see_body(response.content, status_code=response.status_code)

    async def _stream_in_time(self, request: Mapping[str, Any], job_id: str, seen: _Seen) -> Sighting:
        try:
            async with asyncio.timeout(self._first_byte_timeout) as silence:
                seen.silence, seen.longest_silence = silence, self._read_timeout
                return await self._stream(request, job_id, seen)
        except TimeoutError:
            if not silence.expired() or (seen.head is not None and not seen.head.is_success):
                raise
            return see_silence(began=seen.first_byte is not None)

    async def _stream(self, request: Mapping[str, Any], job_id: str, seen: _Seen) -> Sighting:
        # The stream helper puts the Message together, as the API's newer events need; the body itself goes whole
        # through extra_body, so that fields which this SDK does not know reach the API too. Only `stream: false`, which
        # says nothing of its own, would speak against the helper.
        manager = self._client.messages.stream(
            model=str(request["model"]),
            max_tokens=int(request["max_tokens"]),
            messages=[],
            extra_body={name: value for name, value in request.items() if name != "stream"},
            extra_headers=_headers(job_id),
            timeout=self._timeout,
        )
        async with manager as stream:
            response, order = stream.response, EventOrder()
            is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
            if not is_stream:  # a gateway that cannot stream may answer with a whole Message, which was paid for
                whole = see_body(await response.aread(), status_code=response.status_code)
                if whole.body is not None:
                    return whole
            try:
                async for event in stream:
                    if seen.answer is not None:
                        continue
                    order.follow(event)
                    if order.ended:
                        message = stream.current_message_snapshot.to_dict(mode="json")
                        seen.end_with(see_events(message, status_code=response.status_code, complete=True))
                if seen.answer is not None:
                    return seen.answer
                if order.began:
                    message = stream.current_message_snapshot.to_dict(mode="json")
                    return see_events(message, status_code=response.status_code, complete=False)
            except UNREADABLE as error:
                return see_unreadable_events(error, status_code=response.status_code)
            if is_stream and response.num_bytes_downloaded:  # pings, perhaps, and no beginning
                return Sighting(Wire.CUT, status_code=response.status_code, streamed=True)
            return Sighting(
                Wire.BODY,
                status_code=response.status_code,
                body_bytes=response.num_bytes_downloaded,
                streamed=True,
                complete=False,
            )


@dataclass(slots=True)
class _Seen:
    """What is known of an answer before it has come whole, and stays known if it never does."""

    started: float
    hear: Callable[[Mapping[str, str]], None] | None = None
    head: httpx2.Response | None = None
    """Its status and headers."""
    first_byte: timedelta | None = None
    silence: asyncio.Timeout | None = None
    """Of a stream: what ends the call when nothing comes."""
    longest_silence: float = 0
    answer: Sighting | None = None
    """Of a stream: the whole Message, once `message_stop` has come. It was paid for, whatever comes then (I6)."""

    def end_with(self, answer: Sighting) -> None:
        """Note that the answer is there: what is left to wait for is that the connection can be used again."""
        self.answer = answer
        if self.silence is not None:
            self.silence.reschedule(asyncio.get_running_loop().time() + LAST_WORDS.total_seconds())

    def see_bytes(self, silence: asyncio.Timeout) -> None:
        """Note that something came."""
        if self.first_byte is None:
            self.first_byte = timedelta(seconds=time.monotonic() - self.started)
        silence.reschedule(asyncio.get_running_loop().time() + self.longest_silence)


_UNDER_WAY: Final[ContextVar[_Seen]] = ContextVar("_UNDER_WAY")
"""Of the request that the current task sends: the HTTP client calls its hook without saying for whom."""


async def _see_head(response: httpx2.Response) -> None:
    """Be the HTTP client's hook: it sees status and headers at their first byte, whatever becomes of the body."""
    seen = _UNDER_WAY.get()
    seen.head = response
    response.encoding = "utf-8"  # JSON is; the SDK trips over bodies that are not what their label says
    if seen.silence is not None and response.is_success:
        response.stream = _Heard(response.stream, partial(seen.see_bytes, seen.silence))
    if seen.hear is not None:
        seen.hear(response.headers)


class _Heard(httpx2.AsyncByteStream):
    """A body of which somebody wants to know when bytes come: pings, too, which the SDK keeps to itself."""

    def __init__(self, stream: httpx2.SyncByteStream | httpx2.AsyncByteStream, hear: Callable[[], None]) -> None:
        self._stream = cast("httpx2.AsyncByteStream", stream)
        self._hear = hear

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            self._hear()
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


def _headers(job_id: str) -> dict[str, str]:
    return {JOB_HEADER: job_id.encode("ascii", "replace").decode()}
