"""How a job ends: its result, what is written about it, and what its settlement says. Pure but for the clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final, TypeVar

import structlog

from promptmill.caps import NANO
from promptmill.grading import grading_job
from promptmill.jobs import Job
from promptmill.pacing import Cost
from promptmill.queue import Claim, Reply, Settlement, Submission, keys, kind_of, prepare
from promptmill.results import Attempt, DeadLetter, Failure, Result, Status, Usage
from promptmill.settings import Settings
from promptmill.store import Entry
from promptmill.wire import pack_result
from worker import events
from worker.decisions import reply_of
from worker.logs import where
from worker.outcomes import POLICIES, Policy, Sighting, Verdict
from worker.pricing import cost_usd
from worker.provider import Exchange
from worker.quality import Answer, PlugIns, measure
from worker.quality.tools import tool_calls_fit

Made = TypeVar("Made")

NOTHING_SENT: Final = Cost(requests=0, input=0, output=0)
"""What a claim used up under which no request was sent: its reservation goes back whole."""


FOUND: Final = "found_in_store"
"""Stands in the log where an outcome would: no request was sent."""


@dataclass(frozen=True, slots=True)
class Work:
    """A job that was read and may be sent."""

    claim: Claim
    job: Job
    request: dict[str, Any]
    """The body for the model whose turn it is."""
    enqueued_at: datetime

    @property
    def due_at(self) -> datetime:
        """Since when the job could have been sent."""
        return max(self.enqueued_at, self.job.not_before or self.enqueued_at)


@dataclass(frozen=True, slots=True)
class Ending:
    """A result on its way into the store and out of Redis."""

    claim: Claim
    result: Result
    outcome: str
    entries: tuple[Entry, ...]
    """What is written; empty where the result is in the store already."""
    keep: timedelta
    enqueued_at: datetime
    used: Cost | None
    run: str | None = None
    """The run that waits for it: not the result's own, where another run was answered before."""
    spent: Decimal | None = None
    """Of the result's cost, what nobody has counted yet."""
    failed_with: Reply = Reply.NONE
    grading: Submission | None = None
    """The job that grades the answer. In the queue before this one leaves it: a worker that dies in between is followed
    by one that finds the answer, and submits the same again."""

    @property
    def settlement(self) -> Settlement:
        """What Redis is told."""
        result = self.result
        return Settlement(
            claim=self.claim,
            status=result.status,
            result=pack_result(result, queue=keys.QUEUE, enqueued_at=self.enqueued_at) if self.keep else b"",
            keep=self.keep,
            run=self.run,
            used=self.used,
            cost_nano_usd=nano(result.cost_usd),
            spent_nano_usd=nano(self.spent),
            failed_with=self.failed_with,
        )


