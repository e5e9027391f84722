"""When a run will be done, kept beside its counts for whoever asks: `promptmill status`, say, from another machine.

Who follows a run knows best, and says so every few seconds. A run that was put into the queue as a whole is done when
the last job of each of its lanes is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson
from redis.asyncio import Redis

from producers.outlook import job_time_left
from promptmill.caps import SpendCap
from promptmill.errors import ResultNotFound
from promptmill.queue import Queue, keys
from promptmill.queue.connection import redis_errors

STALE_AFTER: Final = timedelta(seconds=15)
"""What a run said of its finish longer ago than this is forgotten: whoever followed it is gone."""
FINISH, SAID_AT, LAST_JOBS = "finish", "finish_said_at", "last_jobs"


async def say_finish(redis: Redis, run: str, left: timedelta | None, now: datetime) -> None:
    """Let everybody know the time left for `run`, as it is `now` on Redis' clock. Raises QueueUnavailable."""
    fields = {FINISH: "" if left is None else _ms(now + left), SAID_AT: _ms(now)}
    with redis_errors():
        await redis.hset(keys.RUN + run, mapping=fields)  # type: ignore[misc]  # redis types both kinds of client alike


async def note_last_jobs(redis: Redis, run: str, job_ids: Collection[str]) -> None:
    """Note which jobs of a run will be answered last, as far as lanes tell. Raises QueueUnavailable."""
    with redis_errors():
        await redis.hset(keys.RUN + run, LAST_JOBS, orjson.dumps(list(job_ids)).decode())  # type: ignore[misc]


async def run_time_left(queue: Queue, run: str, caps: Sequence[SpendCap] = ()) -> timedelta | None:
    """Return the time until the last job of a run has ended, or None where nobody can know. Raises QueueUnavailable."""
    with redis_errors():
        finish, said_at, last_jobs = await queue.redis.hmget(keys.RUN + run, [FINISH, SAID_AT, LAST_JOBS])  # type: ignore[misc]
        seconds, microseconds = await queue.redis.time()
    now = datetime.fromtimestamp(seconds + microseconds / 1e6, UTC)
    if said_at and now - _time(said_at) < STALE_AFTER:
        return max(timedelta(0), _time(finish) - now) if finish else None
    longest = None
    for job_id in orjson.loads(last_jobs or b"[]"):
        try:
            left = await job_time_left(queue, job_id, caps)
        except ResultNotFound:
            continue  # ended, and its result is in the store alone
        if left is None:
            return None
        longest = max(left, longest or left)
    return longest


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _time(milliseconds: bytes) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
