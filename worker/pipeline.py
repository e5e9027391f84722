"""The way of one claimed job: load, send, classify, decide, record, settle, report."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import structlog

from promptmill.errors import BadInput, LeaseLost
from promptmill.halts import Halts
from promptmill.jobs import Job
from promptmill.lines import job_from_line
from promptmill.queue import Claim, Disposition, Settled, Snooze, Standing, expected_cost, prepare
from promptmill.results import Attempt, Status
from promptmill.settings import Settings
from promptmill.store import AttemptRecord
from promptmill.wire import Envelope, TooNew, Unreadable, job_fields, unpack_envelope, unpack_job
from worker import events
from worker.calls import Stopped, StopReason
from worker.decisions import GoBack, decide, next_route, reply_of, report_on, wait_for_newer_worker
from worker.endings import NOTHING_SENT, Ending, Endings, Work, interrupted_attempt, nano, used_by
from worker.leases import Lease
from worker.outcomes import POLICIES, Policy, Verdict, classify
from worker.provider import Provider
from worker.quality import PlugIns
from worker.recorder import Recorder
from worker.telemetry import Meters, NoMeters, span_of_job, span_of_request, tell_attempt
from worker.uplink import Uplink

_ENDED_BY: Final = {Disposition.CANCELLED: Status.CANCELLED, Disposition.EXPIRED: Status.EXPIRED}


@dataclass(slots=True)
class Tally:
    """What this worker has done since it started. Written by the pipeline, read by whoever reports."""

    ended: dict[Status, int] = field(default_factory=lambda: dict.fromkeys(Status, 0))
    returned: int = 0


class Pipeline:
    """Runs claimed jobs. One for a worker process; `run` is called once for each claim, many at a time.

    `hear` is handed the headers of every answer as soon as they come; `halts` tells what the newest claim did,
    and `tell` is handed what is news to the whole fleet.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        recorder: Recorder,
        provider: Provider,
        hear: Callable[[Claim, Mapping[str, str]], None],
        ensure_lease: Callable[[Lease], Awaitable[None]],
        worker: str,
        plug_ins: PlugIns | None = None,
        meters: Meters | None = None,
        uplink: Uplink | None = None,
        halts: Callable[[], Halts] = Halts,
        tell: Callable[[str, Mapping[str, Any]], None] = lambda _event, _about: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._recorder = recorder
        self._provider = provider
        self._hear = hear
        self._ensure_lease = ensure_lease
        self._endings = Endings(settings, worker=worker, now=now, plug_ins=plug_ins)
        self._meters = meters or NoMeters()
        self._uplink = uplink or Uplink()
        self._halts = halts
        self._tell = tell
        self._now = now
        self._chance = chance
        self._log = structlog.get_logger()
        self._paused_until: dict[str, datetime] = {}
        """Until when the pauses last that were said."""
        self._too_new: set[int] = set()
        """Wire versions of which it was said that this worker does not read them."""
        self.tally = Tally()

    async def run(self, lease: Lease) -> None:
        """Bring the job that `lease` allows to run one step further: to its end, or back to the queue.

        When the lease is lost nothing is written: whoever holds it now goes on (I2).
        """
        try:
            try:
                loaded = await self._load(lease.claim)
            except TooNew as error:
                await self._leave_to_newer(lease.claim, error)
                return
            match loaded:
                case Work() as work:
                    await self._attempt(work, lease)
                case Ending() as ending:
                    await self._end(ending, lease)
                case None:
                    pass
        except LeaseLost:
            self._log.warning(events.LEASE_LOST, job=lease.claim.job_id)

    async def _load(self, claim: Claim) -> Work | Ending | None:
        """Return work to be sent, or how the job ends without; None when it was adopted or is to ask another model.

        Raises TooNew.
        """
        read = self._read(claim)
        if found := await self._recorder.finished(claim.job_id):
            return self._endings.found(read, found)
        if isinstance(read, Ending):
            return read
        if status := _ENDED_BY.get(claim.disposition):
            return self._endings.without_answer(read, status, await self._attempts_before(claim), used=NOTHING_SENT)
        if claim.lost >= self._settings.max_lost_leases:
            return self._endings.given_up(read, await self._attempts_before(claim))
        if claim.disposition is Disposition.REROUTE or self._is_stopped(read):
            await self._reroute(read)
            return None
        return await self._adopt(read) if claim.disposition is Disposition.FOREIGN else read

    def _read(self, claim: Claim) -> Work | Ending:
        """Return the job in the payload, or its burial. Raises TooNew where others have to see to it."""
        if claim.payload is None:
            return self._endings.buried(claim, "payload_missing", "somebody deleted its arq:job key")
        try:
            envelope = unpack_envelope(claim.payload)
            job = unpack_job(envelope, job_id=claim.job_id) if claim.budget else self._read_foreign(claim, envelope)
        except TooNew:
            if status := _ENDED_BY.get(claim.disposition):
                return self._endings.unread(claim, status)
            raise
        except Unreadable as error:
            return self._endings.buried(claim, error.name, str(error))
        except BadInput as error:
            return self._endings.buried(claim, "bad_job", str(error))
        model = job.models[min(claim.route, len(job.fallbacks))]
        return Work(claim, job, {**job.request, "model": model}, envelope.enqueued_at)

    def _read_foreign(self, claim: Claim, envelope: Envelope) -> Job:
        """Return the job that an arq client described, in any of the forms that a line of a file may have."""
        fields = job_fields(envelope)
        return job_from_line(fields, model=self._settings.model, max_tokens=self._settings.max_tokens, id=claim.job_id)

    async def _leave_to_newer(self, claim: Claim, error: TooNew) -> None:
        """Give the job back for workers that can read it: it is neither lost nor sent, and costs nothing (I3)."""
        if error.version not in self._too_new:
            self._too_new.add(error.version)
            self._log.warning(events.WORKER_TOO_OLD, says=str(error))
        wait = wait_for_newer_worker(self._now() - error.enqueued_at)
        await self._recorder.give_back(Snooze(claim, wait=wait, sent=False, used=NOTHING_SENT))
        self.tally.returned += 1
        self._log.info(events.JOB_LEFT, job=claim.job_id, version=error.version, wait_s=_seconds(wait))

    async def _adopt(self, work: Work) -> Ending | None:
        try:
            submission = prepare(work.job, self._settings, now=work.enqueued_at)
        except BadInput as error:
            return self._endings.buried(work.claim, "bad_job", str(error))
        await self._recorder.adopt(work.claim, submission)
        self._log.info(events.JOB_ADOPTED, job=work.job.id)
        return None

    async def _reroute(self, work: Work) -> None:
        """Give the job back for the next model that it may ask; no request was sent."""
        claim, job, halts = work.claim, work.job, self._halts()
        route = next_route(claim, job, self._settings, halts.fallbacks)
        if route is None and self._is_stopped(work):
            route = 0  # the fallback that it waited for was stopped: it waits for the model that it asked first
        if route is None and next_route(claim, job, self._settings) is not None:
            await self._recorder.give_back(Snooze(claim, sent=False, used=NOTHING_SENT, halted=halts.version))
            return
        if route is None:  # this worker knows the limits of none: another one may, after a while
            wait = self._settings.probe_interval
            await self._recorder.give_back(Snooze(claim, wait=wait, sent=False, used=NOTHING_SENT))
            return
        changed = self._rerouted(job, claim, route)
        await self._recorder.give_back(Snooze(claim, sent=False, used=NOTHING_SENT, **changed))
        self._log.info(events.JOB_REROUTED, job=job.id, model=work.request["model"], next=job.models[route])

    def _is_stopped(self, work: Work) -> bool:
        """Whether a job waited for a fallback that was stopped meanwhile."""
        return work.claim.route > 0 and work.request["model"] in self._halts().fallbacks

    async def _attempt(self, work: Work, lease: Lease) -> None:
        with span_of_job(work.job, lease.claim):
            await self._send(work, lease)

    async def _send(self, work: Work, lease: Lease) -> None:
        await self._ensure_lease(lease)
        claim, started_at = work.claim, self._now()
        try:
            with span_of_request(work.request) as span:
                exchange = await lease.call.run(
                    self._provider.send(work.request, job_id=work.job.id, hear=partial(self._hear, claim))
                )
                policy = classify(self._endings.seen(work, exchange))
                attempt = self._endings.attempt(work, exchange, policy)
                tell_attempt(span, attempt, exchange.message)
        except Stopped as stopped:
            await self._stopped(work, lease, stopped, started_at)
            return
        self._meters.attempted(attempt, lane=claim.lane)
        standing = await self._report(claim, policy, exchange.sighting.retry_after)
        self._uplink.note(cut_off=standing.is_cut_off, started_at=exchange.started_at)
        decision = decide(
            policy,
            retry_after=exchange.sighting.retry_after,
            standing=standing,
            claim=claim,
            job=work.job,
            settings=self._settings,
            stopped=self._halts().fallbacks,
            chance=self._chance,
        )
        if isinstance(decision, GoBack):
            await self._go_back(work, lease, attempt, policy, decision)
            return
        with self._recorder.holding():  # the store may be away already as it is asked for what came before
            attempts = (*await self._attempts_before(claim), attempt)
        end = self._endings.answered if policy.verdict is Verdict.ANSWERED else self._endings.failed
        await self._end(end(work, exchange, attempts), lease)

    async def _report(self, claim: Claim, policy: Policy, retry_after: timedelta | None) -> Standing:
        """Tell the fleet of a failure, and whoever reads the log where it is news to all of them."""
        report = report_on(policy, claim, retry_after=retry_after, settings=self._settings, now=self._now())
        if report is None:
            return Standing()
        standing = await self._recorder.report(report)
        if standing.is_news:
            parks = policy.verdict is Verdict.PARK
            say = self._log.error if parks else self._log.warning
            news = {
                "model_class": claim.budget,
                "outcome": policy.name,
                "says": policy.says,
                "probe_s": _seconds(report.probe_every),
            }
            say(events.BUDGET_PARKED if parks else events.BREAKER_OPENED, **news)
            self._tell("parked" if parks else "outage", news)
        return standing

    def _say_closed(self, settled: Settled, claim: Claim) -> None:
        if settled is Settled.GOES_ON:
            self._log.info(events.BREAKER_CLOSED, model_class=claim.budget)

    async def _stopped(self, work: Work, lease: Lease, stopped: Stopped, started_at: datetime) -> None:
        """Deal with a call that was not awaited to its end."""
        if stopped.reason is StopReason.LEASE_LOST:
            raise LeaseLost(work.claim.job_id)
        attempt = interrupted_attempt(work, started_at, self._now()) if stopped.sent else None
        if stopped.reason is StopReason.SHUTDOWN:
            back = GoBack(timedelta(0), uses_attempt=False, route=work.claim.route)
            await self._go_back(work, lease, attempt, POLICIES["interrupted"], back)
            return
        attempts = (*await self._attempts_before(work.claim), *([attempt] if attempt else []))
        used = None if attempt else NOTHING_SENT
        await self._end(self._endings.without_answer(work, Status.CANCELLED, attempts, used=used), lease)

    async def _attempts_before(self, claim: Claim) -> tuple[Attempt, ...]:
        """Return what was recorded of earlier requests: nothing where this was the first claim."""
        if claim.number <= 1:
            return ()
        before = await self._recorder.attempts(claim.job_id)
        return tuple(attempt for attempt in before if attempt.number < claim.number)

    async def _end(self, ending: Ending, lease: Lease) -> None:
        await self._ensure_lease(lease)
        if ending.entries:
            await self._recorder.record(*ending.entries)
        if ending.grading is not None:
            await self._recorder.submit(ending.grading)
        result = ending.result
        settled = await self._recorder.settle(ending.settlement)
        if settled is Settled.LEASE_LOST:
            raise LeaseLost(result.job_id)
        self._say_closed(settled, ending.claim)
        self.tally.ended[result.status] += 1
        self._meters.ended(result, fell_back=ending.claim.route > 0)
        self._log.info(
            events.JOB_ENDED,
            job=result.job_id,
            status=result.status.value,
            outcome=ending.outcome,
            model=result.model,
            lane=result.lane,
            run=result.run,
            attempt=ending.claim.number,
            latency_s=_seconds(result.latency),
            queue_time_s=_seconds(result.queue_time),
            input_tokens=result.usage.prompt_tokens if result.usage else None,
            output_tokens=result.usage.output_tokens if result.usage else None,
            cost_usd=None if result.cost_usd is None else str(result.cost_usd),
        )

    async def _go_back(
        self, work: Work, lease: Lease, attempt: Attempt | None, policy: Policy, decision: GoBack
    ) -> None:
        claim, job = work.claim, work.job
        await self._ensure_lease(lease)
        if attempt is not None:
            await self._recorder.record(AttemptRecord(job.id, attempt))
        snooze = Snooze(
            claim=claim,
            wait=decision.wait,
            uses_attempt=decision.uses_attempt,
            sent=attempt is not None,
            used=NOTHING_SENT if attempt is None else used_by(claim, attempt, self._settings),
            spent_nano_usd=0 if attempt is None else nano(attempt.cost_usd),
            reply=reply_of(policy),
            **self._rerouted(job, claim, decision.route),
        )
        if decision.pause is not None:
            self._say_pause(claim.budget, policy, decision.pause)
        self._say_closed(await self._recorder.give_back(snooze, pause=decision.pause, reason=policy.name), claim)
        self.tally.returned += 1
        self._log.info(
            events.JOB_WENT_BACK,
            job=job.id,
            outcome=policy.name,
            blame=policy.blame.value,
            message=attempt.failure.message if attempt and attempt.failure else policy.says,
            model=work.request["model"],
            attempt=claim.number,
            wait_s=_seconds(decision.wait),
            uses_attempt=decision.uses_attempt,
            request_id=attempt.request_id if attempt else None,
        )

    def _rerouted(self, job: Job, claim: Claim, route: int) -> dict[str, Any]:
        """Return what a snooze says of the model to be asked next: nothing where it is the same."""
        if route == claim.route:
            return {}
        request = {**job.request, "model": job.models[route]}
        return {
            "route": route,
            "budget": self._settings.class_of(request["model"]),
            "cost": expected_cost(request, self._settings),
        }

    def _say_pause(self, model_class: str, policy: Policy, pause: timedelta) -> None:
        """Log a pause once: those who were under way when it began run into the same wall."""
        now = self._now()
        if now < self._paused_until.get(model_class, now):
            return
        self._paused_until[model_class] = now + pause
        self._log.warning(events.BUDGET_PAUSED, model_class=model_class, outcome=policy.name, pause_s=_seconds(pause))


def _seconds(duration: timedelta | None) -> float | None:
    return None if duration is None else round(duration.total_seconds(), 6)
