"""Hours of a run in seconds: the finish that is predicted when a tenth of it is done, and the true one.

As in test_virtual_hours.py the clock is ours, scripts and server are real, and the provider is the simulator's buckets.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from redis.asyncio import Redis

from producers.files.demand import Demand
from producers.runs.counters import read_counters
from producers.runs.foresight import RunForesight
from promptmill.foresight import job_left, lane_left
from promptmill.jobs import Job, Lane
from promptmill.queue import Queue, prepare
from promptmill.settings import Settings
from promptmill.testing.simulator.budget import Budget as Provider
from promptmill.testing.simulator.config import Limits
from tests.support.queues import CLASS
from tests.support.virtual_fleet import Answer, VirtualFleet, open_budget, text_job

WINDOW = 1_000
"""Jobs of the run that are in Redis at a time."""
LOOK_EVERY_MS = 2_000


@pytest.fixture
async def redis(url_of: Callable[[str], str]) -> AsyncIterator[Redis]:
    client = Redis.from_url(url_of("valkey"))
    await client.flushall()
    yield client
    await client.aclose()


class VirtualRun:
    """A run that feeds its window and looks ahead, as a command does."""

    def __init__(self, redis: Redis, limits: Limits, jobs: list[Job], answer: Callable[[Job], Answer], **fleet) -> None:
        assert limits.rpm
        self.clock = [1.8e12]
        self.settings = Settings.load(environ={}, rpm=limits.rpm, itpm=limits.itpm, otpm=limits.otpm)
        self.queue = Queue(redis, clock=lambda: self.clock[0])
        provider = Provider(limits, charge_max_tokens=False, foreign=None, now_ns=0)
        self.fleet = VirtualFleet(self.queue, self.clock, provider, self.settings, answer=answer, **fleet)
        self.jobs = jobs
        self.lines = {job.id: line for line, job in enumerate(jobs, start=1)}
        self.demand = Demand()
        for line, job in enumerate(jobs, start=1):
            self.demand.add(line, prepare(job, self.settings))
        self.foresight = RunForesight(self.demand)
        self._unsent = iter(jobs)
        self._sent = self._ended = self._read = 0
        self.seen: list[tuple[float, float, timedelta | None]] = []
        """The share that had ended, when (ms), and the time left by then."""
        self.began = self.ended_at = 0.0

    def produce(self) -> list[Job]:
        room = WINDOW - (self._sent - self._ended)
        piece = list(itertools.islice(self._unsent, max(0, room)))
        self._sent += len(piece)
        return piece

    async def look(self) -> None:
        for job_id in self.fleet.answered[self._read :]:
            if job_id in self.lines:
                self.demand.end(self.lines[job_id])
                self._ended += 1
        self._read = len(self.fleet.answered)
        spent = await read_counters(self.queue.redis, "run")
        backlogs = {CLASS: await self.queue.backlog(CLASS)}
        left = self.foresight.look(backlogs, spent, self._sent - self._ended)
        self.seen.append((self._ended / len(self.jobs), self.clock[0], left))

    async def configure(self) -> None:
        await open_budget(self.queue, self.settings)

    async def work_off(self) -> None:
        await self.configure()
        self.began = self.clock[0]
        await self.fleet.submit(self.produce())
        while self._ended < len(self.jobs):
            await self.fleet.run(LOOK_EVERY_MS / 60_000)
            await self.look()
            if piece := self.produce():
                await self.fleet.submit(piece)
        self.ended_at = self.clock[0]

    def error_after(self, share: float) -> float:
        """By what the finish that was predicted at that share was too late, as a share of the time that was left."""
        _, at, left = next(seen for seen in self.seen if seen[0] >= share)
        assert left is not None
        true_left = self.ended_at - at
        return (left / timedelta(milliseconds=1) - true_left) / true_left

    def foresaw(self, share: float, within: float) -> None:
        """Print how good predictions were, and fail where that at `share` of the run was not good enough."""
        whole = (self.ended_at - self.began) / 60_000
        errors = ", ".join(f"{self.error_after(at):+.1%} after {at:.0%}" for at in (0.02, 0.05, 0.1, 0.25, 0.5))
        print(f"\n{whole:.1f} min, {len(self.fleet.tally.refused)} refused; error of the time left: {errors}")
        assert abs(self.error_after(share)) <= within


def _heavy_tailed(seed: int) -> Callable[[Job], Answer]:
    chance = random.Random(seed)

    def answer(_job: Job) -> Answer:
        tokens = int(min(4_096, max(1, chance.lognormvariate(math.log(500) - 0.5, 1.0))))
        return Answer(input_tokens=41, output_tokens=tokens, generation_ms=chance.uniform(5_000, 20_000))

    return answer


def _of_any_size(number: int) -> Job:
    tokens = math.exp(random.Random(number).uniform(math.log(50), math.log(50_000)))
    return text_job(number, max_tokens=100, characters=int(2.5 * tokens), run="run")


def _short(job: Job) -> Answer:
    return Answer(math.ceil(len(job.request["messages"][0]["content"]) / 2.5), 50, 1_000)


REQUEST_BOUND = Limits(rpm=600, itpm=10**9, otpm=10**9, depth=timedelta(seconds=2))
INPUT_BOUND = Limits(rpm=10_000, itpm=500_000, otpm=10**9, depth=timedelta(seconds=60))
OUTPUT_BOUND = Limits(rpm=10_000, itpm=10**9, otpm=80_000, depth=timedelta(seconds=60))


def _uniform_jobs(count: int, **fields) -> list[Job]:
    return [text_job(number, max_tokens=200, run="run", **fields) for number in range(count)]


async def test_prompts_that_are_all_alike(redis: Redis) -> None:
    run = VirtualRun(redis, REQUEST_BOUND, _uniform_jobs(3_000), _short)
    await run.work_off()
    run.foresaw(0, within=0.02)
    run.foresaw(0.1, within=0.02)


@pytest.mark.parametrize("seed", [1, 2])
async def test_answers_with_a_heavy_tail(redis: Redis, seed: int) -> None:
    jobs = [text_job(number, max_tokens=4_096, run="run") for number in range(5_000)]
    run = VirtualRun(redis, OUTPUT_BOUND, jobs, _heavy_tailed(seed))
    await run.work_off()
    run.foresaw(0.1, within=0.1)


@pytest.mark.parametrize("order", ["shuffled", "short first", "long first"])
async def test_prompts_of_very_different_size(redis: Redis, order: str) -> None:
    jobs = [_of_any_size(number) for number in range(2_000)]
    if order != "shuffled":
        jobs.sort(key=lambda job: len(job.request["messages"][0]["content"]), reverse=order == "long first")
    run = VirtualRun(redis, INPUT_BOUND, jobs, _short)
    await run.work_off()
    run.foresaw(0, within=0.1)
    run.foresaw(0.1, within=0.1)


async def test_an_overnight_run_beside_interactive_jobs_that_keep_coming(redis: Redis) -> None:
    run = VirtualRun(redis, REQUEST_BOUND, _uniform_jobs(6_000, lane=Lane.OVERNIGHT), _short)
    chance, at, number = random.Random(3), run.clock[0], itertools.count(100_000)
    while at < run.clock[0] + 45 * 60_000:
        at += chance.expovariate(0.006)
        run.fleet.at(at, "submit", text_job(next(number), max_tokens=200, lane=Lane.INTERACTIVE))
    await run.work_off()
    run.foresaw(0.1, within=0.1)


async def test_429s_one_just_before_and_one_in_the_middle(redis: Redis) -> None:
    run = VirtualRun(redis, REQUEST_BOUND, _uniform_jobs(6_000), _short)
    for minutes in (0.8, 5):
        run.fleet.at(run.clock[0] + minutes * 60_000, "refuse", CLASS, timedelta(seconds=20))
    await run.work_off()
    run.foresaw(0.1, within=0.1)


async def test_workers_too_few_for_the_budget(redis: Redis) -> None:
    run = VirtualRun(redis, REQUEST_BOUND, _uniform_jobs(3_000), lambda _: Answer(41, 50, 3_000), workers=4, slots=5)
    await run.work_off()
    run.foresaw(0.1, within=0.1)


async def test_a_run_of_one_minute(redis: Redis) -> None:
    limits = Limits(rpm=240, itpm=10**9, otpm=10**9, depth=timedelta(seconds=2))
    run = VirtualRun(redis, limits, _uniform_jobs(220), lambda _: Answer(41, 50, 1_500))
    await run.work_off()
    run.foresaw(0.1, within=0.1)


async def test_lanes_and_single_jobs(redis: Redis) -> None:
    run = VirtualRun(redis, REQUEST_BOUND, [], _short)
    await run.configure()
    numbers, fleet, clock = itertools.count(), run.fleet, run.clock
    counts = {Lane.INTERACTIVE: 1_500, Lane.STANDARD: 1_200, Lane.OVERNIGHT: 900}
    jobs = {lane: [text_job(next(numbers), max_tokens=200, lane=lane) for _ in range(n)] for lane, n in counts.items()}
    for some in jobs.values():
        await fleet.submit(some)
    await fleet.run(0.5)
    foreseen: dict[str, timedelta | None] = {}
    for lane, some in jobs.items():
        foreseen[some[-1].id] = lane_left(await run.queue.backlog(CLASS), lane)
        for job in some[400::100]:
            foreseen[job.id] = job_left(await run.queue.backlog(CLASS, before=job.id), lane)
    asked_at, answered_at, read = clock[0], {}, 0
    while len(fleet.answered) < sum(counts.values()):
        await fleet.run(1 / 60)
        answered_at |= dict.fromkeys(fleet.answered[read:], clock[0])
        read = len(fleet.answered)
    errors = [(foreseen[name] / timedelta(milliseconds=1)) / (answered_at[name] - asked_at) - 1 for name in foreseen]
    print(f"\n{len(errors)} jobs and lanes, errors from {min(errors):+.1%} to {max(errors):+.1%}")
    assert max(map(abs, errors)) < 0.05
