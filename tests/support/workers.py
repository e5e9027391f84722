"""What a worker process is made of, without the process: each step to the outside can be watched, held up or broken."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import orjson
from fakeredis import FakeServer
from fakeredis.aioredis import FakeRedis
from redis.asyncio import Redis

from promptmill.grading import GRADES
from promptmill.halts import Halts
from promptmill.jobs import Job
from promptmill.queue import Claim, Queue, Report, Settled, Snooze, Standing, Submission, Submitted, keys, prepare
from promptmill.results import Attempt, Result
from promptmill.settings import Settings
from promptmill.store import AttemptRecord, Entry, ResultStore
from promptmill.wire import unpack_result
from tests.support.providers import ScriptedApi
from tests.support.queues import CLASS, PLENTY, ManualClock
from worker.leases import Lease, LeaseKeeper
from worker.observer import Observer
from worker.pipeline import Pipeline
from worker.recorder import Recorder

KEY: Final = "sk-ant-test-key"
REQUEST: Final = {
    "model": "claude-haiku-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Say hello."}],
}
LONG: Final = {**REQUEST, "max_tokens": 8_000}
"""Long enough to be streamed."""


def make_settings(folder: Path | None = None, **changes: Any) -> Settings:
    """Settings that no environment has a say in."""
    where = {} if folder is None else {"data_dir": folder}
    return Settings.model_validate({"ANTHROPIC_API_KEY": KEY, **where, **changes})


def make_job(job_id: str = "job-1", **fields: Any) -> Job:
    return Job(id=job_id, **{"request": REQUEST, **fields})


async def leaves_no_task() -> AsyncIterator[None]:
    """Fixture body: a task that a test left running fails it."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"left running: {left}"


class Dead(BaseException):
    """The process has ended: nothing that would run after this runs."""


class Steps:
    """Every step of a worker to the outside, in order. A test may hold one up, break it, or end the worker there."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.died = asyncio.Event()
        self._dies_before: int | None = None
        self._broken: defaultdict[str, deque[BaseException]] = defaultdict(deque)
        self._gates: dict[str, Gate] = {}

    def fail(self, step: str, *errors: BaseException) -> None:
        """Raise these errors, one after the other, when `step` is next taken."""
        self._broken[step].extend(errors)

    def hold(self, step: str) -> Gate:
        """Stop before `step` until the gate is opened."""
        return self._gates.setdefault(step, Gate())

    def die_before(self, number: int) -> None:
        """End the worker before the step of this number (from 0): it takes neither that one nor any other."""
        self._dies_before = number

    async def take(self, step: str) -> None:
        if self.died.is_set() or len(self.taken) == self._dies_before:
            self.died.set()
            raise Dead
        gate = self._gates.get(step)
        if gate is not None:
            gate.reached.set()
            await gate.opened.wait()
        if self._broken[step]:
            raise self._broken[step].popleft()
        self.taken.append(step)


@dataclass
class Gate:
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)


class WatchedQueue(Queue):
    """A queue that names its steps before it takes them. `after:settle` and the like come when they were taken."""

    def __init__(self, redis: Redis, steps: Steps, **how: Any) -> None:
        super().__init__(redis, **how)
        self._steps = steps
        self.observed = asyncio.Event()
        """Set once something was heard of the provider's buckets."""

    async def observe(self, *args: Any) -> Any:
        news = await super().observe(*args)
        self.observed.set()
        return news

    async def renew(self, claims: Sequence[Claim], lease: timedelta) -> Any:
        await self._steps.take("renew")
        return await super().renew(claims, lease)

    async def settle(self, settlements: Any) -> list[Settled]:
        await self._steps.take("settle")
        answers = await super().settle(settlements)
        await self._steps.take("settled")
        return answers

    async def snooze(self, snooze: Snooze) -> Settled:
        await self._steps.take("snooze")
        settled = await super().snooze(snooze)
        await self._steps.take("snoozed")
        return settled

    async def block(self, model_class: str, wait: timedelta, reason: str, **more: Any) -> None:
        await self._steps.take("block")
        await super().block(model_class, wait, reason, **more)

    async def submit(self, submissions: Iterable[Submission]) -> list[Submitted]:
        given = list(submissions)
        follows = any(GRADES in submission.job.tags for submission in given)
        if follows:
            await self._steps.take("submit grading")
        answers = await super().submit(given)
        if follows:
            await self._steps.take("submitted grading")
        return answers

    async def report(self, report: Report) -> Standing:
        await self._steps.take("report")
        return await super().report(report)

    async def adopt(self, claim: Claim, submission: Any) -> None:
        await self._steps.take("adopt")
        await super().adopt(claim, submission)


