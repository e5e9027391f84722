"""The queue in Redis: one typed method for each script in lua/. Nobody else runs them."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from promptmill.caps import NANO, CapReached, SpendCap, parked_lanes
from promptmill.errors import LeaseLost
from promptmill.foresight import Backlog
from promptmill.halts import Halts, What, halt_field
from promptmill.pacing import DIMENSIONS, Charge, Pace, Reading
from promptmill.queue import keys, scripts
from promptmill.queue.backlog import read_backlog
from promptmill.queue.claims import LANES, Claim, Claims, Renewal, Settled, Settlement, Snooze, key_of, read_claim
from promptmill.queue.connection import redis_errors
from promptmill.queue.report import Report, Standing
from promptmill.queue.submission import Submission

SUBMIT_CHUNK: Final = 1_000
"""Jobs that one script call takes in: a few ms of Redis' time, so that claims are not held up behind it."""

CALL_BYTES: Final = 8_000_000
"""Payload or results after which a script call takes no more: prompts of megabytes must not add up to a command that
blocks Redis, or that it refuses."""

SAMPLE: Final = 500
"""Records that are read to tell what all that is queued will cost: about a millisecond of Redis' time."""

_OK: Final = b"OK"
_SETTLED: Final = {b"LEASE_LOST": Settled.LEASE_LOST, _OK: Settled.DONE, b"GOES_ON": Settled.GOES_ON}


class Submitted(IntEnum):
    """What became of one submitted job."""

    THERE_ALREADY = 0
    QUEUED = 1
    ENDED_ALREADY = 2
    """Its result is still kept in Redis."""


@dataclass(frozen=True, slots=True)
class NewLimit:
    """A limit of which the provider says otherwise than was thought, in units a minute."""

    dimension: str
    before: float
    limit: float


