"""Many jobs, four workers, and somebody who kills one of them with SIGKILL all the time."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from redis.asyncio import Redis

from promptmill.queue import Queue, connect, keys, prepare
from promptmill.settings import Settings
from tests.support.fleets import Fleet, balance, drained, environment_of, fleet, held_by, short_job
from tests.support.processes import simulator, valkey

RUN = "killed"


@pytest.mark.scenario
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("jobs", "kills"),
    [pytest.param(2_000, 10, id="short"), pytest.param(20_000, 200, id="whole", marks=pytest.mark.soak)],
)
async def test_every_job_has_one_result_however_many_workers_are_killed(tmp_path: Path, jobs: int, kills: int) -> None:
    """Each death may cost one request for each that was under way; nothing else is sent twice."""
    with (
        simulator("--tier", "none", "--latency", "0.02", "--per-token", "0", "--track") as api,
        valkey(tmp_path / "valkey") as (url, _),
    ):
        # Every worker is killed many times over: the jobs are not what kills them.
        environment = environment_of(url, tmp_path, api, concurrency=20, lease=4, max_lost_leases=1000)
        settings = Settings.load(environ={}, redis_url=url, data_dir=tmp_path)
        queue = Queue(connect(url, reply_timeout=None))
        job_ids = [f"{RUN}/{number}" for number in range(jobs)]
        await queue.submit([prepare(short_job(job_id, RUN), settings) for job_id in job_ids])
        started = time.monotonic()
        async with fleet(4, environment) as workers:
            in_flight = await _kill(queue.redis, workers, jobs=jobs, kills=kills)
            await drained(queue.redis, RUN)
        seconds = time.monotonic() - started
        told = await balance(api, settings)
        left = await queue.redis.zcard(keys.QUEUE), await queue.redis.hlen(keys.JOBS)
        await queue.redis.aclose()

    lost = workers.jobs["lease_lost"]
    print(
        f"\n{jobs} jobs in {seconds:.0f} s; {kills} workers killed with {in_flight.total()} requests in flight; "
        f"{told.requests.total()} requests arrived, {told.beyond.total()} more than attempts recorded; "
        f"{lost.total()} leases lost by the living"
    )
    told.assert_whole(job_ids)
    assert left == (0, 0)
    assert told.beyond <= in_flight + lost, "sent twice although nobody died with it"
    assert workers.said["worker_died"] == kills


async def _kill(redis: Redis, workers: Fleet, *, jobs: int, kills: int) -> Counter[str]:
    """Kill workers at moments spread at random over the jobs; what was in flight at their deaths, by job."""
    chance = random.Random(20_261_122)
    in_flight: Counter[str] = Counter()
    for ended in sorted(chance.sample(range(jobs // 50, jobs - jobs // 10), kills)):
        await workers.until(lambda ended=ended: workers.said["job_ended"] >= ended and len(workers.pids) > 0)
        pid = chance.choice(sorted(workers.pids))
        os.kill(pid, signal.SIGSTOP)
        # It does not move any more: what it holds now is what its death can cost.
        in_flight += Counter(await held_by(workers.pids.pop(pid), redis))
        os.kill(pid, signal.SIGKILL)
    return in_flight