class WatchedStore:
    """A result store that names its steps."""

    def __init__(self, store: ResultStore, steps: Steps) -> None:
        self._store = store
        self._steps = steps

    async def record(self, entries: Sequence[Entry]) -> None:
        kinds = {"attempt" if isinstance(entry, AttemptRecord) else "result" for entry in entries}
        name = "result" if "result" in kinds else "attempt"
        await self._steps.take(f"record {name}")
        await self._store.record(entries)
        await self._steps.take(f"recorded {name}")

    async def finished(self, job_ids: Sequence[str]) -> dict[str, Result]:
        await self._steps.take("look up")
        return await self._store.finished(job_ids)

    async def attempts(self, job_ids: Sequence[str]) -> dict[str, tuple[Attempt, ...]]:
        return await self._store.attempts(job_ids)


class WatchedApi(ScriptedApi):
    """A scripted API that names the arrival of a request, and its answer on the way back."""

    def __init__(self, steps: Steps, *script: Any) -> None:
        super().__init__(*script)
        self._steps = steps

    async def _respond(self, request: Any) -> Any:
        response = await super()._respond(request)
        await self._steps.take("answered")
        return response


class Naps:
    """Sleep that takes no time: it moves the clock and lets everybody else go first."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        self._clock.advance(timedelta(seconds=seconds))
        await asyncio.sleep(0)


class Workshop:
    """One worker's parts around a fake Redis, a SQLite file and a scripted API, on a clock that only the test moves."""

    _names = itertools.count(1)

    def __init__(self, settings: Settings, redis: Redis, store: ResultStore, api: ScriptedApi | None = None) -> None:
        self.settings = settings
        self.redis = redis
        self.store = store
        self.steps = Steps()
        self.clock = ManualClock()
        self.api = api or WatchedApi(self.steps)
        self.queue = WatchedQueue(redis, self.steps, clock=self.clock)
        self.naps = Naps(self.clock)
        self.leases = LeaseKeeper(self.queue, settings.lease, monotonic=lambda: self.clock.now / 1000, sleep=self.naps)
        self.recorder = Recorder(WatchedStore(store, self.steps), self.queue, sleep=self.naps)  # type: ignore[arg-type]
        self.provider = self.api.provider(settings, now=self.now)
        self.chance = 0.5
        self.name = f"worker-{next(self._names)}"
        self.observer = Observer(self.queue, settings)
        self.halts = Halts()
        self.pipeline = Pipeline(
            settings=settings,
            recorder=self.recorder,
            provider=self.provider,
            hear=self.observer.hear,
            ensure_lease=self.leases.ensure,
            worker=self.name,
            halts=lambda: self.halts,
            now=self.now,
            chance=lambda: self.chance,
        )
        self._claims = itertools.count(1)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now / 1000, UTC)

    async def submit(self, *jobs: Job) -> None:
        await self.queue.submit([prepare(job, self.settings, now=self.now()) for job in jobs])

    async def claim(self, most: int = 10) -> list[Lease]:
        """Claim whatever may run now. Budgets bind nobody unless a test sets them."""
        asked_at = self.clock.now / 1000
        claims = await self.queue.claim(
            worker=self.name,
            lease=self.settings.lease,
            most=most,
            token_prefix=f"{self.name}.{next(self._claims)}",
        )
        self.halts = claims.halts
        return [self.leases.hold(claim, asked_at=asked_at) for claim in claims.jobs]

    async def claim_one(self) -> Lease:
        (lease,) = await self.claim()
        return lease

    async def run(self, lease: Lease) -> None:
        """Run one claimed job to its end or back into the queue, as the engine does."""
        try:
            await self.pipeline.run(lease)
        finally:
            self.leases.drop(lease)

    async def work(self) -> int:
        """Claim and run what may run now; how many jobs that was."""
        leases = await self.claim()
        for lease in leases:
            await self.run(lease)
        return len(leases)

    async def run_to_end(self, *, within: timedelta = timedelta(hours=2), most: int = 50) -> None:
        """Work, moving the clock from event to event, until the queue is empty."""
        until = self.clock.now + within.total_seconds() * 1000
        for _ in range(most):
            if not await self.work():
                if await self.redis.zcard(keys.QUEUE) == 0:
                    return
                self.clock.advance(timedelta(seconds=1))
            assert self.clock.now < until, "the queue did not become empty"
        raise AssertionError(f"the queue is not empty after {most} turns")

    async def left_in_redis(self, job_id: str = "job-1") -> Result | None:
        """The result that whoever waits for the job reads."""
        data = await self.redis.get(keys.RESULT + job_id)
        return None if data is None else unpack_result(data)

    async def is_queued(self, job_id: str = "job-1") -> bool:
        return await self.redis.zscore(keys.QUEUE, job_id) is not None

    async def record_of(self, job_id: str = "job-1") -> dict[str, Any]:
        """The job's record in Redis: counters and state."""
        fields = (
            *("state", "lane", "budget", "requests", "input", "output", "order"),
            *("claims", "attempts", "lost", "route", "deadline", "ends", "token", "charged"),
            *("kind", "longest", "reserved_input", "reserved_output"),
            *("fallbacks", "failed_at", "blamed", "refused_at", "seen", "halted"),
        )
        values = orjson.loads(await self.redis.hget(keys.JOBS, job_id))
        return dict(itertools.zip_longest(fields, values[: len(fields)], fillvalue=0))

    async def open_budgets(self) -> None:
        """Give every known model class limits that bind nobody, and full buckets."""
        for model_class in (CLASS, "haiku-4-5", "sonnet-5", "opus-5"):
            await self.queue.configure(model_class, PLENTY)
            tats = {f"{d}_tat": f"{self.clock():.3f}" for d in PLENTY}
            await self.redis.hset(f"{keys.BUDGET}{model_class}", mapping=tats)

    async def blocked_for(self, model_class: str = CLASS) -> timedelta:
        until = await self.redis.hget(f"{keys.BUDGET}{model_class}", "blocked_until")
        return timedelta(milliseconds=0 if until is None else float(until) - self.clock.now)

    async def close(self) -> None:
        await self.observer.close()
        await self.recorder.close()
        await self.provider._client.close()


