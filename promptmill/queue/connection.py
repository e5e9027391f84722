"""Connections to Redis, and its errors in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

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

from promptmill.errors import BadSettings, QueueFull, QueueUnavailable

CONNECT_TIMEOUT: Final = timedelta(seconds=5)
REPLY_TIMEOUT: Final = timedelta(seconds=10)
"""A frozen server must not freeze a worker: after this the call fails, and is made again by whoever needs it."""

_PASSWORD_OPTION: Final = re.compile(r"([?&]password=)[^&]*", re.IGNORECASE)
_TAKES_NO_WRITES: Final = ("READONLY", "LOADING", "MISCONF", "UNBLOCKED", "BUSY ", "NOREPLICAS", "MASTERDOWN")
_AWAY: Final = (ConnectionError, TimeoutError, BusyLoadingError, OSError)


def connect(url: str, *, reply_timeout: timedelta | None = REPLY_TIMEOUT) -> Redis:
    """Return a client for `url` (redis://, rediss:// or unix://); it connects at its first command.

    Commands are never repeated by the client: a claim sent twice would lease two jobs. Raises BadSettings.
    """
    try:
        client: Redis = Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_TIMEOUT.total_seconds(),
            socket_timeout=None if reply_timeout is None else reply_timeout.total_seconds(),
            **({} if url.startswith("unix:") else {"socket_keepalive": True}),  # a unix socket refuses the option
            health_check_interval=0,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:  # its message may hold a part of the password
        raise BadSettings(
            f"redis_url: expected redis://host:port/db, rediss:// or unix:///path, got {hide_password(url)!r}; "
            "special characters in a password are percent-encoded"
        ) from None
    return client


def hide_password(url: str) -> str:
    """Return `url` fit for a message (I7).

    Whatever stands before the last @ is taken for user and password: one that should have been percent-encoded would
    otherwise be shown in part.
    """
    scheme, separator, rest = url.partition("://")
    userinfo, at, address = rest.rpartition("@")
    user, colon, _ = userinfo.partition(":")
    shown = f"{user}:***" if colon else userinfo
    return _PASSWORD_OPTION.sub(r"\1***", f"{scheme}{separator}{shown}{at}{address}")


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
        # A script that meets a full or read-only server may report it inside its own error.
        if isinstance(error, OutOfMemoryError) or "OOM " in str(error):
            raise QueueFull(f"Redis does not take writes: {error}") from error
        if isinstance(error, ReadOnlyError) or any(sign in str(error) for sign in _TAKES_NO_WRITES):
            raise QueueUnavailable(f"Redis does not take writes: {error}") from error
        raise
