"""Submitting jobs, against arq's own `enqueue_job`, on one Valkey, in turns."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from arq.connections import ArqRedis

from promptmill.queue import Queue, connect, prepare
from promptmill.settings import Settings
from promptmill.wire import FUNCTION, deserialize, serialize
from tests.bench.rows import Row, small_job
from tests.support.processes import valkey

JOBS = 20_000
ARQ_JOBS = 2_000
ROUNDS = 5


async def measure(folder: Path) -> list[Row]:
    with valkey(folder) as (url, _):
        settings = Settings.load(environ={}, redis_url=url, data_dir=folder)
        queue = Queue(connect(url, reply_timeout=None))
        arq = ArqRedis.from_url(url)
        arq.job_serializer, arq.job_deserializer = serialize, deserialize
        ours, theirs = [], []
        for _ in range(ROUNDS):
            jobs = [small_job(number) for number in range(JOBS)]
            started = time.perf_counter()
            await queue.submit(prepare(job, settings) for job in jobs)
            ours.append(JOBS / (time.perf_counter() - started))
            await queue.redis.flushall()

            started = time.perf_counter()
            for job in jobs[:ARQ_JOBS]:
                await arq.enqueue_job(FUNCTION, {"request": job.request}, _job_id=job.id)
            theirs.append(ARQ_JOBS / (time.perf_counter() - started))
            await queue.redis.flushall()
        await queue.redis.aclose()
        await arq.aclose()
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    return [
        Row(
            "submit, jobs a second (arq: enqueue_job)",
            f"{median(ours):,.0f}",
            f"{median(theirs):,.0f}",
            f"{ratio:.1f} x",
            "5 x; 20,000",
        )
    ]
