"""From submit to arrival at the server, with an idle worker, against arq's own worker. Both run as real processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from arq.connections import ArqRedis

from promptmill.queue import Queue, connect, prepare
from promptmill.settings import Settings
from promptmill.wire import deserialize, serialize
from tests.bench.rows import Row, percentile, small_job
from tests.support.processes import valkey, workers

JOBS = 300


class Arrivals:
    """An API that answers at once and remembers when each job arrived."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[float]] = {}

    def expect(self, job_id: str) -> asyncio.Future[float]:
        """A future that becomes the arrival time of `job_id`."""
        return self._waiting.setdefault(job_id, asyncio.get_running_loop().create_future())

    async def answer(self, request: web.Request) -> web.Response:
        arrived = time.perf_counter()
        await request.read()
        future = self.expect(request.headers["x-promptmill-job"])
        if not future.done():
            future.set_result(arrived)
        return web.json_response(
            {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude-haiku-5-5",
                "content": [{"type": "text", "text": "Yes."}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 10, "output_tokens": 2},
            }
        )


@asynccontextmanager
async def api(arrivals: Arrivals) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/messages", arrivals.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def measure(folder: Path) -> list[Row]:
    arrivals = Arrivals()
    async with api(arrivals) as base_url:
        with valkey(folder / "ours") as (url, _):
            ours = await _ours(url, base_url, folder, arrivals)
        with valkey(folder / "arq") as (url, _):
            theirs = await _arqs(url, base_url, arrivals)
    rows = []
    for name, share in (("P50", 0.5), ("P99", 0.99)):
        a, b = percentile(ours, share) * 1000, percentile(theirs, share) * 1000
        aim = "under 20 ms" if name == "P99" else ""
        rows.append(Row(f"submit to arrival, idle worker, {name}", f"{a:.1f} ms", f"{b:.0f} ms", f"1/{b / a:.0f}", aim))
    return rows


async def _ours(url: str, base_url: str, folder: Path, arrivals: Arrivals) -> list[float]:
    settings = Settings.load(environ={}, redis_url=url, data_dir=folder)
    environment = {
        "PROMPTMILL_REDIS_URL": url,
        "PROMPTMILL_DATA_DIR": str(folder),
        "PROMPTMILL_RPM": "600000",
        "PROMPTMILL_LOG_LEVEL": "warning",
        "ANTHROPIC_API_KEY": "any",
        "ANTHROPIC_BASE_URL": base_url,
    }
    queue = Queue(connect(url))

    async def submit(number: int) -> tuple[str, float]:
        job = small_job(number)
        submission = prepare(job, settings)
        started = time.perf_counter()
        await queue.submit([submission])
        return job.id, started

    with workers(1, environment, folder / "worker.log"):
        taken = await _one_by_one(submit, arrivals)
    await queue.redis.aclose()
    return taken


async def _arqs(url: str, base_url: str, arrivals: Arrivals) -> list[float]:
    arq = ArqRedis.from_url(url)
    arq.job_serializer, arq.job_deserializer = serialize, deserialize
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.plain_arq_worker", url],
        env={**os.environ, "ANTHROPIC_API_KEY": "any", "ANTHROPIC_BASE_URL": base_url},
        stderr=subprocess.DEVNULL,
    )

    async def submit(number: int) -> tuple[str, float]:
        job = small_job(number)
        started = time.perf_counter()
        await arq.enqueue_job("ask", job.request, _job_id=job.id)
        return job.id, started

    try:
        return await _one_by_one(submit, arrivals, most=60)
    finally:
        worker.terminate()
        worker.wait()
        await arq.aclose()


async def _one_by_one(submit, arrivals: Arrivals, most: int = JOBS) -> list[float]:  # type: ignore[no-untyped-def]
    """Submit a job when the one before has arrived; the first, which finds the worker starting, is left out."""
    taken = []
    for number in range(most + 1):
        job_id, started = await submit(number)
        taken.append(await arrivals.expect(job_id) - started)
        # The worker is idle again once its own work on the last job is over.
        await asyncio.sleep(0.03)
    return taken[1:]
