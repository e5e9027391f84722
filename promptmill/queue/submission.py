"""A job made ready for the queue: its payload, the budget that it draws on and what it is expected to cost."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from promptmill.caps import NANO
from promptmill.jobs import KIND_TAG, Job
from promptmill.models import estimate_input_tokens
from promptmill.pacing import Cost
from promptmill.results import Earlier, Status
from promptmill.settings import Settings
from promptmill.tracing import current_traceparent
from promptmill.wire import pack_job

TENANT_TAG: Final = "tenant"
LONGEST_NAME: Final = 100
"""Characters by which tenants, and kinds, are told apart: Redis keeps their names."""


@dataclass(frozen=True, slots=True)
class Submission:
    """What the submit script takes for one job."""

    job: Job
    payload: bytes
    budget: str
    cost: Cost
    requests_before: int = 0
    """Requests that were sent for the job before it became a dead letter: a redriven job goes on counting."""
    ended_before: Status | None = None
    """How the job had ended before it is sent again: that is then no end of its run any more."""
    nano_usd_before: int = 0
    """What it had cost by then: its next end has the whole cost."""

    def after(self, earlier: Earlier | None) -> Submission:
        """Return the submission of the same job, which has been sent before."""
        if earlier is None:
            return self
        cost = int((earlier.cost_usd or 0) * NANO)
        return replace(self, requests_before=earlier.requests, ended_before=earlier.status, nano_usd_before=cost)

    @property
    def tenant(self) -> str:
        """Whose job it is: the tag `tenant`. Tenants share each lane evenly; jobs without the tag are one tenant's."""
        return self.job.tags.get(TENANT_TAG, "")[:LONGEST_NAME]

    @property
    def kind(self) -> str:
        """Whose answers tell what the job will take."""
        return kind_of(self.job)


def kind_of(job: Job) -> str:
    """Return which prompts are alike: by the tag `kind`, else by the system prompt; empty where there is neither."""
    if named := job.tags.get(KIND_TAG):
        return named[:LONGEST_NAME]
    system = job.request.get("system")
    return hashlib.blake2s(orjson.dumps(system), digest_size=4).hexdigest() if system else ""


def prepare(job: Job, settings: Settings, *, now: datetime | None = None) -> Submission:
    """Return `job` ready to be submitted. Raises BadJob or UnknownModel: nothing has then been queued."""
    if job.trace is None and (trace := current_traceparent()):
        job = job.model_copy(update={"trace": trace})
    for fallback in job.fallbacks:
        settings.class_of(fallback)
    return Submission(
        job=job,
        payload=pack_job(job, now or datetime.now(UTC)),
        budget=settings.class_of(job.model),
        cost=expected_cost(job.request, settings),
    )


def expected_cost(request: dict[str, Any], settings: Settings) -> Cost:
    """Return what `request` is expected to use: estimated input, and a usual answer or `max_tokens` if less."""
    return Cost(
        requests=1,
        input=estimate_input_tokens(request),
        output=min(int(request["max_tokens"]), settings.expected_output_tokens),
    )
