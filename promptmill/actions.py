"""What is done when there is something to know: `[[alarm_actions]]` of the file, and what became of each.

Kept in the result store, so that an action is taken whoever dies: it is due once for each alarm, and stays due until it
was taken, or there is no more point in it.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from promptmill.jobs import Lane
from promptmill.metrics import OVERALL

_BLANK: Final = re.compile(r"[\s\x00-\x1f]")

Event = Literal["alarm", "spend_cap", "parked", "outage"]


class _ForAlarms(BaseModel):
    """Which alarms an action is for: every one, where nothing is stated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = None
    """The one whose answers became worse: of a fallback's answers the fallback."""
    kind: str | None = None
    lane: Lane | None = None
    metric: str | None = None

    @property
    def condition(self) -> dict[str, str]:
        """What an alarm must have: model, kind, lane and metric, as far as they are stated."""
        stated = {"model": self.model, "kind": self.kind, "lane": self.lane, "metric": self.metric}
        return {name: str(value) for name, value in stated.items() if value is not None}


def is_http(address: str) -> bool:
    """Return whether a request can be sent to `address`."""
    try:
        parts = urlsplit(address)
        return (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and parts.port != 0
            and not _BLANK.search(address)
        )
    except ValueError:  # brackets that do not match, a port that is none
        return False


def _webhook(url: SecretStr) -> SecretStr:
    if not is_http(url.get_secret_value()):
        raise ValueError("expected an address that begins with https:// or http://")  # never shown: it is the secret
    return url


def _parts(url: SecretStr) -> SplitResult:
    try:
        return urlsplit(url.get_secret_value())
    except ValueError:
        return SplitResult("", "", "", "", "")


class Notify(_ForAlarms):
    """Post a message to a webhook, such as an incoming webhook of Slack."""

    do: Literal["notify"]
    url: Annotated[SecretStr, AfterValidator(_webhook)]
    on: Annotated[frozenset[Event], Field(min_length=1)] = frozenset({"alarm", "spend_cap", "parked", "outage"})
    """Besides alarms: a cap on spending is reached, a budget is parked until its owner mends something, the provider
    answers nobody."""

    @property
    def name(self) -> str:
        """What tells this action from others: the webhook's host, and a digest instead of the rest, which is secret."""
        digest = hashlib.sha256(self.url.get_secret_value().encode("utf-8", "surrogatepass")).hexdigest()
        return f"notify {_parts(self.url).hostname} {digest[:8]}"


class StopFallback(_ForAlarms):
    """Let no job that asked for another model go on to the one whose answers became worse."""

    do: Literal["stop_fallback"]

    @property
    def name(self) -> str:
        """What tells this action from others."""
        return self.do


class PauseLane(_ForAlarms):
    """Send nothing more of a lane."""

    do: Literal["pause_lane"]
    pause: Lane | None = None
    """None: the lane whose answers became worse."""

    @property
    def name(self) -> str:
        """What tells this action from others."""
        return self.do if self.pause is None else f"{self.do} {self.pause}"


class SendCanaries(_ForAlarms):
    """Send canaries at once to the model whose answers became worse, beside the rounds that are due.

    Once for all of its alarms between two of these.
    """

    do: Literal["send_canaries"]
    rounds: Annotated[int, Field(ge=1, le=100, strict=True)] = 3

    @property
    def name(self) -> str:
        """What tells this action from others."""
        return f"{self.do} {self.rounds}"


AlarmAction = Annotated[Notify | StopFallback | PauseLane | SendCanaries, Field(discriminator="do")]


def refuse_unknown_metrics(actions: Iterable[AlarmAction], known: Collection[str]) -> None:
    """Raise ValueError where an action is for alarms of a metric that nobody measures: it would never be taken."""
    names = (*known, OVERALL)
    for action in actions:
        if action.metric is not None and action.metric not in names:
            near = difflib.get_close_matches(action.metric, names, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(names)}"
            raise ValueError(f"expected metric to be the name of one, got {action.metric!r}{hint}")


class ActionState(StrEnum):
    """Where an action stands."""

    DUE = "due"
    """To be taken, or tried again at a time."""
    DONE = "done"
    HELD = "held"
    """Something is held back until the alarm is resolved."""
    LIFTED = "lifted"
    """It goes on."""
    GIVEN_UP = "given up"
    """It was refused, or could not be taken for a day."""


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """One action for one occasion."""

    occasion: str
    """`alarm 12`, or what else happened and a number of its own. With `action` it is in the store once."""
    action: str
    """Its name."""
    event: str
    due_since: datetime
    next_at: datetime
    """When somebody tries it (again)."""
    alarm_id: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    """Of what is no alarm: the fields of its log entry."""
    state: ActionState = ActionState.DUE
    tries: int = 0
    ended_at: datetime | None = None
    """When it was taken, lifted or given up."""
    says: str = ""
    """What came of it."""

    def to_json(self) -> dict[str, Any]:
        """Return what `promptmill alarms show` prints."""
        told = asdict(self)
        return {name: told[name] for name in ("action", "state", "tries", "due_since", "ended_at", "says")}
