"""What the fleet is told about a request that came to nothing, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from promptmill.queue.claims import Claim


class Effect(StrEnum):
    """What a failure tells about the model class."""

    NONE = ""
    TRIPS = "trips"
    """The provider may be out: enough of them open the breaker."""
    UNREACHED = "unreached"
    """No connection: likewise, or this worker alone is cut off from the provider."""
    PARKS = "parks"
    """The account is refused: one opens the breaker, until its owner has mended something."""
    MAY_PARK = "may_park"
    """The account is refused, or what this job alone asks for: as PARKS, but it takes enough of them."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the fleet is told about a request that came to nothing, while its job is still leased."""

    claim: Claim
    outcome: str
    effect: Effect
    retry_share: float
    """Of the class's rate: what retries may take of it."""
    probe_every: timedelta
    outage_patience: timedelta
    may_use_attempt: bool = False
    """Whether a job may be to blame for it."""
    ends_at: datetime | None = None
    """When it ends at the latest, where that is known."""
    retry_after: timedelta = timedelta(0)
    fallback_after: timedelta | None = None
    """After how long jobs ask another model; None where no other could help."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job and its model class stand after a failure."""

    to_blame: bool = True
    """Whether the failure was the job's own fault: the provider has answered others since the one before."""
    is_out: bool = False
    """Whether the breaker is open: the job may be given back at once, nobody is sent."""
    is_news: bool = False
    """Whether it opened by this failure, or stays open for another reason than before."""
    wait: timedelta = timedelta(0)
    """How long the job has to wait for a retry at least."""
    is_cut_off: bool = False
    """Whether this worker did not reach the provider while another one is answered: its own trouble, not the job's."""
