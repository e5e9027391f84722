"""The worker process on top of arq: which jobs are picked and how they end. Nothing else imports `arq`.

arq gives the process its shell: the event loop, signals, cron jobs, the health check, burst mode, the `arq` command
line, and the wire format that any arq client writes. Picking is ours: arq reads the head of one queue every half
second, and a job in progress stays at that head; here a script leases what may be sent now, and says when to ask again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from signal import Signals
from typing import Any, Final

import structlog
from arq.connections import ArqRedis, RedisSettings
from arq.constants import abort_jobs_ss
from arq.cron import CronJob, cron
from arq.worker import Function, Worker

from promptmill.errors import PromptmillError, QueueFull, QueueUnavailable
from promptmill.pacing import paces
from promptmill.queue import Claim, Claims, Queue, keys
from promptmill.queue.connection import connect, redis_errors
from promptmill.settings import Settings
from promptmill.tasks import end
from promptmill.wire import FUNCTION, deserialize, serialize
from worker import events
from worker.calls import StopReason
from worker.functions import FunctionRunner, function_of
from worker.holdups import Holdups
from worker.leases import Lease, LeaseKeeper
from worker.logs import where
from worker.presence import tell_presence
from worker.uplink import Uplink

BEAT: Final = timedelta(seconds=0.5)
"""How often cron jobs and arq's abort requests are looked at; arq's own poll interval."""
AWAY_RETRY: Final = timedelta(seconds=0.5)
"""How often Redis is asked whether it is back."""


class PacedWorker(Worker):
    """An arq worker that claims jobs by budget instead of polling a queue.

    `open_resources` makes everything that a running worker needs and returns how a claimed job is run; what it opened
    is closed by the stack it was handed. `rounds` are cron jobs that every worker runs itself, once when it starts and
    then at their times; any number of workers may have done so before. arq's own, `cron_jobs`, go through the queue,
    where only a worker that has them can run them. `orphaned` tells whether whoever would stop this worker is gone.
    All attributes are used from the worker's own event loop only.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        *,
        open_resources: Callable[
            [PacedWorker, contextlib.AsyncExitStack], Awaitable[Callable[[Lease], Awaitable[None]]]
        ],
        functions: Sequence[Function] = (),
        cron_jobs: Sequence[CronJob] = (),
        rounds: Sequence[CronJob] = (),
        redis_pool: ArqRedis,
        burst: bool = False,
        handle_signals: bool = True,
        orphaned: Callable[[], bool] = lambda: False,
    ) -> None:
        async def run_prompt(ctx: dict[Any, Any], lease: Lease) -> None:
            await ctx["run_job"](lease)

        super().__init__(
            functions=[Function(FUNCTION, run_prompt, None, None, None, None), *functions],
            queue_name=keys.QUEUE,
            cron_jobs=list(cron_jobs) or None,
            redis_pool=redis_pool,
            burst=burst,
            handle_signals=handle_signals,
            job_completion_wait=int(settings.grace.total_seconds()) or 1,
            max_jobs=settings.concurrency,
            poll_delay=BEAT,
            health_check_interval=timedelta(seconds=10),
            job_serializer=serialize,
            job_deserializer=deserialize,
        )
        self.name = f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
        self.leases = LeaseKeeper(queue, settings.lease)
        self.claiming_paused: Callable[[], bool] = lambda: False
        """Asked before each claim; true while the result store is away."""
        self.holds_answers: Callable[[], bool] = lambda: False
        """Asked before jobs are given up at the end; true while there are answers that are not in the store yet."""
        self._rounds = rounds
        self.holdups = Holdups(settings.caps)
        self._orphaned = orphaned
        self._settings = settings
        self._queue = queue
        self._open_resources = open_resources
        self._others = FunctionRunner(
            queue, timeout_s=self.job_timeout_s, keep_result=settings.keep_result, say_crash=self._say_crash
        )
        self._configured: set[str] = set()
        self._claim_numbers = itertools.count(1)
        self._wake = asyncio.Event()
        self.uplink = Uplink(longest_rest=settings.probe_interval, on_back=self._wake.set)
        self._stopping = False
        self._abandoning = False
        self._redis_is_away = False
        self._log = structlog.get_logger()

    # the life of the process -----------------------------------------------------------------------------------------

    async def main(self) -> None:
        """Claim and run jobs until told to stop; in burst mode until the queue is empty."""
        async with contextlib.AsyncExitStack() as stack:
            self.ctx["redis"] = self.pool
            self.ctx["run_job"] = await self._open_resources(self, stack)
            listening = asyncio.Event()
            presence = partial(tell_presence, self._queue, self.name, self._busy)
            for helper in (partial(self._listen, listening), self.leases.keep, self._beat, presence):
                stack.push_async_callback(end, asyncio.create_task(self._kept_up(helper)))
            await listening.wait()
            self._log.info(
                events.WORKER_STARTED,
                worker=self.name,
                concurrency=self.max_jobs,
                model_classes=sorted(self._configured),
            )
            try:
                await self._claim_until_stopped()
            except asyncio.CancelledError:
                self._abandoning = True
                raise
            finally:  # whatever ended it: calls under way have been paid for
                await self._leave()
                await self._finish_running()
                await self._leave()

    async def _kept_up(self, helper: Callable[[], Awaitable[None]]) -> None:
        """Run what must not end before the worker does; a fault in it, or a stranger's key, ends it for a moment."""
        while True:
            try:
                await helper()
            except Exception as error:  # noqa: BLE001 - said, and begun again
                self._log.error(events.HELPER_CRASHED, error=type(error).__name__, where=where(error))
            await asyncio.sleep(AWAY_RETRY.total_seconds())

    async def _leave(self) -> None:
        """Be woken no longer: a wake-up for which nobody claims is lost to the workers that would."""
        with contextlib.suppress(PromptmillError):
            await self._queue.leave(self.name)

    async def _claim_until_stopped(self) -> None:
        while not self._stopping:
            self._wake.clear()
            wait = await self._claim()
            if self.burst and not self.tasks:
                if await self._is_empty():
                    return
                await self.holdups.say_why_nothing_goes(self.pool)
            await self._nap(wait)

    async def _nap(self, within: timedelta | None) -> None:
        """Return when woken, or after a time."""
        timer = None if within is None else self.loop.call_later(max(0.0, within.total_seconds()), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _finish_running(self) -> None:
        """Let running calls finish within the grace period, then hand the rest back without using up an attempt."""
        if self._stopping:
            self._log.info(
                events.WORKER_STOPPING,
                worker=self.name,
                running=len(self.tasks),
                grace_s=self._settings.grace.total_seconds(),
            )
        self._stopping = True
        deadline = time.monotonic() + self._settings.grace.total_seconds()
        while self.tasks and not self._abandoning and time.monotonic() < deadline:
            self._wake.clear()
            await self._nap(timedelta(seconds=deadline - time.monotonic()))
        for lease in self.leases.all():
            lease.call.stop(StopReason.SHUTDOWN)
        while running := set(self.tasks.values()):
            _, waiting = await asyncio.wait(running, timeout=self._settings.lease.total_seconds())
            # An answer that is not in the store yet would be lost, so that is waited for: also while the store takes
            # its time to say that it cannot. Without Redis nothing would: jobs come due by themselves.
            if waiting and not self.holds_answers():
                await end(*waiting)

    def handle_sig(self, signum: Signals) -> None:
        """Stop claiming at the first signal; at a second one hand running jobs back at once."""
        self._abandoning = self._stopping
        self._stopping = True
        self._wake.set()
        if self.on_stop:
            self.on_stop(Signals(signum))

    @property
    def leaves_at_once(self) -> bool:
        """Whether it was told a second time to stop."""
        return self._abandoning

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """As `handle_sig`: arq calls this one where there is a grace period."""
        self.handle_sig(signum)

    async def close(self) -> None:
        """Close the connection to Redis, which may be away."""
        if self._pool is None:
            return
        with contextlib.suppress(QueueUnavailable), redis_errors():
            await self.pool.delete(self.health_check_key)
        await self.pool.aclose(close_connection_pool=True)
        self._pool = None

    # claiming --------------------------------------------------------------------------------------------------------

    async def _claim(self) -> timedelta | None:
        """Start what may be sent now; when to ask again, None: when something happens."""
        free = self.max_jobs - len(self.tasks)
        if self.claiming_paused():
            return AWAY_RETRY
        if free <= 0:
            return None
        try:
            if self._redis_is_away:
                # Leases may have run out meanwhile: they are renewed before this worker could take over its own jobs.
                await self.leases.renew()
            asked_at = time.monotonic()
            most = self.uplink.allows(free)  # none: somebody else is woken, and this worker not again
            claims = await self._queue.claim(
                worker=self.name,
                lease=self._settings.lease,
                most=most,
                token_prefix=f"{self.name}.{next(self._claim_numbers)}",
                caps=self._settings.caps,
            )
            self.holdups.hear(claims)
            for claim in claims.jobs:
                self._start(claim, asked_at)
            fresh = {claim.budget for claim in claims.jobs if claim.budget} - self._configured
            await self.configure(fresh | set(claims.unconfigured))
        except QueueUnavailable as error:
            self._say_away(error)
            return AWAY_RETRY
        if self._redis_is_away:
            self._redis_is_away = False
            self._log.info(events.REDIS_BACK)
        return self._until_next_claim(claims, most)

    def _until_next_claim(self, claims: Claims, most: int) -> timedelta | None:
        if self.uplink.is_cut_off and (most == 0 or claims.jobs):
            if claims.jobs:
                self.uplink.let_one()
            return self.uplink.left()
        if claims.unconfigured or (claims.wait is None and len(self.tasks) < self.max_jobs):
            return timedelta(0)  # limits are known now, or slots came free while the claim was under way
        return claims.wait

    def _say_away(self, error: QueueUnavailable) -> None:
        if not self._redis_is_away:
            self._redis_is_away = True
            self._log.error(events.REDIS_AWAY, error=str(error))

    async def configure(self, model_classes: set[str]) -> None:
        """Tell Redis the limits of `model_classes` as this process' settings have them."""
        settings = self._settings
        for model_class in model_classes:
            pace = paces(
                settings.limits(model_class),
                headroom=settings.headroom,
                request_burst=settings.request_burst,
                token_burst=settings.token_burst,
            )
            pinned = settings.is_pinned(model_class)
            await self._queue.configure(model_class, pace, pinned=pinned, warm_up=settings.warm_up)
            self._configured.add(model_class)

    def _start(self, claim: Claim, asked_at: float) -> None:
        lease = self.leases.hold(claim, asked_at=asked_at)
        function = function_of(claim, self.functions)
        work = (
            self._others.run(function, lease, self.ctx)
            if function
            else self.functions[FUNCTION].coroutine(self.ctx, lease)
        )
        task = asyncio.create_task(work)
        self.tasks[claim.token] = task
        task.add_done_callback(lambda done: self._ended(lease, done))

    def _ended(self, lease: Lease, task: asyncio.Task[Any]) -> None:
        was_full = len(self.tasks) >= self.max_jobs
        del self.tasks[lease.claim.token]
        self.leases.drop(lease)
        if not task.cancelled() and (error := task.exception()):
            # A fault of ours: the lease runs out and the job is tried again, by a worker that may have it mended.
            self._say_crash(lease.claim.job_id, error)
        if was_full or self.burst or self._stopping:
            self._wake.set()

    def _say_crash(self, job_id: str, error: BaseException) -> None:
        whole = {"exc_info": error} if self._settings.log_content else {}  # what it says may quote a prompt (I7)
        self._log.error(events.JOB_CRASHED, job=job_id, error=type(error).__name__, where=where(error), **whole)

    async def _is_empty(self) -> bool:
        try:
            with redis_errors():
                return int(await self.pool.zcard(keys.QUEUE)) == 0
        except QueueUnavailable:
            return False

    # beside the jobs -------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Run what arq does at each poll: cron jobs, the health check, abort requests."""
        while True:
            await asyncio.sleep(BEAT.total_seconds())
            if not self._stopping and self._orphaned():
                self.handle_sig(Signals.SIGTERM)  # whoever started this process is gone, and would have stopped it
            try:
                with redis_errors():
                    await self._obey_aborts()
                    await self.heart_beat()
                    await self._make_rounds(datetime.now(UTC))
            except QueueFull:
                pass  # not away: jobs go on; a round that found no room is still due
            except QueueUnavailable as error:
                self._say_away(error)  # a worker without a free slot claims nothing, and would not notice

    async def _make_rounds(self, now: datetime) -> None:
        """Run the rounds that are due. One that fails is still due at the next beat."""
        for job in self._rounds:
            if job.next_run is None or job.next_run <= now:
                await job.coroutine(self.ctx)
                job.calculate_next(now)

    async def _obey_aborts(self) -> None:
        """Do what `arq.jobs.Job.abort` asks for."""
        asked = await self.pool.zrange(abort_jobs_ss, 0, -1)
        if asked:
            await self._queue.cancel([job_id.decode("utf-8", "surrogateescape") for job_id in asked])
            await self.pool.zrem(abort_jobs_ss, *asked)

    def _busy(self) -> dict[str, Any]:
        running = len(self.tasks)
        return {"running": running, "free": self.max_jobs - running, "cut_off": self.uplink.is_cut_off}

    async def _listen(self, listening: asyncio.Event) -> None:
        """Be woken and told of cancellations. A subscription that broke is made anew: until then alarms suffice."""
        channels = (keys.WAKE_CHANNEL + self.name, keys.CANCEL_CHANNEL)
        while True:
            with contextlib.suppress(QueueUnavailable), redis_errors():
                async with self.pool.pubsub() as pubsub:
                    await pubsub.subscribe(*channels)
                    while True:
                        message = await pubsub.get_message(timeout=30)
                        if message is None:
                            await pubsub.ping()
                        elif message["type"] == "subscribe":
                            listening.set()
                            self._wake.set()
                        elif message["type"] == "message":
                            self._hear(message["channel"].decode(), message["data"])
            await asyncio.sleep(AWAY_RETRY.total_seconds())

    def _hear(self, channel: str, data: bytes) -> None:
        if channel == keys.CANCEL_CHANNEL:
            if lease := self.leases.get(data.decode("utf-8", "surrogateescape")):
                lease.call.stop(StopReason.CANCELLED)
        else:
            self._wake.set()


def at_each(period: timedelta, run: Callable[[], Awaitable[None]]) -> CronJob:
    """Return the cron job that runs whenever a `period` of the day (UTC) begins: see `promptmill.canaries.schedule`."""

    async def tick(ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> None:  # noqa: ARG001 - as arq calls it
        await run()

    minutes = period // timedelta(minutes=1)
    hours = set(range(0, 24, max(1, minutes // 60)))
    return cron(tick, hour=hours, minute=set(range(0, 60, min(60, minutes))))


def arq_pool(url: str) -> ArqRedis:
    """Return arq's client on connections as ours: its own settings know no ACL file, no socket timeouts."""
    pool = connect(url).connection_pool
    return ArqRedis(pool, job_serializer=serialize, job_deserializer=deserialize, default_queue_name=keys.QUEUE)


def arq_redis_settings(url: str) -> RedisSettings:
    """Return `url` as arq's own commands (`arq --check`) take it."""
    return RedisSettings.from_dsn(url)