class Endings:
    """Makes endings. Holds what every result of one worker has in common."""

    def __init__(
        self, settings: Settings, *, worker: str, now: Callable[[], datetime], plug_ins: PlugIns | None = None
    ) -> None:
        self._settings = settings
        self._plug_ins = plug_ins or PlugIns()
        self._worker = worker
        self._now = now
        self._unpriced: set[str] = set()

    def seen(self, work: Work, exchange: Exchange) -> Sighting:
        """Return what was seen of an answer, and what only the request tells of it: whether tool calls fit."""
        message = exchange.message
        if message is None or message.get("stop_reason") != "tool_use":
            return exchange.sighting
        answer = Answer.from_message(message)
        fit = self._spared(work, "tools", lambda: tool_calls_fit(answer, work.request))
        return replace(exchange.sighting, tools_fit=fit)

    def attempt(self, work: Work, exchange: Exchange, policy: Policy) -> Attempt:
        """Return the record of one request."""
        sighting, message = exchange.sighting, exchange.message
        told = message.get("usage") if message is not None else None
        usage = Usage.from_api(told) if isinstance(told, dict) else None
        return Attempt(
            number=work.claim.number,
            model=exchange.model,
            started_at=exchange.started_at,
            ended_at=exchange.ended_at,
            outcome=policy.name,
            status_code=sighting.status_code,
            request_id=exchange.request_id,
            first_byte=exchange.first_byte,
            usage=usage,
            cost_usd=None if usage is None else self._spared(work, "cost", lambda: self._cost(usage, exchange)),
            failure=None if policy.verdict is Verdict.ANSWERED else failure_of(policy, sighting.message),
        )

    def answered(self, work: Work, exchange: Exchange, attempts: tuple[Attempt, ...]) -> Ending:
        """Return the end of a job whose last attempt was answered."""
        message, attempt = exchange.message or {}, attempts[-1]
        answer = Answer.from_message(message)
        result = self._result(
            work,
            Status.SUCCEEDED,
            attempts,
            model=str(message.get("model") or attempt.model),
            text=answer.text,
            message=message,
            usage=attempt.usage,
            quality=self._spared(work, "quality", lambda: self._measure(work, answer)),
            latency=attempt.duration,
        )
        used = used_by(work.claim, attempt, self._settings)
        return self._ending(work, result, attempt.outcome, (result,), used=used, spent=attempt.cost_usd)

    def failed(self, work: Work, exchange: Exchange, attempts: tuple[Attempt, ...]) -> Ending:
        """Return the end of a job that becomes a dead letter after its last attempt."""
        attempt = attempts[-1]
        message = exchange.message if attempt.usage else None
        failure = attempt.failure or failure_of(POLICIES[attempt.outcome], "")
        result = self._result(
            work,
            Status.FAILED,
            attempts,
            model=attempt.model,
            text=None if message is None else Answer.from_message(message).text,
            message=message,
            usage=attempt.usage,
            error=failure,
        )
        letter = self._letter(work.claim, result, failure, attempts=work.claim.attempts + 1, redrivable=True)
        used = used_by(work.claim, attempt, self._settings)
        ending = self._ending(work, result, attempt.outcome, (result, letter), used=used, spent=attempt.cost_usd)
        return replace(ending, failed_with=reply_of(POLICIES[attempt.outcome]))

    def without_answer(self, work: Work, status: Status, attempts: tuple[Attempt, ...], *, used: Cost | None) -> Ending:
        """Return the end of a job that was cancelled or expired."""
        result = self._result(work, status, attempts)
        return self._ending(work, result, status.value, (result,), used=used)

    def found(self, of: Work | Ending, result: Result) -> Ending:
        """Return the end of a job whose answer was in the store already (I6), even if it could not be run any more."""
        # Who recorded it died before it was settled, unless the job was submitted again: requests then count anew.
        last = result.attempts[-1] if result.attempts else None
        spent = last.cost_usd if last is not None and last.number < of.claim.number else None
        if isinstance(of, Ending):
            return replace(of, result=result, outcome=FOUND, entries=(), spent=spent)
        return self._ending(of, result, FOUND, (), used=NOTHING_SENT, spent=spent)

    def given_up(self, work: Work, attempts: tuple[Attempt, ...]) -> Ending:
        """Return the end of a job that may be what kills the workers."""
        failure = failure_of(POLICIES["lost_too_often"], f"{work.claim.lost} of them")
        result = self._result(work, Status.FAILED, attempts, error=failure)
        letter = self._letter(work.claim, result, failure, attempts=work.claim.attempts, redrivable=True)
        return self._ending(work, result, failure.name, (result, letter), used=NOTHING_SENT)

    def buried(self, claim: Claim, name: str, message: str) -> Ending:
        """Return the end of a job that cannot be read."""
        job_id = claim.key.decode("utf-8", "backslashreplace")
        failure = failure_of(POLICIES[name], message)
        now = self._now()
        lane = claim.lane.value
        result = Result(job_id, Status.FAILED, error=failure, lane=lane, finished_at=now, worker=self._worker)
        letter = self._letter(claim, result, failure, attempts=claim.attempts, redrivable=False)
        return Ending(claim, result, name, (result, letter), self._settings.keep_result, now, NOTHING_SENT)

    def unread(self, claim: Claim, status: Status) -> Ending:
        """Return the end of a job that was cancelled or expired, and that only a newer worker can read."""
        now = self._now()
        job_id = claim.key.decode("utf-8", "backslashreplace")
        result = Result(job_id, status, lane=claim.lane.value, finished_at=now, worker=self._worker)
        return Ending(claim, result, status.value, (result,), self._settings.keep_result, now, NOTHING_SENT)

    def _result(self, work: Work, status: Status, attempts: tuple[Attempt, ...], **more: Any) -> Result:
        job = work.job
        result = Result(
            job.id,
            status,
            attempts=attempts,
            cost_usd=total_cost(attempts),
            lane=job.lane.value,
            asked_model=job.model,
            kind=kind_of(job),
            tags=job.tags,
            run=job.run,
            position=job.position,
            request_ref=job.request_ref,
            submitted_at=work.enqueued_at,
            finished_at=self._now(),
            queue_time=max(timedelta(0), attempts[0].started_at - work.due_at) if attempts else None,
            worker=self._worker,
            **more,
        )
        if not job.for_claude_code:
            return result
        return self._spared(work, "claude_code", result.for_claude_code) or result

    def _letter(self, claim: Claim, result: Result, failure: Failure, *, attempts: int, redrivable: bool) -> DeadLetter:
        return DeadLetter(
            result.job_id,
            reason=failure.name,
            message=failure.message,
            payload=claim.payload or b"",
            died_at=result.finished_at,
            attempts=attempts,
            redrivable=redrivable,
        )

    def _ending(
        self,
        work: Work,
        result: Result,
        outcome: str,
        entries: tuple[Entry, ...],
        *,
        used: Cost | None,
        spent: Decimal | None = None,
    ) -> Ending:
        keep = self._settings.keep_result if work.job.keep_result is None else work.job.keep_result
        grading = self._spared(work, "grading", lambda: self._grading(work.job, result))
        return Ending(
            work.claim, result, outcome, entries, keep, work.enqueued_at, used, work.job.run, spent, grading=grading
        )

    def _grading(self, job: Job, result: Result) -> Submission | None:
        how = self._settings.grading
        if not how.chooses(job, result):
            return None
        return prepare(grading_job(job, result, model=how.model, rubric=how.rubric), self._settings, now=self._now())

    def _spared(self, work: Work, what: str, make: Callable[[], Made]) -> Made | None:
        """Return what `make` returns, or None if it fails: what was paid for is kept, measured or not (I6)."""
        try:
            return make()
        except Exception as error:  # noqa: BLE001 - as above
            structlog.get_logger().error(
                events.MEASURE_FAILED, job=work.job.id, what=what, error=type(error).__name__, where=where(error)
            )
            return None

    def _measure(self, work: Work, answer: Answer) -> dict[str, Any]:
        return measure(
            answer,
            request=work.request,
            expectation=work.job.expect,
            tags=work.job.tags,
            also=partial(self._plug_ins.measure, job=work.job.id),
        )

    def _cost(self, usage: Usage, exchange: Exchange) -> Decimal | None:
        cost = cost_usd(usage, exchange.model, at=exchange.started_at)
        if cost is None and exchange.model not in self._unpriced:
            self._unpriced.add(exchange.model)
            structlog.get_logger().warning(events.PRICE_UNKNOWN, model=exchange.model)
        return cost


