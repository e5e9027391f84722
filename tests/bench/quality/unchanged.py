"""False alarms on answers that nothing has happened to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random

from tests.bench.quality.pools import any_style, measured
from tests.bench.quality.replays import FALSE_ALARM_EVERY
from worker.monitoring import Change, Series
from worker.quality import METRICS

STYLES = 40


@dataclass(frozen=True)
class Unchanged:
    """What came of unchanged answers."""

    answers: int
    series: int
    false_alarms: list[tuple[int, Change]]
    """Which series, and what it found."""
    seconds: float
    """CPU time of the detectors."""


def watch(*, answers: int, series: int, pool: int, seed: str) -> Unchanged:
    """Deal `answers` out to `series`, of which some get a hundred times as many as others."""
    rng = Random(f"{seed} unchanged")
    pools = [measured(any_style(rng), pool, seed=f"{seed} {number}") for number in range(min(STYLES, series))]
    weights = [1 / (rank + 5) for rank in range(series)]
    alarms = []
    watched = 0
    seconds = 0.0
    for number, weight in enumerate(weights):
        one = Series(METRICS, false_alarm_every=FALSE_ALARM_EVERY)
        given = [rng.choice(pools[number % len(pools)]) for _ in range(round(answers * weight / sum(weights)))]
        begun = time.process_time()
        for at, answer in enumerate(given):
            alarms += [(number, change) for change in one.observe(answer, at) if change.found.what == "worse"]
        seconds += time.process_time() - begun
        watched += len(given)
    return Unchanged(watched, series, alarms, seconds)
