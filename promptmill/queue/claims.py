"""A worker's right to run a job, and how it gives the job out of its hands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, IntEnum, StrEnum
from typing import Any, Final

from promptmill.caps import CapReached
from promptmill.halts import Halts
from promptmill.jobs import Lane
from promptmill.pacing import Charge, Cost
from promptmill.results import Status

LANES: Final = tuple(Lane)
"""Scripts know a lane by its place in this order, counted from 1."""


class Disposition(StrEnum):
    """What the worker that claims a job has to do with it."""

    RUN = "run"
    REROUTE = "reroute"
    """Its model is out for long: give it back for the next one that it may ask."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FOREIGN = "foreign"
    """An arq client enqueued it: adopt it, or bury it if it cannot be read."""


class Reply(StrEnum):
    """What the reply to a request shows of the provider, whatever it is worth to the job."""

    NONE = ""
    ANSWERED = "answered"
    """The model answered, if not with what was asked for: an open breaker closes."""
    TAKEN = "taken"
    """The API dealt with the request without asking the model: it does not refuse the account, and whether models
    answer the next probe finds out at once."""


class Settled(IntEnum):
    """What became of a settlement."""

    LEASE_LOST = 0
    """Somebody else runs the job: nothing was written."""
    DONE = 1
    GOES_ON = 2
    """Likewise, and the reply to its request closed the open breaker of its model class."""


class Renewal(Enum):
    """What a worker learns about a lease it renews."""

    OK = b"OK"
    CANCELLED = b"CANCELLED"
    LOST = b"LEASE_LOST"


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to run one job until its lease runs out."""

    job_id: str
    disposition: Disposition
    token: str
    number: int
    """How often the job was claimed: the number of the request that may now be sent."""
    attempts: int
    """Attempts used up before this one."""
    lost: int
    """Workers that died with this job."""
    route: int
    """0: the model asked for; n: its n-th fallback."""
    lane: Lane
    budget: str
    reserved: Cost
    """What the budget was charged; tokens are zero where it was charged nothing."""
    payload: bytes | None
    """None: somebody deleted it."""
    probe: bool = False
    """Whether its model class is out, and this is the one request that finds out whether it still is."""
    charge: Charge | None = None
    """None where no request may be sent under it."""

    @property
    def key(self) -> bytes:
        """The id as Redis has it: a stranger's may be no UTF-8."""
        return key_of(self.job_id)


@dataclass(frozen=True, slots=True)
class Claims:
    """The answer to one claim."""

    wait: timedelta | None
    """When to claim again unless woken before; None: when one of this worker's jobs has ended."""
    unconfigured: tuple[str, ...]
    """Model classes with jobs but without limits."""
    jobs: tuple[Claim, ...]
    reached: tuple[CapReached, ...]
    """Caps of which nobody was told before in their hour or day."""
    halts: Halts
    """What is held back just now."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a claimed job ends in Redis, after its result row was committed."""

    claim: Claim
    status: Status
    result: bytes = b""
    """What whoever waits will read: the result in arq's envelope. Empty: nothing is left."""
    keep: timedelta = timedelta(0)
    run: str | None = None
    used: Cost | None = None
    """None: nobody knows, so the reservation stands."""
    cost_nano_usd: int = 0
    spent_nano_usd: int = 0
    """What of the cost counts towards caps now: that of the last attempt. Those before went back with a snooze."""
    failed_with: Reply = Reply.NONE
    """Of a job that failed: what the reply to its last request shows. One that succeeded was answered."""

    @property
    def reply(self) -> Reply:
        """What the request that was sent under this claim shows; nothing where its answer was in the store already."""
        if self.status is not Status.SUCCEEDED:
            return self.failed_with
        return Reply.ANSWERED if self.used is not None and self.used.requests > 0 else Reply.NONE


@dataclass(frozen=True, slots=True)
class Snooze:
    """How a claimed job goes back to the queue."""

    claim: Claim
    wait: timedelta = timedelta(0)
    uses_attempt: bool = False
    sent: bool = True
    """False where no request was sent: the claim's number is then given out again."""
    used: Cost | None = None
    route: int | None = None
    """Another model for the next request, with its budget and cost; None: as before."""
    budget: str | None = None
    cost: Cost | None = None
    spent_nano_usd: int = 0
    """What the request cost."""
    reply: Reply = Reply.NONE
    halted: int = 0
    """Where no other model was left for it: the version of the halts that left none."""


def key_of(job_id: str) -> bytes:
    """Return the id as Redis has it: a stranger's may be no UTF-8."""
    try:
        return job_id.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair: in no queue, but no reason to stop at
        return job_id.encode("utf-8", "surrogatepass")


def read_claim(fields: list[Any]) -> Claim:
    """Return what the claim script says of one job."""
    (
        job_id,
        disposition,
        token,
        number,
        attempts,
        lost,
        route,
        lane,
        budget,
        tokens_in,
        tokens_out,
        probe,
        payload,
        *charge,
    ) = fields
    return Claim(
        job_id=job_id.decode("utf-8", "surrogateescape"),
        disposition=Disposition(disposition.decode()),
        token=token.decode(),
        number=number,
        attempts=attempts,
        lost=lost,
        route=route,
        lane=LANES[lane - 1],
        budget=budget.decode("utf-8", "replace"),
        reserved=Cost(requests=1, input=tokens_in, output=tokens_out),
        payload=payload,
        probe=bool(probe),
        charge=Charge(float(charge[0]), Cost(*charge[1:])) if charge else None,
    )
