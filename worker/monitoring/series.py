"""A series: the answers of one model to one kind of prompt in one lane, and what watches each of their metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from worker.monitoring.detector import Detector, Found
from worker.quality.metric import Kind, Metric, Worse

CLEAN: Final[Mapping[str, int]] = {"stray_script": 20_000}
"""Answers without a fault that a baseline begins with: a healthy model practically never does this. Learned from its
own answers alone, a series would need 20,000 of them before one fault in a hundred could be proved in 500."""

OVERALL: Final = "overall"
"""Not measured but reckoned: how bad an answer is in all metrics together, as the sum of their surprises. Many metrics
that move a little show here long before one of them could be told from chance."""


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

    def __init__(
        self, metrics: Sequence[Metric], *, false_alarm_every: float, stored: Mapping[str, Any] | None = None
    ) -> None:
        """Grant one false alarm in `false_alarm_every` answers, in all metrics together.

        So many answers, not so much time and not so many series: an answer belongs to one series, however many are
        watched, so the owner of a thousand series is not called more often than the owner of one.

        `stored` is what `to_json` returned: each detector goes on where it was, one that is new begins to learn.
        """
        every = false_alarm_every * (len(metrics) + 1)
        kept = stored or {}
        self._detectors = {
            metric.name: _detector(kept, metric.name, metric.kind, metric.worse, every) for metric in metrics
        }
        self._overall = _detector(kept, OVERALL, "amount", "higher", every)

    def __getitem__(self, metric: str) -> Detector:
        """Return the detector of a metric. Raises KeyError where it is not watched."""
        return self._overall if metric == OVERALL else self._detectors[metric]

    def observe(self, quality: Mapping[str, Any], at: int) -> list[Change]:
        """Take the metrics of the next answer, of which any may be missing; return what they lead to.

        `at` tells answers apart and grows.
        """
        changes = []
        surprise = 0.0
        for name, detector in self._detectors.items():
            value = _number(quality.get(name))
            if value is None:
                continue
            if (found := detector.observe(value, at)) is not None:
                changes.append(Change(name, found))
            surprise += detector.surprise
        if surprise and (found := self._overall.observe(surprise, at)) is not None:
            changes.append(Change(OVERALL, found))
        return changes

    def to_json(self) -> dict[str, Any]:
        """Return what the next `Series` is made with."""
        return {
            **{name: detector.to_json() for name, detector in self._detectors.items()},
            OVERALL: self._overall.to_json(),
        }


def _detector(kept: Mapping[str, Any], name: str, kind: Kind, worse: Worse, every: float) -> Detector:
    clean = CLEAN.get(name, 0)
    if name not in kept:
        return Detector(kind, worse, false_alarm_every=every, clean=clean)
    return Detector.from_json(kept[name], kind, worse, false_alarm_every=every, clean=clean)


def _number(value: Any) -> float | None:
    """Return a value that can be compared; what a plug-in measured may be anything."""
    try:
        number = float(value) if isinstance(value, bool | int | float) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
