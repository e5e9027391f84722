"""Every test here runs on fakeredis, on Valkey and on Redis 6.2."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
from fakeredis import FakeServer
from fakeredis.aioredis import FakeRedis
from redis.asyncio import Redis

from tests.support.queues import SERVERS, Bench, running_server


@pytest.fixture(scope="session")
def url_of() -> Iterator[Callable[[str], str]]:
    """Starts each real server once, when a test first needs it."""
    with ExitStack() as stack:
        yield cache(lambda kind: stack.enter_context(running_server(kind)))


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def redis(server: str, url_of: Callable[[str], str]) -> AsyncIterator[Redis]:
    """A client of an empty database."""
    client = FakeRedis(server=FakeServer()) if server == "fakeredis" else Redis.from_url(url_of(server))
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def bench(redis: Redis) -> Bench:
    return Bench.on(redis)
