"""What measuring an answer costs, in microseconds of CPU: all of it, each metric, and as a share of a job's whole CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.bench.rows import Row
from tests.support.answers import EXAMPLES
from worker.quality import METRICS, Answer, Subject
from worker.quality import measure as measure_answer

_ROUNDS: Final = 15
_REPEATS: Final = 20
_AIM: Final = "well under 1 ms"


async def measure(_folder: Path) -> list[Row]:
    """Return a row for the whole and one for each metric, of answers of about 500 tokens."""
    asked = [(Answer(example.text, stop_reason="end_turn"), example.request) for example in EXAMPLES]
    chars = sum(len(answer.text) for answer, _ in asked) // len(asked)

    def whole() -> None:
        for answer, request in asked:
            measure_answer(answer, request=request, expectation=None)

    total = _micros(whole) / len(asked)
    rows = [Row(f"metrics of an answer ({chars:,} characters)", f"{total:.0f} µs", "-", "-", _AIM)]
    for name, micros in sorted(_each(asked).items(), key=lambda item: -item[1]):
        rows.append(Row(f"  {name}", f"{micros:.1f} µs", f"{total:.0f} µs", f"{micros / total:.0%}", ""))
    return rows


def _each(asked: list[tuple[Answer, dict]]) -> dict[str, float]:
    """Return the CPU of each metric; what several share is borne by the first of them, in the order of the table."""
    least = dict.fromkeys((metric.name for metric in METRICS), float("inf"))
    for _ in range(_ROUNDS):
        spent = dict.fromkeys(least, 0.0)
        for _ in range(_REPEATS):
            for answer, request in asked:
                subject = Subject(answer, request, None, {})
                for metric in METRICS:
                    began = time.perf_counter()
                    metric.of(subject)
                    spent[metric.name] += time.perf_counter() - began
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
