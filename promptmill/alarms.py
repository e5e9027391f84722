"""Alarms: a metric of a series has become worse. Raised by a worker, looked after by whoever owns the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple


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


class AlarmState(StrEnum):
    """Where an alarm stands, and so who moves it next."""

    OPEN = "open"
    """Its owner acknowledges or resolves it; the worker resolves it when the answers are again as they were."""
    ACKNOWLEDGED = "acknowledged"
    """Somebody knows; moved as an open one."""
    RESOLVED = "resolved"
    """Nobody moves it. If answers become worse once more, that is another alarm."""


class Resolution(StrEnum):
    """Why an alarm was resolved, and what the answers are compared with afterwards."""

    RECOVERED = "recovered"
    """The answers are as they were: found by the worker itself."""
    DISMISSED = "dismissed"
    """Its owner took it for chance, or has mended something: compared with the same baseline, from zero."""
    ACCEPTED = "accepted"
    """Its owner takes the answers as they are now: a new baseline is learned from those to come."""


MOVES: Final[Mapping[AlarmState, frozenset[AlarmState]]] = {
    AlarmState.OPEN: frozenset({AlarmState.ACKNOWLEDGED, AlarmState.RESOLVED}),
    AlarmState.ACKNOWLEDGED: frozenset({AlarmState.RESOLVED}),
    AlarmState.RESOLVED: frozenset(),
}
"""Every move there is."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A metric of a series has become worse."""

    series: SeriesKey
    metric: str
    direction: str
    """`lower` or `higher`: where the values went."""
    way: str
    """Which kind of change fits best, such as `all slightly` or `15 in 100 badly`."""
    since: datetime
    """When the first of the worse answers ended, as far as can be told."""
    raised_at: datetime
    answers: int
    """Answers of the series from then until the alarm."""
    once_in: int
    """Unchanged answers lead to an alarm of this strength, in this metric, once in so many of them or more rarely."""
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """See `worker.monitoring.evidence`."""
    state: AlarmState = AlarmState.OPEN
    acknowledged_at: datetime | None = None
    resolved_at: datetime | None = None
    resolution: Resolution | None = None
    id: int | None = None
    """Given by the store."""

    def to_json(self) -> dict[str, Any]:
        """Return the alarm as whoever is told of it gets it: times in UTC, no prompt and no answer."""
        plain = asdict(self) | {"series": self.series._asdict()}
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in plain.items()}