def total_cost(attempts: tuple[Attempt, ...]) -> Decimal | None:
    """Return what all attempts cost, or None where a billed one has no known price."""
    billed = [attempt.cost_usd for attempt in attempts if attempt.usage is not None]
    known = [cost for cost in billed if cost is not None]
    return sum(known, Decimal(0)) if len(known) == len(billed) else None


def nano(usd: Decimal | None) -> int:
    """Return an amount as Redis counts it; what has no known price counts nothing."""
    return int((usd or 0) * NANO)


def interrupted_attempt(work: Work, started_at: datetime, ended_at: datetime) -> Attempt:
    """Return the record of a request whose answer was not awaited."""
    policy = POLICIES["interrupted"]
    model = work.request["model"]
    return Attempt(work.claim.number, model, started_at, ended_at, policy.name, failure=failure_of(policy, ""))


def failure_of(policy: Policy, said: str) -> Failure:
    """Return the failure that `policy` names, with what was said about it."""
    return Failure(policy.name, f"{policy.says}: {said}" if said else policy.says, policy.blame.value)


def used_by(claim: Claim, attempt: Attempt, settings: Settings) -> Cost | None:
    """Return what an attempt took from the budget; None where nobody knows, so that the reservation stands."""
    if attempt.usage is not None:
        usage = attempt.usage
        counts_all = settings.counts_cache_reads(claim.budget)
        return Cost(1, usage.prompt_tokens if counts_all else usage.limited_input_tokens, usage.output_tokens)
    policy = POLICIES[attempt.outcome]
    if policy.billed:
        return None
    return Cost(1, 0 if policy.unread else claim.reserved.input, 0)