class Queue:
    """Everything that is done to jobs in Redis.

    `clock`, in ms since the epoch, replaces Redis' own clock in tests. Every method raises QueueUnavailable when Redis
    does not answer or takes no writes. If only the answer was lost it was done all the same; each call can be made
    again: what was submitted is there already, what was settled or given back has no lease any more, and jobs whose
    claim nobody heard of come due when that lease ends.
    """

    def __init__(self, redis: Redis, *, clock: Callable[[], float] | None = None) -> None:
        self.redis = redis
        self._clock = clock
        self._scripts = {name: redis.register_script(scripts.source(name)) for name in scripts.NAMES}

    def _now(self) -> str:
        return "" if self._clock is None else repr(self._clock())

    async def _run(self, name: str, *args: str | bytes | float) -> Any:
        with redis_errors():
            return await self._scripts[name](args=args)

    async def submit(self, submissions: Iterable[Submission]) -> list[Submitted]:
        """Queue jobs, each once by its id; for each, in order, what became of it.

        One round trip for every SUBMIT_CHUNK jobs or CALL_BYTES; `submissions` may be an iterator: the next chunk is
        made while Redis takes in the last. After QueueUnavailable, or an error of the iterator, some chunks may be in:
        submitting all again is safe.
        """
        answers: list[Submitted] = []
        under_way: asyncio.Task[Any] | None = None
        chunks = iter(submissions)
        try:
            while True:
                args: list[str | bytes] = [self._now()]
                size = 0
                for submission in itertools.islice(chunks, SUBMIT_CHUNK):
                    args += (submission.job.id, submission.payload, _placing(submission))
                    size += len(submission.payload)
                    if size >= CALL_BYTES:
                        break
                if under_way is not None:
                    answers += map(Submitted, await under_way)
                    under_way = None
                if len(args) == 1:
                    return answers
                under_way = asyncio.create_task(self._run("submit", *args))
                await asyncio.sleep(0)  # let it be sent before the next chunk is made
        finally:
            if under_way is not None:
                under_way.cancel()
                await asyncio.gather(under_way, return_exceptions=True)

    async def claim(
        self, *, worker: str, lease: timedelta, most: int, token_prefix: str, caps: Sequence[SpendCap] = ()
    ) -> Claims:
        """Lease at most `most` jobs that may be sent now, and none that one of `caps` parks.

        `token_prefix` must never have been used before.
        """
        wait, unconfigured, jobs, reached, halts = await self._run(
            "claim", self._now(), worker, _ms(lease.total_seconds()), most, token_prefix, _caps(caps)
        )
        wait_ms = float(wait)
        return Claims(
            wait=None if wait_ms == -1 else timedelta(milliseconds=max(0.0, wait_ms)),
            unconfigured=tuple(name.decode("utf-8", "replace") for name in unconfigured),
            jobs=tuple(map(read_claim, jobs)),
            reached=tuple(CapReached(caps[place - 1], Decimal(int(spent)) / NANO) for place, spent in reached),
            halts=Halts.read(dict(zip(halts[::2], halts[1::2], strict=True))),
        )

    async def adopt(self, claim: Claim, submission: Submission) -> None:
        """Take in a job that an arq client enqueued. Raises LeaseLost."""
        answer = await self._run("adopt", self._now(), claim.key, claim.token, submission.payload, _placing(submission))
        if answer != _OK:
            raise LeaseLost(claim.job_id)

    async def renew(self, claims: Sequence[Claim], lease: timedelta) -> list[Renewal]:
        """Prolong leases from now on; for each, in order, how it stands.

        Called without any it tells that a worker lives: see lua/_heard.lua.
        """
        pairs = [part for claim in claims for part in (claim.key, claim.token)]
        answers = await self._run("renew", self._now(), _ms(lease.total_seconds()), *pairs)
        return [Renewal(answer) for answer in answers]

    async def settle(self, settlements: Sequence[Settlement]) -> list[Settled]:
        """Take ended jobs out of Redis; for each, in order, what became of it.

        One round trip for every CALL_BYTES of results.
        """
        answers: list[Settled] = []
        args: list[str | bytes | int] = [self._now()]
        size = 0
        for number, settlement in enumerate(settlements, start=1):
            args += _settle_args(settlement)
            size += len(settlement.result)
            if size >= CALL_BYTES or number == len(settlements):
                answers += [_SETTLED[answer] for answer in await self._run("settle", *args)]
                args, size = [self._now()], 0
        return answers

    async def report(self, report: Report) -> Standing:
        """Tell that a request came to nothing; how its job and its model class stand now. Raises LeaseLost."""
        claim, after = report.claim, report.fallback_after
        answer, *standing = await self._run(
            "report",
            self._now(),
            claim.key,
            claim.token,
            report.outcome,
            report.effect.value,
            int(report.may_use_attempt),
            _ms(report.probe_every.total_seconds()),
            0 if report.ends_at is None else _time(report.ends_at),
            _ms(report.retry_after.total_seconds()),
            "" if after is None else _ms(after.total_seconds()),
            _ms(report.outage_patience.total_seconds()),
            report.retry_share,
        )
        if answer != _OK:
            raise LeaseLost(claim.job_id)
        to_blame, is_out, is_news, wait_ms, is_cut_off = standing
        return Standing(
            to_blame=bool(to_blame),
            is_out=bool(is_out),
            is_news=bool(is_news),
            wait=timedelta(milliseconds=float(wait_ms)),
            is_cut_off=bool(is_cut_off),
        )

    async def snooze(self, snooze: Snooze) -> Settled:
        """Give a job back, at once or after a wait; whether its model class goes on by that. Raises LeaseLost."""
        claim, used = snooze.claim, snooze.used
        answer = await self._run(
            "snooze",
            self._now(),
            claim.key,
            claim.token,
            _ms(snooze.wait.total_seconds()),
            int(snooze.uses_attempt),
            "" if used is None else used.input,
            "" if used is None else used.output,
            claim.route if snooze.route is None else snooze.route,
            snooze.budget or claim.budget,
            "" if snooze.cost is None else snooze.cost.input,
            "" if snooze.cost is None else snooze.cost.output,
            int(snooze.sent),
            snooze.spent_nano_usd,
            snooze.reply.value,
            snooze.halted,
        )
        settled = _SETTLED[answer]
        if settled is Settled.LEASE_LOST:
            raise LeaseLost(claim.job_id)
        return settled

    async def cancel(self, job_ids: Iterable[str]) -> dict[str, str]:
        """Stop jobs; for each id `CANCELLED` (it was queued), `STOPPING` (it runs) or `UNKNOWN`."""
        ids = list(job_ids)
        if not ids:
            return {}
        answers = await self._run("cancel", self._now(), *map(key_of, ids))
        return {job_id: answer.decode() for job_id, answer in zip(ids, answers, strict=True)}

    async def configure(
        self, model_class: str, paces: dict[str, Pace], *, pinned: bool = False, warm_up: timedelta = timedelta(0)
    ) -> bool:
        """Set a budget's limits; whether the budget is new. A new budget starts empty.

        Limits that the provider named itself stay, unless they are `pinned`. After a rest the budget takes `warm_up` to
        come to its whole rate.
        """
        numbers = [number for d in DIMENSIONS for number in (paces[d].limit, paces[d].rate, paces[d].burst)]
        about = (int(pinned), _ms(warm_up.total_seconds()))
        return bool(await self._run("configure", self._now(), model_class, *about, *numbers))

    async def observe(self, model_class: str, charge: Charge, readings: Mapping[str, Reading]) -> list[NewLimit]:
        """Take in what the headers of an answer say of the provider's buckets, by dimension; the limits that are news.

        `charge` is that of its request: an answer to an older one than was heard before changes nothing.
        """
        said = [number for d in DIMENSIONS for number in _said(readings.get(d, Reading()))]
        spent = (getattr(charge.spent, d) for d in DIMENSIONS)
        news = await self._run("observe", self._now(), model_class, charge.at, *spent, *said)
        return [NewLimit(d.decode(), float(before), float(limit)) for d, before, limit in news]

    async def block(self, model_class: str, wait: timedelta, reason: str, *, refused: Claim | None = None) -> None:
        """Let nobody spend from a budget for a time; no shorter block cuts a longer one. Zero lifts the block.

        After the reasons in promptmill.pacing.GROWTH it goes on at half its rate, and comes back evenly. `refused` is
        the claim whose request the provider refused: one that was under way at the last slow-down halves nothing.
        """
        wait_ms = math.ceil(wait / timedelta(milliseconds=1))
        await self._run("block", self._now(), model_class, wait_ms, reason, "" if refused is None else refused.key)

    async def hasten(self, model_class: str) -> bool:
        """Let the next probe of a model class that is out go at once; whether that is sooner."""
        return bool(await self._run("hasten", self._now(), model_class))

    async def resume(self, model_class: str) -> None:
        """Let a model class go on at once, at its whole rate, whatever kept it back."""
        await self.block(model_class, timedelta(0), "")

    async def halt(self, what: What, name: str, *, by: str, why: str = "", lasting: timedelta = timedelta(0)) -> None:
        """Pause the lane `name`, or stop using the model `name` as a fallback; zero lasts until it is lifted.

        What runs goes on. Raises ValueError for an unknown lane.
        """
        lasting_ms = math.ceil(lasting / timedelta(milliseconds=1))
        said = " ".join(why.split()).encode("utf-8", "replace")  # a terminal may hand over anything
        await self._run("halt", self._now(), key_of(halt_field(what, name, by)), lasting_ms, said)

    async def lift(self, what: What, name: str, *, by: str) -> bool:
        """Let go on what `by` held back; whether it did."""
        return bool(await self._run("lift", self._now(), key_of(halt_field(what, name, by))))

    async def halts(self, now: float) -> Halts:
        """Return what is held back at `now` (ms on Redis' clock). Raises QueueUnavailable."""
        with redis_errors():
            return Halts.read(await self.redis.hgetall(keys.HALTS), now)  # type: ignore[misc]

    async def backlog(
        self, model_class: str, *, before: str | None = None, caps: Sequence[SpendCap] = (), sample: int = SAMPLE
    ) -> Backlog:
        """Return what is queued for a model class; in the lane of the job `before` only what goes before that job.

        It says which lanes are paused, or wait because one of `caps` is reached.

        Where more jobs are queued than `sample`, their cost is estimated: the mean is off by about the deviation of
        single costs over the root of `sample`. Raises QueueUnavailable.
        """
        answer = await self._run("backlog", self._now(), model_class, sample, "" if before is None else key_of(before))
        backlog = read_backlog(model_class, answer)
        if not caps:
            return backlog
        now = datetime.fromtimestamp(backlog.now / 1000, UTC)
        parked = parked_lanes(caps, await self.spend(), now, model_class)
        return replace(backlog, parked_lanes=backlog.parked_lanes | parked)

    async def spend(self) -> dict[str, str]:
        """Return what was spent in the present hour and day, as `SpendCap.spent` reads it. Raises QueueUnavailable."""
        with redis_errors():
            stored = await self.redis.hgetall(keys.SPEND)  # type: ignore[misc]
        return {name.decode("utf-8", "replace"): entry.decode("utf-8", "replace") for name, entry in stored.items()}

    async def leave(self, worker: str) -> None:
        """Strike a worker that stops from the list of those that can be woken."""
        with redis_errors():
            async with self.redis.pipeline(transaction=False) as pipeline:
                pipeline.zrem(keys.IDLE, worker)
                pipeline.hdel(keys.WORKERS, worker)
                await pipeline.execute()

    async def forget(self, *, seen_before: datetime) -> None:
        """Strike from the list of workers those that were last seen before a time: they were killed."""
        with redis_errors():
            said = await self.redis.hgetall(keys.WORKERS)  # type: ignore[misc]
            gone = [name for name, about in said.items() if _was_seen_before(about, seen_before)]
            if gone:
                await self.redis.hdel(keys.WORKERS, *gone)  # type: ignore[misc]


