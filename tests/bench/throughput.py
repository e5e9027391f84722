"""Whole jobs a second per core of worker, against a bare loop over the same SDK and backend.

Both are one process that talks to the same simulator process, in turns; what is compared is their own CPU time, since
that is what a second worker on a second core would add.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from promptmill.queue import Queue, connect, prepare
from promptmill.settings import Settings
from tests.bench.rows import Row, small_job
from tests.support.processes import simulator, valkey

JOBS = 3_000
ROUNDS = 3


async def measure(folder: Path) -> list[Row]:
    ours, bare = [], []
    with simulator("--tier", "none", "--latency", "0.01", "--per-token", "0") as api:
        for number in range(ROUNDS):
            place = folder / str(number)
            with valkey(place / "valkey") as (url, _):
                settings = Settings.load(environ={}, redis_url=url, data_dir=place)
                queue = Queue(connect(url, reply_timeout=None))
                await queue.submit([prepare(small_job(n), settings) for n in range(JOBS)])
                await queue.redis.aclose()
                ours.append(drain("ours", JOBS, api.base_url, unlimited(url, place))["cpu_s"] / JOBS)
            bare.append(drain("bare", JOBS, api.base_url, {})["cpu_s"] / JOBS)
    ratio = median(b / a for a, b in zip(ours, bare, strict=True))
    return [
        Row(
            "whole jobs a second per core (bare: loop over the SDK)",
            f"{1 / median(ours):,.0f}",
            f"{1 / median(bare):,.0f}",
            f"{ratio:.0%}",
            "70 %",
        )
    ]


def unlimited(redis_url: str, folder: Path) -> dict[str, str]:
    """Settings of a worker that nothing but its own CPU holds back."""
    return {
        "PROMPTMILL_REDIS_URL": redis_url,
        "PROMPTMILL_DATA_DIR": str(folder),
        "PROMPTMILL_RPM": "100000000",
        "PROMPTMILL_ITPM": "100000000000",
        "PROMPTMILL_OTPM": "100000000000",
    }


def drain(which: str, jobs: int, base_url: str, environment: dict[str, str]) -> dict[str, float]:
    """CPU seconds of all jobs, without start-up and imports; `measuring_s` of them went into metrics."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.drain", which, str(jobs)],
        env={
            **os.environ,
            "PROMPTMILL_LOG_LEVEL": "info",
            "ANTHROPIC_API_KEY": "any",
            "ANTHROPIC_BASE_URL": base_url,
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    spent: dict[str, float] = json.loads(done.stdout)
    return spent
