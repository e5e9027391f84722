"""A series: the answers of one model to one kind of prompt in one lane, and what watches each of their metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

from worker.monitoring.detector import Detector, Found
from worker.quality.metric import Metric

CLEAN: Final[Mapping[str, int]] = {"stray_script": 20_000}
"""Answers without a fault that a baseline begins with: a healthy model practically never does this. Learned from its
own answers alone, a series would need 20,000 of them before one fault in a hundred could be proved in 500."""


class SeriesKey(NamedTuple):
    """Which answers are comparable."""

    asked: str
    """The model that the job named first."""
    model: str
    """The model that was asked for the answer: after a fallback another one. Not the one that the answer says it is
    from: a provider that answers with another model than was asked for is just what is to be found."""
    kind: str
    """The job's tag `kind`, or a hash of its system prompt: a new prompt makes a new series."""
    lane: str


class Change(NamedTuple):
    """What was found in one metric of a series."""

    metric: str
    found: Found


class Series:
    """The detectors of one series."""

    def __init__(self, metrics: Sequence[Metric], *, false_alarm_every: float) -> None:
        """Grant one false alarm in `false_alarm_every` answers, in all metrics together.

        So many answers, not so much time and not so many series: an answer belongs to one series, however many are
        watched, so the owner of a thousand series is not called more often than the owner of one.
        """
        self._every = false_alarm_every * len(metrics)
        self._metrics = metrics
        self._detectors = {metric.name: self._detector(metric) for metric in metrics}

    def __getitem__(self, metric: str) -> Detector:
        """Return the detector of a metric. Raises KeyError where it is not watched."""
        return self._detectors[metric]

    def observe(self, quality: Mapping[str, Any], at: int) -> list[Change]:
        """Take the metrics of the next answer, of which any may be missing; return what they lead to.

        `at` tells answers apart and grows.
        """
        changes = []
        for name, detector in self._detectors.items():
            value = _number(quality.get(name))
            if value is not None and (found := detector.observe(value, at)) is not None:
                changes.append(Change(name, found))
        return changes

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {name: detector.to_json() for name, detector in self._detectors.items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], metrics: Sequence[Metric], *, false_alarm_every: float) -> Self:
        """Return the series that `to_json` was asked for; a metric that is new since then begins to learn."""
        series = cls(metrics, false_alarm_every=false_alarm_every)
        for metric in metrics:
            if metric.name in stored:
                series._detectors[metric.name] = series._detector(metric, stored[metric.name])
        return series

    def _detector(self, metric: Metric, stored: Mapping[str, Any] | None = None) -> Detector:
        clean = CLEAN.get(metric.name, 0)
        if stored is None:
            return Detector(metric, false_alarm_every=self._every, clean=clean)
        return Detector.from_json(stored, metric, false_alarm_every=self._every, clean=clean)


def _number(value: Any) -> float | None:
    """Return a value that can be compared; what a plug-in measured may be anything."""
    try:
        number = float(value) if isinstance(value, bool | int | float) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
