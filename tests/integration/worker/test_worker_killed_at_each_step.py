"""A worker killed with SIGKILL at each of its steps, one life after the other, until one runs through; after each death
another worker finishes. Nothing is lost (I1), each job has one result (I2), an answer that was committed is not paid
for again, and a death costs at most one request more (I6). Requests are counted where they arrive."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import pytest

from promptmill.jobs import Job
from promptmill.queue import Queue, connect, keys, prepare
from promptmill.results import Status
from promptmill.settings import Settings
from promptmill.store import ResultStore
from promptmill.wire import unpack_result
from tests.support.mortal import mortals
from tests.support.processes import simulator
from tests.support.workers import make_settings, open_store

HOUR: Final = 3_600
"""Seconds by which each worker's time is ahead of that of the one before: no lease of the dead still holds."""
REFUSES: Final = "claude-opus-5-5"
NO_JOB: Final = (
    *("promptmill:budget", "promptmill:tenants:", "promptmill:learned:"),
    *("promptmill:heard", "promptmill:idle", "promptmill:workers", "promptmill:spend"),
)
"""Keys that outlive jobs."""


@dataclass(frozen=True)
class Story:
    """One job's way, if nobody dies."""

    says: str = ""
    """Faults that the simulator commits, each as often as is said."""
    requests: int = 1
    status: Status = Status.SUCCEEDED
    model: str = "claude-haiku-5-5"
    max_tokens: int = 40
    job: dict[str, Any] = field(default_factory=dict)


STORIES: Final = {
    "answered": Story(),
    "streamed": Story(max_tokens=5_000),
    "dead-letter": Story("[[fault:invalid_request_error]]", status=Status.FAILED),
    "retried": Story("[[fault:api_error*1]]", 2),
    "rate-limited": Story("[[fault:rate_limit_error*1]]", 2),
    "falls-back": Story(requests=2, model=REFUSES, job={"fallbacks": ["claude-haiku-5-5"]}),
    "cancelled": Story(requests=0, status=Status.CANCELLED),
    "expired": Story(requests=0, status=Status.EXPIRED),
    "foreign": Story(),
    "corrupt": Story(requests=0, status=Status.FAILED),
}


class Mill:
    """Everything but the workers, for one lot of jobs after the other."""

    lots = 0

    def __init__(self, settings: Settings, store: ResultStore, api: Any, run: Any) -> None:
        self.settings, self.store, self.api, self.run = settings, store, api, run
        self.redis = connect(str(settings.redis_url))
        self.queue = Queue(self.redis)
        self.stories: dict[str, Story] = {}
        """Of this lot, by job id."""

    async def begin(self, names: Sequence[str]) -> None:
        """Put one job of each of these stories into an empty Redis."""
        await self.redis.flushall()
        Mill.lots += 1
        self.stories = {f"{name}-{Mill.lots}": STORIES[name] for name in names}
        now = float((await self.redis.time())[0])
        for job_id, story in self.stories.items():
            request = {
                "model": story.model,
                "max_tokens": story.max_tokens,
                "messages": [{"role": "user", "content": f"Say in five words what {job_id} is. {story.says}"}],
            }
            if job_id.startswith(("foreign", "corrupt")):
                envelope = orjson.dumps({"f": "run_prompt", "a": [{"params": request}], "k": {}, "et": int(now * 1000)})
                payload = envelope if job_id.startswith("foreign") else b"\x80\x04pickled"
                await self.redis.set(keys.PAYLOAD + job_id, payload)
                await self.redis.zadd(keys.QUEUE, {job_id: now * 1000})
            else:
                deadline = now + HOUR / 2 if story.status is Status.EXPIRED else None
                job = Job.model_validate({"id": job_id, "request": request, "deadline": deadline, **story.job})
                await self.queue.submit([prepare(job, self.settings)])
            if story.status is Status.CANCELLED:
                await self.queue.cancel([job_id])

    def live(self, generation: int, *, dies_at: int | None = None, concurrency: int = 1, **how: Any) -> Any:
        """Run a worker, to its end or to its death; each generation an hour after the one before."""
        environment = {
            "redis_url": self.settings.redis_url,
            "data_dir": str(self.settings.data_dir),
            "ANTHROPIC_API_KEY": "any",
            "ANTHROPIC_BASE_URL": self.api.base_url,
            "concurrency": concurrency,
            **dict.fromkeys(("rpm", "itpm", "otpm"), 60_000_000_000),
        }
        return self.run("work", environment, dies_at=dies_at, ahead=generation * HOUR, **how)

    def requests(self) -> dict[str, int]:
        """How many requests arrived for each job of the lot, in all lives."""
        counted = self.api.stats(keys=True)["jobs"]
        return {job_id: counted.get(job_id, {"requests": 0})["requests"] for job_id in self.stories}

    async def paid(self) -> dict[str, int]:
        """The requests so far of each job whose answer is committed."""
        requests = self.requests()
        return {job_id: requests[job_id] for job_id in await self.store.finished(list(self.stories))}

    async def nothing_is_lost(self) -> None:
        """I1: queued with its payload, or in the store."""
        for job_id in self.stories:
            queued = await self.redis.zscore(keys.QUEUE, job_id) and await self.redis.exists(keys.PAYLOAD + job_id)
            assert queued or await self.store.result(job_id), f"{job_id} is nowhere"

    async def all_has_ended(self, *, deaths: int, paid: dict[str, int]) -> None:
        requests = self.requests()
        for job_id, story in self.stories.items():
            result = await self.store.result(job_id)
            assert result is not None, f"{job_id} has no result"
            assert result.status is story.status, f"{job_id}: {result.error}"
            assert (await self.store.dead_letter(job_id) is not None) == (story.status is Status.FAILED)
            numbers = [attempt.number for attempt in result.attempts]
            assert numbers == sorted(set(numbers)), f"{job_id}: each request has a number of its own, got {numbers}"
            assert story.requests <= requests[job_id] <= story.requests + deaths, f"{job_id} was sent too often"
            left = unpack_result(await self.redis.get(keys.RESULT + job_id))
            assert left.status is story.status, f"{job_id}: whoever waits for it hears of it"
        assert paid.items() <= requests.items(), "paid for again"
        left_over = {key.decode() for key in await self.redis.keys("*") if not key.decode().startswith(NO_JOB)}
        assert left_over == {keys.RESULT + job_id for job_id in self.stories}, "nothing else is left in Redis"


