"""What an alarm has to show for itself: each metric before and after, how sure the difference is, and examples."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from promptmill.store.watching import Measured
from worker.quality.metric import Metric, Worse

_MOVED: Final = 5
"""Metrics that are shown beside the one that the alarm is about."""
_EXAMPLES: Final = 3
_CERTAIN: Final = 3.0
"""Standard errors from which on another metric is said to have moved as well."""


def evidence(
    metric: str, metrics: Sequence[Metric], before: Sequence[Measured], after: Sequence[Measured]
) -> dict[str, Any]:
    """Return what is stored with an alarm about `metric`, from answers before and after its beginning.

    `metric` and `moved`: name, `before` and `after` (mean and number of answers), `worse` (the share of pairs, one
    answer from either side, in which the later is the worse one; 0.5 where nothing changed) and `sigma` (how many
    standard errors that is from 0.5). The overall metric is none that is measured: for it there is `moved` alone.
    `examples`: ids of jobs, the worst answers of the metric after, ordinary ones before.
    """
    compared = {each.name: _compared(each, _values(before, each.name), _values(after, each.name)) for each in metrics}
    moved = sorted((one for one in compared.values() if one), key=lambda one: -one["sigma"])
    told: dict[str, Any] = {
        "moved": [one for one in moved if one["metric"] != metric and one["sigma"] >= _CERTAIN][:_MOVED]
    }
    shown = next((each for each in metrics if each.name == metric), None)
    if shown is not None and compared[metric]:
        told["metric"] = compared[metric]
    examples_of = shown or next((each for each in metrics if moved and each.name == moved[0]["metric"]), None)
    if examples_of is not None:
        told["examples"] = _examples(examples_of, before, after)
    return told


def _values(answers: Sequence[Measured], metric: str) -> list[float]:
    values = (answer.quality.get(metric) for answer in answers)
    return [float(value) for value in values if isinstance(value, bool | int | float) and abs(value) < math.inf]


def _compared(metric: Metric, before: Sequence[float], after: Sequence[float]) -> dict[str, Any]:
    if not before or not after:
        return {}
    higher = _share_higher(before, after)
    worse = _as_bad(metric.worse, higher)
    # Of the rank sum (Mann and Whitney) for values without ties; ties make it smaller, so this errs to the safe side.
    error = math.sqrt((len(before) + len(after) + 1) / (12 * len(before) * len(after)))
    return {
        "metric": metric.name,
        "before": {"mean": round(fmean(before), 6), "answers": len(before)},
        "after": {"mean": round(fmean(after), 6), "answers": len(after)},
        "worse": round(worse, 4),
        "sigma": round((worse - 0.5) / error, 2),
    }


def _share_higher(before: Sequence[float], after: Sequence[float]) -> float:
    """Return in what share of pairs the value after is the higher one; equal ones count half."""
    ordered = sorted(before)
    wins = sum(bisect_left(ordered, value) + bisect_right(ordered, value) for value in after)
    return wins / (2 * len(before) * len(after))


def _as_bad(worse: Worse, higher: float) -> float:
    return {"higher": higher, "lower": 1 - higher, "either": max(higher, 1 - higher)}[worse]


def _examples(metric: Metric, before: Sequence[Measured], after: Sequence[Measured]) -> Mapping[str, list[str]]:
    earlier, later = (
        [(value, answer.job_id) for answer in answers for value in _values([answer], metric.name)]
        for answers in (before, after)
    )
    if not earlier or not later:
        return {"before": [], "after": []}
    earlier.sort()
    centre = max(0, len(earlier) // 2 - _EXAMPLES // 2)
    falls = metric.worse == "lower" or (
        metric.worse == "either" and _share_higher([v for v, _ in earlier], [v for v, _ in later]) < 0.5
    )
    later.sort(reverse=not falls)
    return {
        "before": [job_id for _, job_id in earlier[centre : centre + _EXAMPLES]],
        "after": [job_id for _, job_id in later[:_EXAMPLES]],
    }
