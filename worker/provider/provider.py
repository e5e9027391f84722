"""Sends one request and tells what came of it. Never retries: admission decides about every request (I4)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

import httpx2
from anthropic import APIRequest, AsyncAnthropic, AsyncAPIResponse, AsyncCallNext, DefaultAioHttpClient

from promptmill.settings import Settings
from worker.outcomes import Sighting, Wire
from worker.provider.sightings import UNREADABLE, see_body, see_events, see_exception, see_unreadable_events

ENDPOINT: Final = "/v1/messages"
JOB_HEADER: Final = "x-promptmill-job"
"""Names the job to a simulator or proxy that wants to count duplicates; the API ignores it."""

STREAM_ALWAYS_ABOVE: Final = 21_333
"""max_tokens above which the API wants a stream, since the answer may take longer than ten minutes."""


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
        self._client = AsyncAnthropic(
            api_key=None if key is None else key.get_secret_value(),
            base_url=settings.anthropic_base_url,
            max_retries=0,
            # Requests have spans of ours: see worker/telemetry/traces.py.
            open_telemetry={"traces": {"enabled": False}},
            middleware=[_see_headers],
            http_client=http_client
            or DefaultAioHttpClient(
                follow_redirects=False,  # where one leads would be a second request, which nobody admitted (I4)
                limits=httpx2.Limits(
                    max_connections=settings.concurrency + 10, max_keepalive_connections=settings.concurrency + 10
                ),
            ),
        )
        connect, read = settings.connect_timeout.total_seconds(), settings.read_timeout.total_seconds()
        self._whole_timeout = httpx2.Timeout(self._attempt_timeout, connect=connect)
        self._stream_timeout = httpx2.Timeout(self._attempt_timeout, connect=connect, read=read)

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
        started_at, started = self._now(), time.monotonic()
        seen = _Seen(hear)
        _UNDER_WAY.set(seen)
        try:
            async with asyncio.timeout(self._attempt_timeout):
                if int(request["max_tokens"]) > self._stream_above:
                    sighting = await self._stream(request, job_id, seen, started)
                else:
                    sighting = await self._whole(request, job_id)
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises becomes a sighting
            sighting = see_exception(error)
        return Exchange(
            model=str(request["model"]),
            sighting=sighting,
            started_at=started_at,
            ended_at=started_at + timedelta(seconds=time.monotonic() - started),
            request_id=seen.request_id,
            first_byte=seen.first_byte,
        )

    async def _whole(self, request: Mapping[str, Any], job_id: str) -> Sighting:
        answer = await self._client.post(
            ENDPOINT,
            cast_to=AsyncAPIResponse[object],  # a bare httpx2.Response would pass errors by, where there is middleware
            body=request,
            options={"timeout": self._whole_timeout, "headers": _headers(job_id)},
        )
        response = answer.http_response
        return see_body(response.content, status_code=response.status_code)

    async def _stream(self, request: Mapping[str, Any], job_id: str, seen: _Seen, started: float) -> Sighting:
        # The stream helper puts the Message together, as the API's newer events need; the body itself goes whole
        # through extra_body, so that fields which this SDK does not know reach the API too. Only `stream: false`, which
        # says nothing of its own, would speak against the helper.
        manager = self._client.messages.stream(
            model=str(request["model"]),
            max_tokens=int(request["max_tokens"]),
            messages=[],
            extra_body={name: value for name, value in request.items() if name != "stream"},
            extra_headers=_headers(job_id),
            timeout=self._stream_timeout,
        )
        began = complete = False
        async with manager as stream:
            response = stream.response
            try:
                async for event in stream:
                    if seen.first_byte is None:
                        seen.first_byte = timedelta(seconds=time.monotonic() - started)
                    began = began or event.type == "message_start"
                    complete = complete or event.type == "message_stop"
                message = (await stream.get_final_message()).to_dict(mode="json") if began else None
            except UNREADABLE as error:
                return see_unreadable_events(error, status_code=response.status_code)
            if message is not None:
                return see_events(message, status_code=response.status_code, complete=complete)
            # No event at all: an empty body, or one that is no stream.
            is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
            empty = is_stream or not response.num_bytes_downloaded
            return Sighting(
                Wire.BODY, status_code=response.status_code, body_bytes=0 if empty else 1, streamed=True, complete=False
            )


@dataclass(slots=True)
class _Seen:
    """What is known of an answer before it has come whole, and stays known if it never does."""

    hear: Callable[[Mapping[str, str]], None] | None = None
    request_id: str | None = None
    first_byte: timedelta | None = None


_UNDER_WAY: Final[ContextVar[_Seen]] = ContextVar("_UNDER_WAY")
"""Of the request that the current task sends: the SDK calls its middleware without saying for whom."""


async def _see_headers(request: APIRequest, call_next: AsyncCallNext) -> AsyncAPIResponse[Any]:
    """Be the SDK's middleware: it alone sees the headers of every attempt, at their first byte, errors included."""
    response = await call_next(request)
    seen = _UNDER_WAY.get()
    seen.request_id = response.request_id
    if seen.hear is not None:
        seen.hear(response.headers)
    return response


def _headers(job_id: str) -> dict[str, str]:
    return {JOB_HEADER: job_id.encode("ascii", "replace").decode()}
