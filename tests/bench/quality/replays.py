"""Replays of the incident: how many answers after the change until the alarm, and how far off its beginning."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.bench.quality.pools import Pool, Scenario, measured
from worker.monitoring import OVERALL, Baseline, Series
from worker.quality import METRICS

FALSE_ALARM_EVERY = 100_000
HEALTHY = 2_000
"""Answers before the change."""
GIVEN_UP = 5_000
"""Answers after it."""


@dataclass(frozen=True)
class Replay:
    """One run of a scenario."""

    answers: float
    """From the change to the alarm; infinite where none came."""
    metric: str
    onset_error: int
    """Answers between the true beginning and the one that the alarm names; negative: named too early."""


def replay(scenario: Scenario, before: Pool, after: Pool, rng: Random) -> Replay:
    """Feed a series healthy answers, then those of the scenario, until the first alarm in any metric."""
    series = Series(METRICS, false_alarm_every=FALSE_ALARM_EVERY)
    for at in range(HEALTHY):
        series.observe(rng.choice(before), at)
    raised = {name for name in (*(metric.name for metric in METRICS), OVERALL) if series.detector(name).is_raised}
    for at in range(HEALTHY, HEALTHY + GIVEN_UP):
        answer = rng.choice(after if rng.random() < scenario.share else before)
        for metric, found in series.observe(answer, at):
            if found.what == "worse" and metric not in raised:
                return Replay(at - HEALTHY + 1, metric, found.since - HEALTHY)
    return Replay(math.inf, "", 0)


@dataclass(frozen=True)
class Summary:
    """Many runs of a scenario."""

    scenario: Scenario
    median: float
    p95: float
    bound: float
    """What a test would need that knows before what is going to happen, and watches nothing but the metric that tells
    most of it, with the same false alarms."""
    onset_off: float
    """Half of the alarms name a beginning at most this many answers from the true one."""
    metric: str
    """That raises the alarm most often."""


def summarise(scenario: Scenario, *, runs: int, pool: int, seed: str) -> Summary:
    before = measured(scenario.before, pool, seed=seed)
    after = measured(scenario.after, pool, seed=seed, of=scenario.before)
    replays = [replay(scenario, before, after, Random(f"{seed} {scenario} {run}")) for run in range(runs)]
    answers = sorted(one.answers for one in replays)
    errors = sorted(abs(one.onset_error) for one in replays if one.metric) or [0]
    return Summary(
        scenario,
        median=answers[runs // 2],
        p95=answers[math.ceil(0.95 * runs) - 1],
        bound=fastest(before, after, scenario.share),
        onset_off=errors[len(errors) // 2],
        metric=Counter(one.metric for one in replays).most_common(1)[0][0],
    )


def fastest(before: Pool, after: Pool, share: float) -> float:
    """Mean answers to the alarm of the best test there is for the metric that shows most.

    That is the CUSUM of exactly this change (Moustakides), by Siegmund's formula: within 2 % of what is computed
    step by step for code blocks (docs/decisions/0012). Its median is a tenth less.
    """
    information = max(
        _information(*(_values(pool, metric.name) for pool in (before, after)), share) for metric in METRICS
    )
    excess = math.log(FALSE_ALARM_EVERY * information) - 1 if information > 0 else 0
    return excess / information if excess > 0 else math.inf


def _values(pool: Pool, metric: str) -> list[float]:
    return [float(answer[metric]) for answer in pool if answer.get(metric) is not None]


def _information(before: Sequence[float], after: Sequence[float], share: float) -> float:
    """What one answer tells of the change, in nats: the Kullback-Leibler divergence of what comes after it."""
    if not before or not after:
        return 0.0
    ranges = Baseline.of(before)
    counts = [0] * len(ranges.counts)
    for value in after:
        counts[bisect_right(ranges.cuts, value)] += 1
    told = 0.0
    for old, new in zip(ranges.counts, counts, strict=True):
        was = (old + 1e-4 * len(before)) / len(before)
        now = share * (new + 1e-4 * len(after)) / len(after) + (1 - share) * was
        told += now * math.log(now / was)
    noise = (len(counts) - 1) / 2 * (1 / len(before) + share**2 / len(after))
    return max(0.0, told - noise)


def describe(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """The table's rows."""
    return [
        {
            "what": f"{one.scenario.name}: {one.scenario.before.name}",
            "aim": one.scenario.aim,
            "median": one.median,
            "P95": one.p95,
            "bound": one.bound if math.isinf(one.bound) else round(one.bound),
            "onset off by": one.onset_off,
            "shown by": one.metric,
        }
        for one in summaries
    ]
