"""How far a run is, as it is told while it goes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

RATE_OVER: Final = timedelta(seconds=60)
_MINUTE: Final = 60.0


class Phase(StrEnum):
    """What a run is doing."""

    CHECKING = "checking"
    """The file is read through; nothing has been sent."""
    SENDING = "sending"
    """Jobs are put into the queue and their ends awaited."""
    WRITING = "writing"
    """Every line has its result; the answers file is made from the store."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class RunProgress:
    """One look at a run."""

    phase: Phase
    run: str = ""
    """Empty while the file is being checked: the run's name depends on its content."""
    share: float = 0.0
    """Of the phase that is behind, 0..1."""
    total: int = 0
    """Lines with a job."""
    done: int = 0
    """Lines with a final result, whatever it is, those of earlier sessions included."""
    failed: int = 0
    """Of these, those without an answer: failed, cancelled, expired."""
    before: int = 0
    """Lines that had their final result when this session began."""
    in_queue: int = 0
    """Jobs of this run in Redis."""
    skipped: int = 0
    """Bad lines that were left out."""
    rate_per_minute: float | None = None
    """Jobs that ended a minute, over the last minute; None before there is one to speak of."""
    budget_per_minute: float = 0.0
    """Requests a minute that the settings allow for the models of this file."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    time_left: timedelta | None = None
    """Until the last line of the phase is done; None where nobody can know."""
    held: str | None = None
    """Why nothing moves just now: a parked budget, Redis or the store away."""
    notes: tuple[str, ...] = ()
    """What the owner should know once: that the run goes on, or that it is a new one since the file was changed."""


class RateMeter:
    """The rate of something that is counted upwards, over the last minute. Time is handed in, in seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, count: int, now: float) -> None:
        """Take down the count as it is now."""
        self._samples.append((now, count))
        oldest = now - RATE_OVER.total_seconds()
        while len(self._samples) > 2 and self._samples[1][0] <= oldest:
            self._samples.popleft()

    def per_minute(self) -> float | None:
        """Return the rate; None until a second lies between the first sample and the last."""
        if not self._samples:
            return None
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        return None if end - start < 1 else (last - first) * _MINUTE / (end - start)

    def time_left(self, more: int) -> timedelta | None:
        """Return how long `more` of it will take at that rate; None where nothing moves."""
        rate = self.per_minute()
        return timedelta(minutes=more / rate) if rate else None
