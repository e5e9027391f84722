"""Finds out, answer by answer, whether one metric of one series has become worse.

For each way of getting worse (see `ways`) a sum is kept: the log-likelihood ratio of every answer is added, and a sum
that falls below zero begins again at zero (Page's CUSUM: no test with as few false alarms finds a change of the kind
that it watches for sooner). A sum that reaches its threshold raises an alarm; the answer with which it left zero is
where the change seems to have begun. While the alarm is open the sum is held at the threshold, and when it has fallen
back to zero, with as much evidence for the baseline as there was against it, the series has recovered.

The threshold follows from the false alarms that are granted: a sum of unchanged answers needs about
`exp(threshold) / information` of them to get there by chance (Lorden; Siegmund).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from worker.monitoring.baseline import Baseline
from worker.monitoring.ways import Direction, ratios
from worker.quality.metric import Kind, Worse

FIRST: Final = 400
"""Answers that are only looked at: they make the first baseline."""
LEARNED: Final = 10_000
"""Answers after which a baseline stays as it is: one that went on would follow answers that get worse by and by."""
_BLOCK: Final = 250
_PART: Final = 4
"""Answers are learned in blocks, and each block only when the next one has passed without suspicion. A block is a
quarter of what was learned before: what changes slowly is found before it can blend in."""
_CALM: Final = 0.3
"""Share of the threshold below which a sum raises no suspicion."""
_LOWEST_THRESHOLD: Final = 5.0
_RARER: Final = 0.4
"""False alarms come rarer than is reckoned: sums overshoot their thresholds, and ways and metrics overlap. With this
factor about half of what is granted is used. Set on the seeds of `make bench-quality SEEDS=tuning`."""


@dataclass(frozen=True, slots=True)
class Found:
    """A series has become worse, or has recovered."""

    what: Literal["worse", "recovered"]
    direction: Direction
    """In which the values moved when they became worse."""
    way: str
    """See `worker.monitoring.ways`."""
    since: int
    """`at` of the answer with which it seems to have begun to be worse."""
    answers: int
    """Answers of the series since then, that one included."""
    once_in: float
    """A detector of unchanged answers raises an alarm of this strength once in so many of them, or more rarely."""


class Detector:
    """One metric of one series. About a microsecond an answer; `to_json` is all that has to be kept of it."""

    def __init__(self, kind: Kind, worse: Worse, *, false_alarm_every: float, clean: int = 0) -> None:
        """Watch a metric of this kind for getting worse in this direction.

        Grant one false alarm in `false_alarm_every` of the detector's own answers.

        `clean` answers without a fault are added to the baseline: what is known of the metric beforehand.
        """
        self._kind: Kind = kind
        self._worse: Worse = worse
        self._false_alarm_every = false_alarm_every
        self._clean = clean
        self._seen = 0
        self._first: list[float] = []
        self._baseline: Baseline | None = None
        self.frozen = False
        """Set by whoever asks the owner: true while nothing is to be added to the baseline."""
        self._raised: int | None = None
        """The way whose alarm is open."""
        self._surprises: tuple[float, ...] = ()
        self.surprise = 0.0
        """Of the last answer that was observed: see `Baseline.surprises`; 0 while there is no baseline. Reckoned from
        the first baseline for good, so that it always means the same."""

    @property
    def baseline(self) -> Baseline | None:
        """What answers are compared with; None while the first ones come in."""
        return self._baseline

    @property
    def is_raised(self) -> bool:
        """Whether an alarm is open."""
        return self._raised is not None

    def start_over(self) -> None:
        """Take what was found for chance, or mended: answers are compared with the same baseline, from zero."""
        if self._baseline is not None:
            self._start_over()

    def relearn(self) -> None:
        """Take the answers as they are from now on: the next ones make a new baseline."""
        self._baseline, self._raised, self._first = None, None, []

    def observe(self, value: float, at: int) -> Found | None:
        """Take the value of the series' next answer. `at` tells answers apart and grows, with gaps or without."""
        self._seen += 1
        if self._baseline is None:
            self._gather(value)
            return None
        place = bisect_right(self._cuts, value)
        self.surprise = self._surprises[place]
        if self._raised is not None:
            return self._watch_recovery(self._raised, self._rows[place][self._raised])
        sums = self._sums
        passed = None
        for number, log in enumerate(self._rows[place]):
            before = sums[number]
            after = before + log
            if after <= 0:
                if before:
                    sums[number] = 0.0
                continue
            if not before:
                self._since[number] = (self._seen, at)
            sums[number] = after
            if after >= self._thresholds[number]:
                passed = number
        if passed is not None:
            self._raised = passed
            return self._found("worse", passed)
        if not self.frozen and self._is_learning:
            self._learn(place)
        return None

    def _gather(self, value: float) -> None:
        self._first.append(value)
        if len(self._first) == FIRST:
            # A flag may so far have had one value only; both have their range from the beginning.
            flag = Baseline((0.5,), (self._first.count(0), self._first.count(1)), means=(0.0, 1.0))
            self._adopt(flag if self._kind == "flag" else Baseline.of(self._first))
            self._first = []

    def _adopt(self, baseline: Baseline) -> None:
        self._use(baseline)
        self._surprises = baseline.surprises(self._worse)
        self._start_over()

    def _use(self, baseline: Baseline) -> None:
        self._baseline = baseline
        self._cuts = baseline.cuts
        watched = list(ratios(baseline, self._kind, self._worse, clean=self._clean))
        self._rows = list(zip(*(way.logs for way in watched), strict=True))
        granted = self._false_alarm_every * len(watched) * _RARER
        self._thresholds = [max(_LOWEST_THRESHOLD, math.log(granted * way.information)) for way in watched]
        self._watched = watched
        self._block = max(_BLOCK, baseline.size // _PART)
        self._is_learning = baseline.size < LEARNED

    def _start_over(self) -> None:
        """Forget what the sums and the answers that were not yet learned tell."""
        self._raised = None
        self._sums = [0.0] * len(self._watched)
        self._since = [(self._seen, 0)] * len(self._watched)
        self._last_block = [0] * (len(self._cuts) + 1)
        self._this_block = list(self._last_block)
        self._waiting = 0

    def _learn(self, place: int) -> None:
        """Let a block of answers wait until the answers after it have shown that nothing had changed."""
        self._this_block[place] += 1
        self._waiting += 1
        if self._waiting < self._block or self._baseline is None:
            return
        if all(reached < _CALM * limit for reached, limit in zip(self._sums, self._thresholds, strict=True)):
            self._use(self._baseline.with_more(self._last_block))
            self._last_block = self._this_block
            self._this_block = [0] * len(self._last_block)
            self._waiting = 0

    def _watch_recovery(self, number: int, log: float) -> Found | None:
        self._sums[number] = min(self._sums[number] + log, self._thresholds[number])
        if self._sums[number] > 0:
            return None
        recovered = self._found("recovered", number)
        self._start_over()
        return recovered

    def _found(self, what: Literal["worse", "recovered"], number: int) -> Found:
        watched = self._watched[number]
        seen, since = self._since[number]
        return Found(
            what=what,
            direction=watched.direction,
            way=watched.way.name,
            since=since,
            answers=self._seen - seen + 1,
            once_in=self._false_alarm_every * math.exp(self._sums[number] - self._thresholds[number]),
        )

    # what is kept ----------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads: a few hundred numbers at most."""
        kept: dict[str, Any] = {"seen": self._seen}
        if self._baseline is None:
            return {**kept, "first": self._first}
        return {
            **kept,
            "baseline": self._baseline.to_json(),
            "surprises": list(self._surprises),
            "sums": self._sums,
            "since": [list(since) for since in self._since],
            "raised": self._raised,
            "last_block": self._last_block,
            "this_block": self._this_block,
        }

    @classmethod
    def from_json(
        cls, stored: Mapping[str, Any], kind: Kind, worse: Worse, *, false_alarm_every: float, clean: int = 0
    ) -> Self:
        """Return the detector that `to_json` was asked for, going on where it was.

        Where another version watched for other ways the baseline stays, and the sums begin again.
        """
        detector = cls(kind, worse, false_alarm_every=false_alarm_every, clean=clean)
        detector._seen = stored["seen"]
        if "baseline" not in stored:
            detector._first = list(stored["first"])
            return detector
        detector._adopt(Baseline.from_json(stored["baseline"]))
        detector._surprises = tuple(stored["surprises"])
        if len(stored["sums"]) == len(detector._watched):
            detector._sums = list(stored["sums"])
            detector._since = [(seen, at) for seen, at in stored["since"]]
            detector._raised = stored["raised"]
            detector._last_block = list(stored["last_block"])
            detector._this_block = list(stored["this_block"])
            detector._waiting = sum(detector._this_block)
        return detector
