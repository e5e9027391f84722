"""Dead letters sent back to the queue, as they were or changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from redis.asyncio import Redis

from promptmill.errors import BadInput
from promptmill.jobs import make_job
from promptmill.queue import Queue, keys, prepare
from promptmill.queue.connection import redis_errors
from promptmill.results import DeadLetter
from promptmill.settings import Settings
from promptmill.store import ResultStore
from promptmill.wire import job_fields, unpack_envelope

Fields = dict[str, Any]
"""Of a job, as its payload has them."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of some dead letters."""

    queued: int
    refused: tuple[tuple[str, str], ...]
    """Job id and why it cannot be sent back."""


async def redrive(
    letters: Sequence[DeadLetter],
    redis: Redis,
    store: ResultStore,
    settings: Settings,
    *,
    change: Callable[[Fields], Fields] = dict,
) -> Redriven:
    """Queue the jobs of `letters` again, changed by `change`, with all their attempts before them; close the letters.

    Safe to repeat: a letter is closed only once its job is queued, and a job is queued once. Raises QueueUnavailable
    and StoreUnavailable.
    """
    submissions, refused = [], []
    earlier = await store.earlier([letter.job_id for letter in letters])
    for letter in letters:
        try:
            job = make_job(change(fields_of(letter)))
            if job.deadline is not None and job.deadline <= datetime.now(UTC):
                job = job.model_copy(update={"deadline": None, "not_before": None})
            submissions.append(prepare(job, settings).after(earlier.get(job.id)))
        except BadInput as error:
            refused.append((letter.job_id, str(error)))
    if submissions:
        # The failed result that is kept for whoever waits would make the queue refuse the job as ended.
        with redis_errors():
            await redis.delete(*(keys.RESULT + submission.job.id for submission in submissions))
        await Queue(redis).submit(submissions)
        await store.mark_redriven([submission.job.id for submission in submissions])
    return Redriven(len(submissions), tuple(refused))


def fields_of(letter: DeadLetter) -> Fields:
    """Return the fields of the job in `letter`. Raises Unreadable where there are none."""
    return {**job_fields(unpack_envelope(letter.payload)), "id": letter.job_id}


def changed(fields: Fields, changes: Mapping[str, str]) -> Fields:
    """Return `fields` with some set anew. `changes` maps their names (`lane`, `request.max_tokens`) to JSON or text.

    Raises BadInput where a name leads through what is no object, or would make another job of it.
    """
    job = dict(fields)
    for name, text in changes.items():
        *outer, last = name.split(".")
        at = job
        for step in outer:
            inner = at.get(step)
            if not isinstance(inner, dict):
                raise BadInput(f"{name}: expected {step} to be an object, got {type(inner).__name__}")
            at[step] = at = dict(inner)
        if name in ("id", "version"):
            raise BadInput(f"{name}: a job keeps its {name}")
        at[last] = _json_or_text(text)
    return job


def _json_or_text(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
