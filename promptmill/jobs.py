"""The job: one Messages API request to be run, and the states that it goes through."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from promptmill.errors import BadJob
from promptmill.expectations import Expectation
from promptmill.tracing import TRACEPARENT

KIND_TAG: Final = "kind"
"""The tag by which its owner says which prompts are alike; see `promptmill.queue.kind_of`."""

MAX_ID_BYTES: Final = 256
MAX_REQUEST_BYTES: Final = 32 * 1024 * 1024
"""The Messages API's own limit: a larger body is answered with 413."""

MAX_COUNT: Final = 10**12
"""No file has so many lines, no answer so many tokens. Scripts count in doubles: a record beyond 2**53 is unsound."""

_ID_ALPHABET: Final = "0123456789abcdefghijkmnpqrstuvwxyz"
_BAD_ID: Final = re.compile("[\x00-\x20\x7f\ud800-\udfff]")


class Lane(StrEnum):
    """Who goes first when budget is scarce, in this order."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    OVERNIGHT = "overnight"


class JobState(StrEnum):
    """Where a job is, and so who moves it next."""

    READY = "ready"
    """In its lane; the next claim that finds budget moves it."""
    WAITING = "waiting"
    """In the queue until a time (deferred or snoozed); the first claim after that time moves it."""
    LEASED = "leased"
    """A worker runs it; that worker moves it, or any claim once the lease has run out."""
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    FAILED = "failed"
    """A dead letter; its owner may redrive it."""


MOVES: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.READY: frozenset({JobState.LEASED}),
    JobState.WAITING: frozenset({JobState.READY}),
    JobState.LEASED: frozenset(
        {
            JobState.READY,
            JobState.WAITING,
            JobState.SUCCEEDED,
            JobState.CANCELLED,
            JobState.EXPIRED,
            JobState.FAILED,
        }
    ),
    JobState.FAILED: frozenset({JobState.READY}),
    JobState.SUCCEEDED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.EXPIRED: frozenset(),
}
"""Every move there is. Only a leased job ends: whoever ends it holds the lease, so it ends once (I2)."""


def new_job_id() -> str:
    """Return a fresh id: 20 characters, 101 random bits, safe in a shell and in a Redis key."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(20))


class Job(BaseModel):
    """One Messages API request, with its lane, deadline, fallbacks and expectation.

    `request` is a Messages API body, passed through whole: whatever the API learns tomorrow can be sent today.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default_factory=new_job_id)
    request: dict[str, Any]
    lane: Lane = Lane.STANDARD
    not_before: datetime | None = None
    """Not claimed before this time (UTC where no zone is given)."""
    deadline: datetime | None = None
    """No longer wanted after this time: the job then ends as expired, unless it is being answered."""
    fallbacks: tuple[str, ...] = ()
    """Models to try, in this order, when the first cannot answer."""
    expect: Expectation | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    run: str | None = None
    position: int | None = Field(default=None, ge=1, le=MAX_COUNT)
    max_attempts: int | None = Field(default=None, ge=1, le=100)
    """Overrides the worker's setting; waiting (I3) is not counted."""
    trace: str | None = Field(default=None, pattern=TRACEPARENT)
    """W3C `traceparent` of whoever submitted the job; filled in where OpenTelemetry is in use."""
    for_claude_code: bool = False
    """The answer goes into Claude Code: its text comes without trigger words (see promptmill.claude_code)."""
    keep_result: timedelta | None = Field(default=None, ge=timedelta(0))
    """How long Redis keeps the result for whoever waits; None: the worker's setting; zero: not at all."""

    @property
    def model(self) -> str:
        """The model that is asked first."""
        return str(self.request["model"])

    @property
    def models(self) -> tuple[str, ...]:
        """The model that is asked first, then the fallbacks."""
        return (self.model, *self.fallbacks)

    @property
    def request_ref(self) -> str:
        """SHA-256 of the canonical request body."""
        return hashlib.sha256(orjson.dumps(self.request, option=orjson.OPT_SORT_KEYS)).hexdigest()

    @field_validator("id", "run")
    @classmethod
    def _usable_in_keys(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not 0 < len(value.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES or _BAD_ID.search(value):
            raise ValueError(
                f"expected 1 to {MAX_ID_BYTES} bytes of UTF-8 without white space or control characters, "
                f"got {_shown(value)}"
            )
        return value

    @field_validator("not_before", "deadline")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        try:
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        except OverflowError:
            raise ValueError(f"expected a time between the years 1 and 9999 in UTC, got {value}") from None

    @field_validator("request")
    @classmethod
    def _is_a_messages_body(cls, request: dict[str, Any]) -> dict[str, Any]:
        model = request.get("model")
        if not isinstance(model, str) or not model:
            raise ValueError(f"expected request.model to name a model, got {_shown(model)}")
        max_tokens = request.get("max_tokens")
        if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or not 1 <= max_tokens <= MAX_COUNT:
            raise ValueError(
                f"expected request.max_tokens to be a whole number from 1 to {MAX_COUNT:,}, got {_shown(max_tokens)}"
            )
        messages = request.get("messages")
        if not isinstance(messages, list) or not messages:
            raise ValueError("expected request.messages to be a list with at least one message")
        if request.get("stream"):
            raise ValueError("request.stream is the worker's choice: leave it out")
        return request

    @model_validator(mode="after")
    def _deadline_after_start(self) -> Job:
        if self.deadline and self.not_before and self.deadline <= self.not_before:
            raise ValueError(f"deadline {self.deadline} is not after not_before {self.not_before}")
        return self


def make_job(fields: Mapping[str, Any] | Job) -> Job:
    """Return the job that `fields` describe.

    Raises BadJob with the first field that does not fit, what was expected and what came.
    """
    if isinstance(fields, Job):
        return fields
    try:
        return Job.model_validate(fields)
    except ValidationError as error:
        raise BadJob(explain(error)) from None


_IN_WORDS: Final = {
    "extra_forbidden": "unknown field",
    "tuple_type": "expected a list, got something else",
    "frozen_set_type": "expected a list, got something else",
    "too_short": "expected at least {min_length}, got {actual_length}",
    "model_type": "expected an object with fields of its own, got something else",
    "union_tag_not_found": "expected {discriminator}, which says what it is, got none",
    "union_tag_invalid": "expected {discriminator} to be one of {expected_tags}, got '{tag}'",
}
"""Where pydantic's own words name what a file has no notion of."""


def explain(error: ValidationError) -> str:
    """Return one line that names each field that does not fit, and why, without the values of prompts."""
    parts = []
    for problem in error.errors(include_url=False, include_input=False):
        where = ".".join(str(step)[:80] for step in problem["loc"])
        reason = _IN_WORDS.get(problem["type"], "{msg}").format(msg=problem["msg"], **problem.get("ctx", {}))
        reason = reason.removeprefix("Value error, ")
        parts.append(f"{where}: {reason}" if where else reason)
    return "; ".join(parts)


def _shown(value: Any) -> str:
    """Return `value` fit for a message: short, and of a structure its kind alone, since it may hold a prompt."""
    if value is None or isinstance(value, bool | int | float | str):
        text = repr(value[:80] if isinstance(value, str) else value)
        return text if len(text) <= 80 else f"{text[:80]}..."
    return type(value).__name__