async def open_store(settings: Settings) -> ResultStore:
    """Open the SQLite file of `settings`. A new one begins as a copy: to migrate each would take most of the time."""
    _copy_migrated(Path(settings.store.removeprefix("sqlite:///")))
    return await ResultStore.open(settings.store)


def _copy_migrated(path: Path) -> None:
    if not path.exists():
        path.write_bytes(_migrated())


@cache
def _migrated() -> bytes:
    """An empty result store, as a file."""

    async def make(path: Path) -> None:
        async with await ResultStore.open(f"sqlite:///{path}"):
            pass

    with TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        path = Path(folder) / "results.sqlite"
        thread.submit(asyncio.run, make(path)).result()  # the caller's own loop is running
        return path.read_bytes()


@asynccontextmanager
async def workshop(folder: Path, *, redis: Redis | None = None, **changes: Any) -> AsyncIterator[Workshop]:
    """A workshop with open budgets."""
    settings = make_settings(folder, **changes)
    async with AsyncExitStack() as stack:
        redis = redis or await stack.enter_async_context(FakeRedis(server=FakeServer()))
        store = await stack.enter_async_context(await open_store(settings))
        shop = Workshop(settings, redis, store)
        stack.push_async_callback(shop.close)
        await shop.open_budgets()
        yield shop
