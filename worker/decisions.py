"""What follows from an outcome. Pure: time, chance and settings are handed in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from promptmill.jobs import Job
from promptmill.models import UnknownModel
from promptmill.queue import Claim, Effect, Reply, Report, Standing
from promptmill.settings import Settings
from worker.outcomes import Policy, Verdict

FOR_NEWER_WORKERS: Final = (timedelta(seconds=1), timedelta(minutes=10))
"""The shortest and the longest wait of a job that only a newer worker can read, before a claim finds it again."""


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


def report_on(
    policy: Policy, claim: Claim, *, retry_after: timedelta | None, settings: Settings, now: datetime
) -> Report | None:
    """Return what the fleet is to be told of an attempt that came to `policy`; None where it tells nothing."""
    effect = _effect(policy, claim, settings)
    if effect is None:
        return None
    parks = effect is Effect.PARKS
    return Report(
        claim=claim,
        outcome=policy.name,
        effect=effect,
        may_use_attempt=policy.personal or policy.verdict is Verdict.RETRY,
        probe_every=settings.spend_probe_interval if policy.monthly else settings.probe_interval,
        ends_at=_next_month(now) if policy.monthly else None,
        retry_after=timedelta(0) if parks or retry_after is None else retry_after,
        fallback_after=settings.fallback_after if policy.fallback else None,
        outage_patience=settings.outage_patience,
        retry_share=settings.retry_share,
    )


def _effect(policy: Policy, claim: Claim, settings: Settings) -> Effect | None:
    """Return what an outcome tells of its model class; None where there is nothing to report.

    Where a proxy answered it may be this host that is cut off, and another worker gets the job through. One that was
    sent as often as a job has attempts may be what the proxy refuses: it is judged as others are that fail, and ends.
    """
    match policy.verdict:
        case Verdict.ANSWERED | Verdict.FINAL | Verdict.PAUSE:
            return None
        case Verdict.PARK:  # what one job may not do, others may: only a row of such refusals tells of the account
            return Effect.MAY_PARK if policy.personal else Effect.PARKS
        case Verdict.RETRY | Verdict.WAIT if not policy.trips:
            return Effect.NONE
        case Verdict.RETRY if claim.number > settings.max_attempts:
            return Effect.TRIPS
        case Verdict.RETRY | Verdict.WAIT:
            return Effect.UNREACHED if policy.unread else Effect.TRIPS


def reply_of(policy: Policy) -> Reply:
    """Return what the reply to a request that brought no result shows of the provider.

    Nothing where it was refused for its rate: that is said without looking at it.
    """
    if policy.verdict is not Verdict.FINAL:
        return Reply.NONE
    return Reply.ANSWERED if policy.billed else Reply.TAKEN  # what is billed the model has seen


def decide(
    policy: Policy,
    *,
    retry_after: timedelta | None,
    standing: Standing,
    claim: Claim,
    job: Job,
    settings: Settings,
    stopped: Collection[str] = (),
    chance: Callable[[], float],
) -> Decision:
    """Return what is to be done with `job` after an attempt came to `policy`.

    `standing` is what the fleet answered to the report; `stopped` are models that no job falls back to. `chance`
    returns a number in [0, 1): backoff is spread over the whole interval, so that jobs that failed together do not come
    back together.
    """
    onward = next_route(claim, job, settings, stopped) if policy.fallback else None
    asked_to_wait = retry_after or policy.pause or timedelta(0)
    # Whoever asks for a wait is obeyed; another model need not wait for it.
    elsewhere = onward if asked_to_wait > settings.fallback_after else None
    decision: Decision = Settle()
    match policy.verdict:
        case Verdict.ANSWERED:
            pass
        case Verdict.FINAL:
            decision = _fall_back(onward)
        case Verdict.PARK if policy.personal and standing.to_blame:
            decision = _fall_back(onward)
        case Verdict.PARK:
            wait = max(backoff(claim.number - 1, settings, chance), standing.wait)
            wait = wait if policy.personal and not standing.is_out else timedelta(0)
            decision = GoBack(wait, uses_attempt=False, route=claim.route)
        case Verdict.PAUSE:
            route = claim.route if elsewhere is None else elsewhere
            decision = GoBack(timedelta(0), uses_attempt=False, route=route, pause=asked_to_wait)
        case Verdict.RETRY | Verdict.WAIT if standing.is_cut_off:
            decision = GoBack(timedelta(0), uses_attempt=False, route=claim.route)  # another worker gets through
        case Verdict.RETRY | Verdict.WAIT:
            used_up = (job.max_attempts or settings.max_attempts) * (claim.route + 1)
            if policy.verdict is Verdict.RETRY and standing.to_blame:
                wait = max(backoff(claim.attempts, settings, chance), asked_to_wait, standing.wait)
                again = _again(claim, wait, elsewhere, uses_attempt=True)
                decision = _fall_back(onward) if claim.attempts + 1 >= used_up else again
            else:
                # A class that is out is asked at every probe interval, so nobody waits longer for one that may be.
                patience = min(backoff(claim.number - 1, settings, chance), settings.probe_interval)
                wait = max(patience, asked_to_wait, standing.wait)
                onward = onward if claim.number >= used_up else elsewhere
                decision = _again(claim, timedelta(0) if standing.is_out else wait, onward, uses_attempt=False)
    return decision


def _again(claim: Claim, wait: timedelta, elsewhere: int | None, *, uses_attempt: bool) -> Decision:
    if elsewhere is not None:
        return GoBack(timedelta(0), uses_attempt=uses_attempt, route=elsewhere)
    return GoBack(wait, uses_attempt=uses_attempt, route=claim.route)


def backoff(failures: int, settings: Settings, chance: Callable[[], float]) -> timedelta:
    """Return a wait with full jitter: evenly spread up to twice a mean that doubles with each failure."""
    mean = min(settings.backoff * (1 << min(failures, 20)), settings.max_backoff)
    return 2 * mean * chance()


def wait_for_newer_worker(age: timedelta) -> timedelta:
    """Return how long a job of this age is left alone: often tried while a deploy is under way, seldom where none is.

    As long as it has waited already, so each wait is twice the one before, and nobody has to count them.
    """
    shortest, longest = FOR_NEWER_WORKERS
    return min(max(age, shortest), longest)


def next_route(claim: Claim, job: Job, settings: Settings, stopped: Collection[str] = ()) -> int | None:
    """Return the next fallback, passing over those `stopped` or without known limits here; None where there is none."""
    for route in range(claim.route + 1, len(job.models)):
        if job.models[route] in stopped:
            continue
        with contextlib.suppress(UnknownModel):  # the producer's settings knew it, this worker's do not
            settings.class_of(job.models[route])
            return route
    return None


def _next_month(now: datetime) -> datetime:
    """Return when the spend limits of this month end."""
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=31)).replace(day=1)


def _fall_back(onward: int | None) -> Decision:
    return Settle() if onward is None else GoBack(timedelta(0), uses_attempt=True, route=onward)
