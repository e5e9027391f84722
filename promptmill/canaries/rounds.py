"""A round: every canary of a set, once, for one model, as jobs in the queue.

The id of a canary's job follows from its round, its model and its own id, so a round is in the queue once and paid for
once, however many workers send it and however often.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from promptmill.canaries.schedule import round_at
from promptmill.canaries.sets import CANARY_TAG, ROUND_TAG, CanarySet
from promptmill.jobs import KIND_TAG, Job, Lane, make_job
from promptmill.queue import Queue, Submitted, prepare
from promptmill.queue.submission import TENANT_TAG
from promptmill.settings import Settings

TENANT: Final = "canary"
"""Whose jobs canaries are: a round takes turns with whatever else waits in its lane, instead of standing behind it."""


def models_asked(settings: Settings) -> tuple[str, ...]:
    """Return the models that canaries are sent to, each once."""
    return tuple(dict.fromkeys(settings.canary_models or (settings.model,)))


async def send_present_round(queue: Queue, settings: Settings, canaries: CanarySet, model: str, now: datetime) -> int:
    """Queue the round that is due at this time; return how many of its canaries were not queued before.

    Raises QueueUnavailable: the same call again queues the rest. Raises BadInput for a model that cannot be asked.
    """
    began = round_at(now, settings.canary_every)
    ends = began + settings.canary_every
    jobs = _jobs(canaries, model, round_name(began), deadline=ends, keep=settings.canary_every)
    return await _submit(queue, settings, jobs)


async def send_more_rounds(
    queue: Queue, settings: Settings, canaries: CanarySet, model: str, *, name: str, rounds: int, now: datetime
) -> int:
    """Queue so many rounds at once, beside those that are due; return how many canaries were not queued before.

    `name` tells what they are for, such as `sent-20261122T140000Z`: the same name again sends nothing twice. Raises
    QueueUnavailable: the same call again queues the rest. Raises BadInput for a model that cannot be asked.
    """
    ends, keep = now + settings.canary_every, settings.canary_every
    names = [f"{name}.{number}" for number in range(1, rounds + 1)]
    jobs = (job for each in names for job in _jobs(canaries, model, each, deadline=ends, keep=keep))
    return await _submit(queue, settings, jobs)


def round_name(at: datetime) -> str:
    """Return how a round is called that began at this time."""
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _jobs(canaries: CanarySet, model: str, name: str, *, deadline: datetime, keep: timedelta) -> Iterator[Job]:
    """Yield the jobs of one round.

    In lane `standard`: overnight work does not hold them up, and they do not hold up who waits for an answer. Without
    fallbacks: it is this model that is asked. An answer that comes when the next round is due is no longer wanted.
    """
    kind = canaries.kind
    for canary in canaries.canaries:
        yield make_job(
            {
                "id": f"canary/{name}/{model}/{canary.id}",
                "request": canary.request_to(model),
                "lane": Lane.STANDARD,
                "deadline": deadline,
                "expect": canary.expect,
                "tags": {**canary.tags, KIND_TAG: kind, TENANT_TAG: TENANT, CANARY_TAG: canary.id, ROUND_TAG: name},
                "keep_result": keep,  # as long as anybody may send the round again: who is asked says so at once
            }
        )


async def _submit(queue: Queue, settings: Settings, jobs: Iterator[Job]) -> int:
    answers = await queue.submit(prepare(job, settings) for job in jobs)
    return answers.count(Submitted.QUEUED)
