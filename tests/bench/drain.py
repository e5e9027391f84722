"""One process that drains a queue, or asks as many prompts in a bare loop, and prints its CPU time."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from anthropic import AsyncAnthropic, DefaultAioHttpClient

from promptmill.settings import Settings
from tests.bench.rows import small_job
from worker import endings
from worker.logs import configure_logs
from worker.main import build_worker

WARM_UP = 50
CONCURRENCY = 50


async def bare(count: int) -> float:
    """The loop that everybody writes first."""
    gate = asyncio.Semaphore(CONCURRENCY)
    async with AsyncAnthropic(max_retries=0, http_client=DefaultAioHttpClient()) as client:

        async def one(number: int) -> str:
            async with gate:
                message = await client.messages.create(**small_job(number).request)
            return str(message.content[0].text)  # type: ignore[union-attr]

        await asyncio.gather(*map(one, range(WARM_UP)))
        started = time.process_time()
        await asyncio.gather(*map(one, range(count)))
        return time.process_time() - started


def ours() -> dict[str, float]:
    """A worker in burst mode, as a process runs it: logs on, everything recorded and measured."""
    measuring = 0.0
    measure = endings.measure

    def timed(*answer: Any, **how: Any) -> dict[str, Any]:
        nonlocal measuring
        began = time.thread_time()
        measured = measure(*answer, **how)
        measuring += time.thread_time() - began
        return measured

    endings.measure = timed
    asyncio.run(bare(0))  # what the SDK imports at its first call
    settings = Settings.load()
    configure_logs(settings)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    worker = build_worker(settings, burst=True)
    started = time.process_time()
    worker.run()
    return {"cpu_s": time.process_time() - started, "measuring_s": measuring}


if __name__ == "__main__":
    print(json.dumps(ours() if sys.argv[1] == "ours" else {"cpu_s": asyncio.run(bare(int(sys.argv[2])))}))
