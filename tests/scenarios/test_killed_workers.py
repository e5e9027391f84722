"""20,000 jobs, four workers, and somebody who kills one of them with SIGKILL all the time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import orjson
import pytest

from promptmill import Job
from promptmill.queue import Queue, connect, keys, prepare
from promptmill.results import Status
from promptmill.settings import Settings
from promptmill.store import ResultStore
from tests.support.processes import simulator, valkey, workers

JOBS = 20_000
ANSWERS_BETWEEN_KILLS = 400
RUN = "killed"


@pytest.mark.scenario
@pytest.mark.timeout(900)
async def test_every_job_has_one_result_however_many_workers_are_killed(tmp_path: Path) -> None:
    with (
        simulator("--tier", "none", "--latency", "0.02", "--per-token", "0", "--track") as api,
        valkey(tmp_path / "valkey") as (url, _),
    ):
        environment = {
            "PROMPTMILL_REDIS_URL": url,
            "PROMPTMILL_DATA_DIR": str(tmp_path),
            "PROMPTMILL_RPM": "10000000",
            "PROMPTMILL_ITPM": "10000000000",
            "PROMPTMILL_OTPM": "10000000000",
            "PROMPTMILL_CONCURRENCY": "20",
            "PROMPTMILL_LOG_LEVEL": "warning",
            # Every worker is killed many times over: the jobs are not what kills them.
            "PROMPTMILL_MAX_LOST_LEASES": "1000",
            "ANTHROPIC_API_KEY": "any",
            "ANTHROPIC_BASE_URL": api.base_url,
        }
        settings = Settings.load(environ={}, redis_url=url, data_dir=tmp_path)
        queue = Queue(connect(url, reply_timeout=None))
        job_ids = [f"{RUN}/{number}" for number in range(JOBS)]
        await queue.submit([prepare(_job(job_id), settings) for job_id in job_ids])
        started = time.monotonic()
        with workers(4, environment, tmp_path / "workers.log"):
            kills, lost_in_flight = await _kill_all_the_time(queue)
        seconds = time.monotonic() - started

        counted = api.stats(keys=True)
        extra = counted["requests"] - JOBS
        async with await ResultStore.open(settings.store) as store:
            totals = await store.run_totals(RUN)
            stored = {result.job_id async for result in store.results(run=RUN)}
        left = await queue.redis.zcard(keys.QUEUE), await queue.redis.hlen(keys.JOBS)
        await queue.redis.aclose()

    print(
        f"\n{JOBS} jobs in {seconds:.0f} s; {kills} workers killed with {lost_in_flight} requests in flight; "
        f"{counted['requests']} requests arrived, {extra} more than jobs"
    )
    assert set(job_ids) == stored
    assert totals.counts == {Status.SUCCEEDED: JOBS}
    assert left == (0, 0)
    assert set(counted["jobs"]) == set(job_ids)
    assert kills >= JOBS // ANSWERS_BETWEEN_KILLS // 2
    assert 0 <= extra <= lost_in_flight


def _job(job_id: str) -> Job:
    request = {
        "model": "claude-haiku-5-5",
        "max_tokens": 200,
        "messages": [{"role": "user", "content": f"Say in at most ten words what {job_id} is."}],
    }
    return Job(id=job_id, request=request, run=RUN, keep_result=0)


async def _kill_all_the_time(queue: Queue) -> tuple[int, int]:
    """Kill a worker each time some more jobs have ended, until all have; kills, and requests in flight at them."""
    kills = in_flight = ended = 0
    async with queue.redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.RUN_CHANNEL + RUN)
        async for message in pubsub.listen():
            ended += message["type"] == "message"
            if ended >= JOBS:
                return kills, in_flight
            if message["type"] == "message" and ended % ANSWERS_BETWEEN_KILLS == 0:
                killed = await _kill_one(queue)
                if killed is not None:
                    kills, in_flight = kills + 1, in_flight + killed
    raise AssertionError("the subscription ended before the jobs did")


async def _kill_one(queue: Queue) -> int | None:
    """Stop the worker with the most jobs, count what it has in flight, kill it; None where no worker runs any."""
    held: dict[str, int] = {}
    records = await queue.redis.hvals(keys.JOBS)
    for record in map(orjson.loads, records):
        if record[0] == "l":
            worker = str(record[13]).rsplit(".", 2)[0]
            held[worker] = held.get(worker, 0) + 1
    present = {name.decode(): orjson.loads(about) for name, about in (await queue.redis.hgetall(keys.WORKERS)).items()}
    for worker in sorted(held, key=lambda name: -held[name]):
        if worker not in present:
            continue
        pid = present[worker]["pid"]
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:  # killed before; its leases have not run out yet
            continue
        # Nothing moves any more: what it holds now is what its death can cost.
        tokens = [str(orjson.loads(record)[13]) for record in await queue.redis.hvals(keys.JOBS) if b'["l"' in record]
        os.kill(pid, signal.SIGKILL)
        return sum(token.startswith(worker + ".") for token in tokens)
    return None
