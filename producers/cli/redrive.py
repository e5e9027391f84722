"""Dead letters sent back to the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from redis.asyncio import Redis

from promptmill.errors import BadInput
from promptmill.queue import Queue, keys, prepare
from promptmill.queue.connection import redis_errors
from promptmill.results import DeadLetter
from promptmill.settings import Settings
from promptmill.store import ResultStore
from promptmill.wire import unpack_envelope, unpack_job


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of some dead letters."""

    queued: int
    refused: tuple[tuple[str, str], ...]
    """Job id and why it cannot be sent back."""


async def redrive(letters: Sequence[DeadLetter], redis: Redis, store: ResultStore, settings: Settings) -> Redriven:
    """Queue the jobs of `letters` again, with all their attempts before them, and close the letters.

    Safe to repeat: a letter is closed only once its job is queued, and a job is queued once. Raises QueueUnavailable
    and StoreUnavailable.
    """
    submissions, refused = [], []
    before = await store.requests_before([letter.job_id for letter in letters])
    for letter in letters:
        try:
            job = unpack_job(unpack_envelope(letter.payload), job_id=letter.job_id)
            if job.deadline is not None and job.deadline <= datetime.now(UTC):
                job = job.model_copy(update={"deadline": None, "not_before": None})
            submissions.append(replace(prepare(job, settings), requests_before=before.get(job.id, 0)))
        except BadInput as error:
            refused.append((letter.job_id, str(error)))
    if submissions:
        # The failed result that is kept for whoever waits would make the queue refuse the job as ended.
        with redis_errors():
            await redis.delete(*(keys.RESULT + submission.job.id for submission in submissions))
        await Queue(redis).submit(submissions)
        await store.mark_redriven([submission.job.id for submission in submissions])
    return Redriven(len(submissions), tuple(refused))
