"""A series: the answers of one model to one kind of prompt in one lane, and what watches each of their metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from promptmill.metrics import OVERALL
from worker.monitoring.baseline import Baseline
from worker.monitoring.detector import FIRST, Detector, Found
from worker.quality.metric import Kind, Metric, Worse

CLEAN: Final[Mapping[str, int]] = {"stray_script": 20_000}
"""Answers without a fault that a baseline begins with: a healthy model practically never does this. Learned from its
own answers alone, a series would need 20,000 of them before one fault in a hundred could be proved in 500."""

_SEVERAL: Final = 2
"""Metrics that at least make the overall one."""


class Change(NamedTuple):
    """What was found in one metric of a series."""

    metric: str
    found: Found


class Series:
    """The detectors of one series."""

    def __init__(
        self, metrics: Sequence[Metric], *, false_alarm_every: float, stored: Mapping[str, Any] | None = None
    ) -> None:
        """Grant one false alarm in `false_alarm_every` answers, in all metrics together.

        So many answers, not so much time and not so many series: an answer belongs to one series, however many are
        watched, so the owner of a thousand series is not called more often than the owner of one.

        `stored` is what `to_json` returned: each detector goes on where it was, one that is new begins to learn.
        """
        every = false_alarm_every * (len(metrics) + 1)
        kept = stored or {"seen": 0, "metrics": {}}
        self._seen: int = kept["seen"]
        self._detectors = {
            metric.name: _detector(kept["metrics"].get(metric.name), metric.kind, metric.worse, every, metric.name)
            for metric in metrics
        }
        self._metrics = tuple(metrics)
        self._directed = [metric.name for metric in metrics if metric.worse != "either"]
        together = kept.get("together")
        if together is not None and not self._detectors.keys() >= set(together):
            together = None  # one of them is no longer measured: their sum means something else, and begins anew
        self._together: frozenset[str] | None = None if together is None else frozenset(together)
        """The metrics that make the overall one: fixed once, so that it always means the same."""
        self._overall = _detector(None if together is None else kept["overall"], "amount", "higher", every, OVERALL)

    def detector(self, metric: str) -> Detector | None:
        """Return what watches a metric, or all of them together (`OVERALL`); None where nothing does."""
        return self._overall if metric == OVERALL else self._detectors.get(metric)

    def freeze(self, frozen: bool) -> None:  # noqa: FBT001 - reads as what it says
        """Keep the baselines as they are, or let them go on learning."""
        for detector in (*self._detectors.values(), self._overall):
            detector.frozen = frozen

    def observe(self, quality: Mapping[str, Any], at: int) -> list[Change]:
        """Take the metrics of the next answer, of which any may be missing; return what they lead to.

        `at` tells answers apart and grows.
        """
        changes = []
        self._seen += 1
        if self._together is None and self._seen >= 2 * FIRST:
            self._together = frozenset(name for name in self._directed if self._detectors[name].baseline is not None)
        together = self._together or frozenset()
        surprise = 0.0
        is_known = False
        for name, detector in self._detectors.items():
            value = _number(quality.get(name))
            if value is None:
                continue
            if (found := detector.observe(value, at)) is not None:
                changes.append(Change(name, found))
            is_known |= detector.is_raised
            if name in together:
                surprise += detector.surprise
        if len(together) < _SEVERAL:
            return changes
        if is_known and not self._overall.is_raised:
            self._overall.start_over()  # what a metric has an alarm for by itself is no news
        elif surprise and (found := self._overall.observe(surprise, at)) is not None:
            changes.append(Change(OVERALL, found))
        return changes

    def to_json(self) -> dict[str, Any]:
        """Return what the next `Series` is made with."""
        kept: dict[str, Any] = {
            "seen": self._seen,
            "metrics": {name: detector.to_json() for name, detector in self._detectors.items()},
        }
        if self._together is not None:
            kept |= {"together": sorted(self._together), "overall": self._overall.to_json()}
        return kept

    def summary(self) -> dict[str, Any]:
        """Return what others may know of each metric: what it is, and the mean that its answers are compared with."""
        return {
            metric.name: {
                "kind": metric.kind,
                "worse": metric.worse,
                "baseline": _told(self._detectors[metric.name].baseline),
            }
            for metric in self._metrics
        }


def _told(baseline: Baseline | None) -> dict[str, float] | None:
    if baseline is None or not baseline.means:
        return None
    return {"mean": round(baseline.mean, 6), "spread": round(baseline.spread, 6), "answers": baseline.size}


def _detector(kept: Mapping[str, Any] | None, kind: Kind, worse: Worse, every: float, name: str) -> Detector:
    clean = CLEAN.get(name, 0)
    if kept is None:
        return Detector(kind, worse, false_alarm_every=every, clean=clean)
    return Detector.from_json(kept, kind, worse, false_alarm_every=every, clean=clean)


def _number(value: Any) -> float | None:
    """Return a value that can be compared; what a plug-in measured may be anything."""
    try:
        number = float(value) if isinstance(value, bool | int | float) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
