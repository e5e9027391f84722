"""What a queued job takes in Redis beyond its payload."""

from __future__ import annotations

from pathlib import Path

from promptmill.queue import Queue, connect, prepare
from promptmill.settings import Settings
from tests.bench.rows import Row, small_job
from tests.support.processes import valkey

JOBS = 100_000


async def measure(folder: Path) -> list[Row]:
    with valkey(folder) as (url, _):
        settings = Settings.load(environ={}, redis_url=url, data_dir=folder)
        queue = Queue(connect(url, reply_timeout=None))
        before = (await queue.redis.info("memory"))["used_memory"]
        payload = 0
        for start in range(0, JOBS, 10_000):
            submissions = [prepare(small_job(number), settings) for number in range(start, start + 10_000)]
            payload += sum(len(submission.payload) for submission in submissions)
            await queue.submit(submissions)
        beyond = ((await queue.redis.info("memory"))["used_memory"] - before - payload) / JOBS
        await queue.redis.aclose()
    return [Row("Redis bytes for a queued job beyond its payload", f"{beyond:.0f}", "", "", "under 400")]
