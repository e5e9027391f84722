"""Which Redis a command talks to: the one that is set, or the embedded one, for as long as the command needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redis.exceptions import NoPermissionError

from promptmill.doctor.checks import OLDEST_REDIS
from promptmill.errors import BadSettings
from promptmill.queue import connect
from promptmill.queue.connection import hide_password, redis_errors
from promptmill.settings import Settings

if TYPE_CHECKING:
    from promptmill.embedded import EmbeddedValkey


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """Where the queue is, and the embedded server behind it if that is whose address it is."""

    url: str
    settings: Settings
    """As given, with `redis_url` set to `url`."""
    embedded: EmbeddedValkey | None = None


@contextmanager
def reachable_queue(settings: Settings) -> Iterator[QueueAddress]:
    """Use the Redis of `settings`; where none is set, share the data directory's embedded one or start it.

    Raises QueueUnavailable where it does not answer, and BadSettings where it is too old.
    """
    if settings.redis_url is not None:
        asyncio.run(_check(settings.redis_url))
        yield QueueAddress(settings.redis_url, settings)
        return
    from promptmill.embedded import EmbeddedValkey  # noqa: PLC0415 - does not load on Windows, where a URL is needed

    with EmbeddedValkey(settings.data_dir) as valkey:
        yield QueueAddress(valkey.url, settings.model_copy(update={"redis_url": valkey.url}), valkey)


async def _check(url: str) -> None:
    redis = connect(url)
    try:
        with redis_errors():
            await redis.ping()
            version = str((await redis.info("server"))["redis_version"])
    except NoPermissionError:
        return  # INFO is among the commands that careful administrators withhold
    finally:
        await redis.aclose()
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise BadSettings(
            f"redis_url: expected Redis 6.2 or later, or Valkey, got Redis {version} at {hide_password(url)}"
        )
