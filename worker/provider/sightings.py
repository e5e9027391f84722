"""From bytes and exceptions to a sighting: the only place that knows how the SDK reports things."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import aiohttp
import httpx2
import orjson
from anthropic import APIConnectionError, APIStatusError, APITimeoutError

from worker.outcomes import Sighting, Wire

MAX_MESSAGE_CHARS: Final = 500
"""Of the API's own words: enough to act on, too little to carry a document that an error quotes."""

MAX_RETRY_AFTER: Final = timedelta(hours=1)
"""A header that says more is obeyed for an hour, then asked again: one wrong header must not stop a fleet for days."""


def see_body(content: bytes, *, status_code: int) -> Sighting:
    """Return what a body under a 2xx status shows."""
    try:
        body = orjson.loads(content) if content else None
    except orjson.JSONDecodeError:
        body = None
    if body is None and content.strip() == b"null":
        body = []  # JSON, but as little a Message as an empty list
    return Sighting(Wire.BODY, status_code=status_code, body=body, body_bytes=len(content))


def see_exception(error: Exception) -> Sighting:
    """Return what an exception of the SDK, its HTTP client or its stream shows."""
    if isinstance(error, APIStatusError):
        return Sighting(
            Wire.ERROR,
            status_code=error.status_code,
            error_type=error.type,
            error_code=error.error_code,
            message=_words(error),
            streamed=error.status_code == 200,
            retry_after=_retry_after(error.response.headers),
        )
    causes = tuple(_causes(error))
    message = f"{type(causes[-1]).__name__}: {causes[-1]}"[:MAX_MESSAGE_CHARS]
    return Sighting(_wire(causes), message=message)


# From the most to the least telling: aiohttp's own classes tell "never connected" from "broke afterwards", which the
# SDK reports alike, and on which it depends whether something may have been billed.
_WIRE_OF: Final[tuple[tuple[Wire, tuple[type[BaseException], ...]], ...]] = (
    (Wire.TLS, (ssl.SSLError, aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch)),
    (
        Wire.NOT_CONNECTED,
        (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError, httpx2.ConnectTimeout, httpx2.PoolTimeout),
    ),
    (
        Wire.CUT,
        (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError, ConnectionResetError),
    ),
    (Wire.TIMEOUT, (APITimeoutError, httpx2.TimeoutException, TimeoutError)),
    (Wire.CUT, (aiohttp.ClientError,)),
    (Wire.NOT_CONNECTED, (httpx2.ConnectError,)),
    (Wire.CUT, (APIConnectionError, httpx2.TransportError)),
)


def _wire(causes: tuple[BaseException, ...]) -> Wire:
    for wire, kinds in _WIRE_OF:
        if any(isinstance(cause, kinds) for cause in causes):
            return wire
    return Wire.BUG


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _words(error: APIStatusError) -> str:
    # Only what the API says in its own error field: a body that is not JSON may quote anything.
    said: Any = error.api_message
    if isinstance(said, str):
        return said[:MAX_MESSAGE_CHARS]
    return f"status {error.status_code} with a body that is not an API error"


def _retry_after(headers: httpx2.Headers) -> timedelta | None:
    for name, unit in (("retry-after-ms", timedelta(milliseconds=1)), ("retry-after", timedelta(seconds=1))):
        try:
            number = float(headers[name])
        except (KeyError, ValueError):
            continue
        if 0 <= number < float("inf"):
            return min(number * unit, MAX_RETRY_AFTER) if number * unit.total_seconds() < 1e9 else MAX_RETRY_AFTER
    return None
