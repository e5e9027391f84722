"""Connections to Redis, and its errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - redis' own, not the builtin
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,  # noqa: A004
)

from promptmill.errors import BadSettings, QueueUnavailable

CONNECT_TIMEOUT: Final = timedelta(seconds=5)
REPLY_TIMEOUT: Final = timedelta(seconds=10)
"""A frozen server must not freeze a worker: after this the call fails, and is made again by whoever needs it."""

_AWAY: Final = (ConnectionError, TimeoutError, BusyLoadingError, ReadOnlyError, OutOfMemoryError, OSError)


def connect(url: str, *, reply_timeout: timedelta | None = REPLY_TIMEOUT) -> Redis:
    """Return a client for `url` (redis://, rediss:// or unix://); it connects at its first command.

    Commands are never repeated by the client: a claim sent twice would lease two jobs. Raises BadSettings.
    """
    try:
        client: Redis = Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_TIMEOUT.total_seconds(),
            socket_timeout=None if reply_timeout is None else reply_timeout.total_seconds(),
            socket_keepalive=True,
            health_check_interval=0,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise BadSettings(
            f"redis_url: expected redis://host:port/db, rediss:// or unix:///path, got {hide_password(url)!r} ({error})"
        ) from None
    return client


def hide_password(url: str) -> str:
    """Return `url` fit for a message (I7)."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@", 1)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn "Redis does not answer" into QueueUnavailable; what Redis answers on purpose passes through."""
    try:
        yield
    except AuthenticationError as error:
        raise BadSettings(f"Redis refused the user or password: {error}; check PROMPTMILL_REDIS_URL") from error
    except _AWAY as error:
        raise QueueUnavailable(f"Redis does not answer: {type(error).__name__}: {error}") from error
    except ResponseError as error:
        # A script that meets a full or read-only server reports it inside its own error.
        if any(sign in str(error) for sign in ("OOM ", "READONLY", "LOADING", "MISCONF", "UNBLOCKED", "BUSY ")):
            raise QueueUnavailable(f"Redis does not take writes: {error}") from error
        raise
