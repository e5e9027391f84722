"""Signs that a test waits for instead of for time."""

from __future__ import annotations

import asyncio

from promptmill.queue import keys

PATIENCE = 30
"""Seconds after which a test fails instead of hanging; nothing depends on it."""


async def until(sign) -> None:
    """Return when awaiting `sign()` gives something true."""
    async with asyncio.timeout(PATIENCE):
        while not await sign():  # noqa: ASYNC110 - Redis has no event for what it is asked here
            await asyncio.sleep(0)


async def listeners(redis, channel: str) -> int:
    return (await redis.pubsub_numsub(channel))[0][1]


async def listened_for(redis, job_id: str) -> None:
    """Return when somebody listens for the job's result."""
    await until(lambda: listeners(redis, keys.DONE_CHANNEL + job_id))


async def unlistened(redis, job_id: str) -> None:
    """Return when nobody listens for it any more."""

    async def nobody() -> bool:
        return not await listeners(redis, keys.DONE_CHANNEL + job_id)

    await until(nobody)
