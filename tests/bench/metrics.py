"""What measuring an answer costs: in microseconds of CPU, all of it and each metric, and as a share of a whole job."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from promptmill import Job
from promptmill.queue import Queue, connect, prepare
from promptmill.settings import Settings
from tests.bench.rows import Row
from tests.bench.throughput import drain, unlimited
from tests.support.answers import EXAMPLES
from tests.support.processes import simulator, valkey
from worker.quality import METRICS, Answer, Subject
from worker.quality import measure as measure_answer

_JOBS: Final = 1_500
_REQUEST: Final = {"model": "claude-haiku-5-5", "max_tokens": 512}
_ROUNDS: Final = 15
_REPEATS: Final = 20
_AIM: Final = "well under 1 ms"


async def measure(folder: Path) -> list[Row]:
    """Return rows for a whole job, for all metrics and for each of them, of answers of about 500 tokens."""
    asked = [(Answer(example.text, stop_reason="end_turn"), example.request) for example in EXAMPLES]
    chars = sum(len(answer.text) for answer, _ in asked) // len(asked)

    def whole() -> None:
        for answer, request in asked:
            measure_answer(answer, request=request, expectation=None)

    total = _micros(whole) / len(asked)
    rows = [
        await _share_of_a_job(folder),
        Row(f"metrics of an answer ({chars:,} characters)", f"{total:.0f} µs", "-", "-", _AIM),
    ]
    for name, micros in sorted(_each(asked).items(), key=lambda item: -item[1]):
        rows.append(Row(f"  {name}", f"{micros:.1f} µs", f"{total:.0f} µs", f"{micros / total:.0%}", ""))
    return rows


async def _share_of_a_job(folder: Path) -> Row:
    job = await whole_jobs(folder)
    share = f"{job.measuring / job.whole:.0%}"
    return Row("metrics in a whole job", f"{job.measuring:.0f} µs", f"{job.whole:,.0f} µs", share, "under 10 %")


class Micros(NamedTuple):
    """Microseconds of CPU for one job."""

    measuring: float
    whole: float


async def whole_jobs(folder: Path) -> Micros:
    """Have a worker answer prompts, with answers of up to 512 tokens; what each job took of its process."""
    prompt = "Describe the history of bridge number {} and the people who built it, in detail, with examples."
    with (
        simulator("--tier", "none", "--latency", "0.01", "--per-token", "0") as api,
        valkey(folder / "valkey") as (url, _),
    ):
        settings = Settings.load(environ={}, redis_url=url, data_dir=folder)
        queue = Queue(connect(url, reply_timeout=None))
        requests = ({**_REQUEST, "messages": [{"role": "user", "content": prompt.format(n)}]} for n in range(_JOBS))
        await queue.submit([prepare(Job(request=request), settings) for request in requests])
        await queue.redis.aclose()
        spent = drain("ours", _JOBS, api.base_url, unlimited(url, folder))
    return Micros(spent["measuring_s"] / _JOBS * 1e6, spent["cpu_s"] / _JOBS * 1e6)


def _each(asked: list[tuple[Answer, dict]]) -> dict[str, float]:
    """Return the CPU of each metric; what several share is borne by the first of them, in the order of the table."""
    least = dict.fromkeys((metric.name for metric in METRICS), float("inf"))
    for _ in range(_ROUNDS):
        spent = dict.fromkeys(least, 0.0)
        for _ in range(_REPEATS):
            for answer, request in asked:
                subject = Subject(answer, request, None, {})
                for metric in METRICS:
                    began = time.thread_time()
                    metric.of(subject)
                    spent[metric.name] += time.thread_time() - began
        least = {name: min(least[name], seconds) for name, seconds in spent.items()}
    return {name: seconds / _REPEATS / len(asked) * 1e6 for name, seconds in least.items()}


def _micros(work: Callable[[], None]) -> float:
    """Return the microseconds of CPU that `work` takes, at its quickest: what disturbs a measurement only adds."""
    least = float("inf")
    for _ in range(_ROUNDS):
        began = time.thread_time()
        for _ in range(_REPEATS):
            work()
        least = min(least, time.thread_time() - began)
    return least / _REPEATS * 1e6