def _was_seen_before(about: bytes, time: datetime) -> bool:
    try:
        return datetime.fromisoformat(orjson.loads(about)["seen_at"]) < time
    except (ValueError, KeyError, TypeError):
        return False  # of a later version, or not ours


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _time(time: datetime | None) -> int:
    """Return `time` in ms since the epoch, 0 where there is none; 1 means "ready", so no time is earlier than 2."""
    return 0 if time is None else max(2, _ms(time.timestamp()))


def _said(reading: Reading) -> tuple[int | str, int | str]:
    return "" if reading.limit is None else reading.limit, "" if reading.remaining is None else reading.remaining


def _placing(submission: Submission) -> bytes:
    """Return what the scripts that take a job in read of it, as one JSON array."""
    job, cost = submission.job, submission.cost
    return orjson.dumps(
        (
            LANES.index(job.lane) + 1,
            submission.budget,
            cost.requests,
            cost.input,
            cost.output,
            _time(job.not_before),
            _time(job.deadline),
            job.run or "",
            submission.requests_before,
            submission.tenant,
            submission.kind,
            submission.job.request["max_tokens"],
            len(submission.job.fallbacks),
            submission.ended_before or "",
            submission.nano_usd_before,
        )
    )


def _settle_args(settlement: Settlement) -> list[str | bytes | int]:
    used = settlement.used
    return [
        settlement.claim.key,
        settlement.claim.token,
        settlement.result,
        _ms(settlement.keep.total_seconds()),
        settlement.run or "",
        settlement.status.value,
        "" if used is None else used.input,
        "" if used is None else used.output,
        settlement.cost_nano_usd,
        settlement.spent_nano_usd,
        settlement.reply.value,
    ]


def _caps(caps: Sequence[SpendCap]) -> bytes:
    return (
        orjson.dumps(
            [
                (
                    cap.per,
                    0 if cap.lane is None else LANES.index(cap.lane) + 1,
                    cap.model_class or "",
                    int(cap.usd * NANO),
                    cap.action,
                )
                for cap in caps
            ]
        )
        if caps
        else b""
    )
