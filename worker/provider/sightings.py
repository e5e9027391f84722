"""From bytes and exceptions to a sighting: the only place that knows how the SDK reports things."""

from __future__ import annotations

import json
import math
import ssl
import traceback
from collections.abc import Iterator
from datetime import timedelta
from pathlib import PurePath
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
    return Sighting(Wire.BODY, status_code=status_code, body=_decoded(content), body_bytes=len(content))


def see_events(message: dict[str, Any], *, status_code: int, complete: bool) -> Sighting:
    """Return what a stream shows that was put together to `message`."""
    return Sighting(Wire.BODY, status_code=status_code, body=_writable(message), streamed=True, complete=complete)


class EventOrder:
    """Follows the events of a stream: the SDK puts together whatever comes, in whatever order, twice if it comes twice.

    Events and blocks of kinds that are not known here are let pass.
    """

    def __init__(self) -> None:
        self.began = False
        self.ended = False
        """Whether `message_stop` came."""
        self._blocks = 0

    def follow(self, event: Any) -> None:
        """Take in the next event. Raises ValueError where it cannot follow those before."""
        match getattr(event, "type", None):
            case "message_start":
                fits, self.began = not self.began, True
            case "content_block_start":
                fits = not self.ended and event.index == self._blocks
                self._blocks += 1
            case "content_block_delta" | "content_block_stop":
                fits = not self.ended and event.index in range(self._blocks)
            case "message_stop":
                fits = self.ended = self.began
            case _:
                fits = True
        if not fits:
            raise ValueError("expected the events of one Message in their order")


UNREADABLE: Final = (ValueError, LookupError, AttributeError, TypeError, AssertionError)
"""What the SDK raises over events that it cannot put together: its own checks leave much to chance."""


def see_unreadable_events(error: Exception, *, status_code: int) -> Sighting:
    """Return what a stream shows whose events cannot be put together: no JSON, or JSON that is no Message."""
    body: Any = None if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)) else {}
    return Sighting(
        Wire.BODY,
        status_code=status_code,
        message=f"{type(error).__name__} at {_place_of(error)}",
        body=body,
        body_bytes=1,
        streamed=True,
    )


def see_silence(*, began: bool) -> Sighting:
    """Return what a stream shows that did not begin, or did not go on, in time."""
    return Sighting(Wire.STALLED if began else Wire.SILENT, streamed=True)


def _decoded(content: bytes) -> Any:
    """Return what `content` says, None where it is not JSON."""
    try:
        return _not_none(orjson.loads(content))
    except orjson.JSONDecodeError:
        # Stricter than JSON: an answer that was paid for is not thrown away over half a surrogate pair.
        try:
            return _not_none(_writable(json.loads(content)))
        except (ValueError, RecursionError):
            return None


def _not_none(body: Any) -> Any:
    return [] if body is None else body  # `null` is JSON, but as little a Message as an empty list


def _writable(body: Any) -> Any:
    """Return `body` so that everybody can write it as UTF-8 JSON again.

    A stream may part a surrogate pair between two events: halves that belong together are joined, others are replaced;
    whole numbers beyond 64 bits become floats, and what is no number becomes null.
    """
    try:
        orjson.dumps(body)
    except TypeError:
        text = json.dumps(body, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return json.loads(text, parse_int=_whole_number, parse_constant=lambda _: None)
    return body


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)


def see_exception(error: Exception, head: httpx2.Response | None) -> Sighting:
    """Return what an exception of the SDK, its HTTP client or its stream shows.

    `head` is the status and headers that came before it, if any did: an error is one, whatever becomes of its body.
    """
    if isinstance(error, APIStatusError):
        return Sighting(
            Wire.ERROR,
            status_code=error.status_code,
            error_type=error.type if isinstance(error.type, str) else None,
            error_code=error.error_code if isinstance(error.error_code, str) else None,
            message=_words(error),
            streamed=error.status_code == 200,
            retry_after=_retry_after(error.response.headers),
        )
    causes = tuple(_causes(error))
    if head is not None and not head.is_success:
        return Sighting(
            Wire.ERROR,
            status_code=head.status_code,
            message=_what_happened(causes, tell_place=False),
            retry_after=_retry_after(head.headers),
        )
    wire = _wire(causes)
    return Sighting(wire, message=_what_happened(causes, tell_place=wire is Wire.BUG))


# From the most to the least telling: aiohttp's own classes tell "never connected" from "broke afterwards", which the
# SDK reports alike, and on which it depends whether something may have been billed.
_WIRE_OF: Final[tuple[tuple[Wire, tuple[type[BaseException], ...]], ...]] = (
    (Wire.TLS, (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch)),
    (
        Wire.NOT_CONNECTED,
        (
            aiohttp.ConnectionTimeoutError,
            aiohttp.ClientConnectorError,
            aiohttp.ClientHttpProxyError,
            aiohttp.InvalidURL,
            httpx2.ConnectTimeout,
            httpx2.PoolTimeout,
            httpx2.ProxyError,
            httpx2.UnsupportedProtocol,
        ),
    ),
    (
        Wire.CUT,
        (
            aiohttp.ServerDisconnectedError,
            aiohttp.ClientOSError,
            aiohttp.ClientPayloadError,
            ConnectionResetError,
            httpx2.ReadError,
            httpx2.WriteError,
        ),
    ),
    (Wire.TIMEOUT, (APITimeoutError, httpx2.TimeoutException, TimeoutError)),
    (Wire.CUT, (aiohttp.ClientError,)),
    (Wire.TLS, (ssl.SSLError,)),  # so late, since a connection that was secured can still break over TLS
    (Wire.NOT_CONNECTED, (httpx2.ConnectError,)),
    (Wire.CUT, (APIConnectionError, httpx2.RequestError)),
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


def _what_happened(causes: tuple[BaseException, ...], *, tell_place: bool) -> str:
    """Return the exceptions' classes, and the words of the operating system's own.

    What any other says may quote the bytes that were received, and so a prompt or an answer (I7).
    """
    told = " < ".join(dict.fromkeys(type(cause).__name__ for cause in causes))
    if tell_place:
        return f"{told} at {_place_of(causes[0])}"
    said = next((str(cause) for cause in reversed(causes) if isinstance(cause, OSError) and cause.args), "")
    return f"{told}: {said}"[:MAX_MESSAGE_CHARS] if said else told


def _place_of(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"


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
        if number >= MAX_RETRY_AFTER / unit:
            return MAX_RETRY_AFTER
        if number > 0:  # rounded up: a pause of less than a millisecond would be none
            return timedelta(milliseconds=math.ceil(number * unit / timedelta(milliseconds=1)))
    return None
