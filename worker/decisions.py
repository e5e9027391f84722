"""What follows from an outcome. Pure: time, chance and settings are handed in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from promptmill.jobs import Job
from promptmill.models import UnknownModel
from promptmill.queue import Claim
from promptmill.settings import Settings
from worker.outcomes import Policy, Verdict


@dataclass(frozen=True, slots=True)
class Settle:
    """The job has ended: with an answer, or as a dead letter."""


@dataclass(frozen=True, slots=True)
class GoBack:
    """The job goes back to the queue."""

    wait: timedelta
    uses_attempt: bool
    route: int
    """The model to ask next: 0 the job's own, n its n-th fallback."""
    pause: timedelta | None = None
    """For how long nobody sends on the budget."""


Decision = Settle | GoBack


def decide(
    policy: Policy,
    *,
    retry_after: timedelta | None,
    claim: Claim,
    job: Job,
    settings: Settings,
    chance: Callable[[], float],
) -> Decision:
    """Return what is to be done with `job` after an attempt came to `policy`.

    `chance` returns a number in [0, 1): backoff is spread over the whole interval, so that jobs that failed together
    do not come back together.
    """
    onward = _next_route(policy, claim, job, settings)
    decision: Decision = Settle()
    match policy.verdict:
        case Verdict.ANSWERED:
            pass
        case Verdict.FINAL:
            decision = _fall_back(onward)
        case Verdict.RETRY if claim.attempts + 1 >= _allowed_attempts(claim, job, settings):
            decision = _fall_back(onward)
        case Verdict.RETRY:
            wait = max(backoff(claim.attempts, settings, chance), retry_after or timedelta(0))
            decision = GoBack(wait, uses_attempt=True, route=claim.route)
        case Verdict.WAIT if onward is not None and claim.number >= _allowed_attempts(claim, job, settings):
            decision = GoBack(timedelta(0), uses_attempt=False, route=onward)
        case Verdict.WAIT:
            wait = max(backoff(claim.number - 1, settings, chance), retry_after or timedelta(0))
            decision = GoBack(wait, uses_attempt=False, route=claim.route)
        case Verdict.PAUSE:
            pause = retry_after or policy.pause
            decision = GoBack(timedelta(0), uses_attempt=False, route=claim.route, pause=pause)
        case Verdict.PARK:
            decision = GoBack(timedelta(0), uses_attempt=False, route=claim.route, pause=settings.probe_interval)
    return decision


def backoff(failures: int, settings: Settings, chance: Callable[[], float]) -> timedelta:
    """Return a wait with full jitter: evenly spread up to twice a mean that doubles with each failure."""
    mean = min(settings.backoff * (1 << min(failures, 20)), settings.max_backoff)
    return 2 * mean * chance()


def _allowed_attempts(claim: Claim, job: Job, settings: Settings) -> int:
    """Return how many attempts the job may use up until its present model has had its share."""
    return (job.max_attempts or settings.max_attempts) * (claim.route + 1)


def _next_route(policy: Policy, claim: Claim, job: Job, settings: Settings) -> int | None:
    """Return the next fallback where another model might answer, passing over those without known limits here."""
    if policy.fallback:
        for route in range(claim.route + 1, len(job.models)):
            with contextlib.suppress(UnknownModel):  # the producer's settings knew it, this worker's do not
                settings.class_of(job.models[route])
                return route
    return None


def _fall_back(onward: int | None) -> Decision:
    return Settle() if onward is None else GoBack(timedelta(0), uses_attempt=True, route=onward)
