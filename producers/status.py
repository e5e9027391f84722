"""Where a job is, as its record in Redis and its place in the queue tell."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from redis.asyncio import Redis

from promptmill.errors import ResultNotFound
from promptmill.jobs import JobState, Lane
from promptmill.queue import keys
from promptmill.queue.claims import LANES
from promptmill.queue.connection import redis_errors
from promptmill.queue.records import read_record
from promptmill.results import Status
from promptmill.wire import unpack_result

_STATES: Final = {"r": JobState.READY, "w": JobState.WAITING, "l": JobState.LEASED}


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job is at this moment."""

    job_id: str
    state: JobState
    lane: Lane | None = None
    """None where nobody knows: the job has ended, or an arq client enqueued it and no worker has read it yet."""
    model_class: str | None = None
    """Whose budget the next request draws on."""
    place: int | None = None
    """Of a ready job: its place in its lane, counted from 1."""
    attempts: int = 0
    """Attempts used up so far; of a job that has ended, the attempts made."""
    until: datetime | None = None
    """Of a waiting job: when it comes due. Of a leased one: when its lease runs out unless it is renewed."""
    ending: Status | None = None
    """How it will end as soon as a worker sees to it: it was cancelled, or its deadline has passed."""


async def read_status(redis: Redis, job_id: str) -> JobStatus:
    """Return where the job is. Raises ResultNotFound where Redis knows neither the job nor a result of it."""
    with redis_errors():
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(keys.JOBS, job_id)
            pipeline.zscore(keys.QUEUE, job_id)
            pipeline.get(keys.RESULT + job_id)
            record, score, result = await pipeline.execute()
    if score is None:
        return _ended(job_id, result)
    fields = read_record(record)
    if fields is None:
        return JobStatus(job_id, JobState.WAITING, until=_time(score))
    state, lane = _STATES[fields["state"]], LANES[fields["lane"] - 1]
    place = None
    if state is JobState.READY and not fields["ends"]:
        with redis_errors():
            ahead = await redis.zrank(f"{keys.LANE}{fields['budget']}:{fields['lane']}", job_id)
        place = None if ahead is None else ahead + 1
    return JobStatus(
        job_id=job_id,
        state=state,
        lane=lane,
        model_class=fields["budget"] or None,
        place=place,
        attempts=fields["attempts"],
        until=None if state is JobState.READY else _time(score),
        ending=Status(fields["ends"]) if fields["ends"] else None,
    )


def _ended(job_id: str, result: bytes | None) -> JobStatus:
    if result is None:
        raise ResultNotFound(job_id)
    ended = unpack_result(result)
    return JobStatus(job_id, JobState(ended.status.value), lane=Lane(ended.lane), attempts=len(ended.attempts))


def _time(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