@pytest.fixture(scope="module")
def api():
    with simulator("--tier", "none", "--latency-scale", "0", "--track") as api:
        api.control(faults=[{"fault": "refusal", "models": [REFUSES]}])
        yield api


@pytest.fixture(scope="module")
def run():
    with mortals() as run:
        yield run


@pytest.fixture
async def mill(valkey_url, tmp_path, api, run):
    settings = make_settings(tmp_path, redis_url=valkey_url)
    async with await open_store(settings) as store:
        mill = Mill(settings, store, api, run)
        yield mill
        await mill.redis.aclose()


async def kill_at_each_step(mill: Mill, name: str, **how: Any) -> Counter[str]:
    """Return the steps at which workers died, each once: the last one ran through."""
    deaths: Counter[str] = Counter()
    while True:
        await mill.begin([name])
        life = mill.live(1, dies_at=deaths.total() + 1, **how)
        try:
            paid = await mill.paid()
            if life.died:
                await mill.nothing_is_lost()
                assert not mill.live(2).died
            await mill.all_has_ended(deaths=int(life.died), paid=paid)
        except AssertionError as error:
            raise AssertionError(f"the worker died at the end of {life.steps}") from error
        if not life.died:
            return deaths
        deaths[life.steps[-1]] += 1


COMMITTED = {"claim: done", "read", "read: done", "write", "write: not committed", "write: done"}
ENDED = COMMITTED | {"settle", "settle: done"}
SENT = ENDED | {"send", "send: done"}
BACK = SENT | {"snooze", "snooze: done"}
REPORTED = BACK | {"report", "report: done"}
STEPS: Final = {
    "answered": SENT,
    "streamed": SENT,
    "dead-letter": SENT,
    "retried": REPORTED,
    "rate-limited": BACK | {"block", "block: done"},
    "falls-back": BACK,
    "cancelled": ENDED,
    "expired": ENDED,
    "foreign": SENT | {"adopt", "adopt: done"},
    "corrupt": ENDED,
}


@pytest.mark.parametrize("name", STORIES)
async def test_a_worker_killed_at_each_step_loses_nothing_and_pays_for_nothing_twice(mill, name):
    deaths = await kill_at_each_step(mill, name, begin="claim: done")
    assert deaths.keys() == STEPS[name] | ({"configure", "configure: done"} & deaths.keys())


async def test_a_worker_killed_at_each_step_of_its_start_has_claimed_nothing_that_is_lost(mill):
    deaths = await kill_at_each_step(mill, "answered")
    assert deaths.keys() >= SENT | {"configure", "configure: done"}


@pytest.mark.soak
async def test_workers_killed_again_and_again_amid_many_jobs(mill):
    chance = random.Random(20_261_122)
    deaths_in_all = sent_again = 0
    for _ in range(200):
        await mill.begin(list(STORIES))
        paid: dict[str, int] = {}
        deaths = 0
        plan = [chance.randint(1, 60) for _ in range(chance.randint(2, 6))]
        for generation, dies_at in enumerate(plan, start=1):
            deaths += mill.live(generation, dies_at=dies_at, concurrency=50).died
            paid = {**await mill.paid(), **paid}
            await mill.nothing_is_lost()
        assert not mill.live(len(plan) + 1, concurrency=50).died
        await mill.all_has_ended(deaths=deaths, paid=paid)
        deaths_in_all += deaths
        sent_again += sum(mill.requests().values()) - sum(story.requests for story in STORIES.values())
    print(f"\n200 lots of {len(STORIES)} jobs: {deaths_in_all} deaths, {sent_again} requests sent again")
