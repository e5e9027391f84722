"""Tells, for `promptmill status`, that a worker is alive and what it is doing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any, Final

import orjson

from promptmill.errors import QueueUnavailable
from promptmill.queue import Queue, keys
from promptmill.queue.connection import redis_errors

PRESENCE: Final = timedelta(seconds=4)
"""How often a worker says that it is alive."""
FORGET_AFTER: Final = timedelta(days=1)
"""A worker that said nothing for so long was killed: one that stops strikes itself out."""


async def tell_presence(queue: Queue, name: str, busy: Callable[[], Mapping[str, Any]]) -> None:
    """Tell until cancelled; `busy` says what changes."""
    fixed = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": version("promptmill"),
        "started_at": datetime.now(UTC).isoformat(),
    }
    with contextlib.suppress(QueueUnavailable):
        await queue.forget(seen_before=datetime.now(UTC) - FORGET_AFTER)
    while True:
        about = {**fixed, "seen_at": datetime.now(UTC).isoformat(), **busy()}
        with contextlib.suppress(QueueUnavailable), redis_errors():
            await queue.redis.hset(keys.WORKERS, name, orjson.dumps(about).decode())  # type: ignore[misc]  # redis types both kinds of client alike
        await asyncio.sleep(PRESENCE.total_seconds())
