"""The time left for jobs and lanes, as the queue stands at this moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from producers.status import read_status
from promptmill.caps import SpendCap
from promptmill.foresight import job_left
from promptmill.jobs import JobState
from promptmill.queue import Queue

_QUEUED: Final = (JobState.READY, JobState.WAITING, JobState.LEASED)


async def job_time_left(queue: Queue, job_id: str, caps: Sequence[SpendCap] = ()) -> timedelta | None:
    """Return the time until a job has ended, zero where it has; None where nobody can know.

    Raises ResultNotFound or QueueUnavailable.
    """
    status = await read_status(queue.redis, job_id)
    if status.state not in _QUEUED or status.ending is not None:
        return timedelta(0)
    if status.model_class is None or status.lane is None:
        return None
    backlog = await queue.backlog(status.model_class, before=job_id, caps=caps)
    if not backlog.job_is_queued:
        return timedelta(0)
    due = status.until.timestamp() * 1000 if status.until and status.state is JobState.WAITING else 0.0
    return job_left(backlog, status.lane, not_before=due)
