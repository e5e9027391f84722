"""What became of a job: the result, each attempt, and what it used.

`Result.to_line()` is the one form in which a result travels: a line of an answers file, the value left in Redis for
whoever waits, and what the client returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from promptmill.claude_code import Rewrite, sanitize_for_claude_code

OUTCOMES: Final = frozenset(
    {
        "succeeded",
        "cut_at_max_tokens",
        "context_full",
        "turn_paused",
        "unfit_tool_input",
        "rate_limited",
        "ramp_limited",
        "spend_limit_reached",
        "bad_key",
        "billing_problem",
        "not_permitted",
        "invalid_request",
        "not_found",
        "too_large",
        "request_timeout",
        "conflict",
        "server_error",
        "unavailable",
        "gateway_timeout",
        "overloaded",
        "connection_failed",
        "redirected",
        "tls_failed",
        "no_first_byte",
        "stalled",
        "timed_out",
        "cut_off",
        "interrupted",
        "foreign_error",
        "empty_body",
        "not_json",
        "not_a_message",
        "incomplete_message",
        "empty_answer",
        "refused",
        "payload_missing",
        "unreadable_payload",
        "unknown_function",
        "bad_job",
        "lost_too_often",
        "unrecognised",
        "internal_error",
    }
)
"""Names of all that an attempt can come to: what each means stands in `worker.outcomes`."""


class Status(StrEnum):
    """How a job ended. Apart from the job's state: a state says who moves it next, a status that nobody does."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """A dead letter: it will not be tried again by itself."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    """Its deadline passed before an answer came."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the provider billed. `input_tokens` excludes what was written to or read from the cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0
    thinking_tokens: int = 0
    """Part of `output_tokens`, not in addition to them."""
    service_tier: str | None = None
    """`standard`, `priority` or `batch`."""
    web_searches: int = 0
    """Requests to the web search tool, billed by the thousand beside the tokens."""
    speed: str | None = None
    """`standard` or `fast`."""
    inference_geo: str | None = None
    """Where the model ran, where that has a price: `us`, `global`."""

    @property
    def limited_input_tokens(self) -> int:
        """What counts against the input-token limit: cache reads do not."""
        return self.input_tokens + self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def prompt_tokens(self) -> int:
        """Every token of the prompt, cached or not."""
        return self.limited_input_tokens + self.cache_read_tokens

    @classmethod
    def from_api(cls, usage: Mapping[str, Any]) -> Usage:
        """Read the `usage` object of a Messages API answer; what is absent or no whole number counts as 0."""

        def tokens(of: Any, name: str) -> int:
            value = of.get(name) if isinstance(of, Mapping) else None
            return value if isinstance(value, int) and value > 0 else 0

        write_1h = tokens(usage.get("cache_creation"), "ephemeral_1h_input_tokens")

        def name(of: str) -> str | None:
            value = usage.get(of)
            return value if isinstance(value, str) else None

        return cls(
            input_tokens=tokens(usage, "input_tokens"),
            output_tokens=tokens(usage, "output_tokens"),
            cache_write_5m_tokens=max(0, tokens(usage, "cache_creation_input_tokens") - write_1h),
            cache_write_1h_tokens=write_1h,
            cache_read_tokens=tokens(usage, "cache_read_input_tokens"),
            thinking_tokens=tokens(usage.get("output_tokens_details"), "thinking_tokens"),
            service_tier=name("service_tier"),
            web_searches=tokens(usage.get("server_tool_use"), "web_search_requests"),
            speed=name("speed"),
            inference_geo=name("inference_geo"),
        )

    def to_line(self) -> dict[str, Any]:
        """Return the fields as they stand in an answer line."""
        return {name: getattr(self, name) for name in _USAGE_FIELDS}

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Usage:
        """Read what `to_line` returned, of this promptmill or of a later one that counts more."""
        return cls(**{name: line[name] for name in line.keys() & _USAGE_FIELDS})


_USAGE_FIELDS: Final = tuple(usage_field.name for usage_field in fields(Usage))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt or a job failed. `message` never holds a prompt, an answer or a key (I7)."""

    name: str
    """The outcome's name, such as `overloaded` or `empty_body`."""
    message: str
    blame: str = "unknown"
    """Whose fault: `ours`, `provider`, `network` or `unknown`."""

    def to_line(self) -> dict[str, str]:
        """Return the fields as they stand in an answer line."""
        return {"name": self.name, "message": self.message, "blame": self.blame}

    @classmethod
    def from_line(cls, line: Mapping[str, str]) -> Failure:
        """Read what `to_line` returned, of this promptmill or of a later one that says more."""
        return cls(line["name"], line["message"], line["blame"])


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request that was sent for a job."""

    number: int
    """Counts from 1 over the job's whole life, including claims after which nothing was heard of the request."""
    model: str
    started_at: datetime
    ended_at: datetime
    outcome: str
    """`succeeded`, or the name of the failure."""
    status_code: int | None = None
    request_id: str | None = None
    first_byte: timedelta | None = None
    """From sending to the first byte of the answer; known only when it was streamed."""
    usage: Usage | None = None
    cost_usd: Decimal | None = None
    """What was billed for it; None where nobody knows: no usage was reported, or it has no known price."""
    failure: Failure | None = None

    @property
    def duration(self) -> timedelta:
        """From sending to the last byte."""
        return self.ended_at - self.started_at

    def to_line(self) -> dict[str, Any]:
        """Return the attempt as it stands in an answer line."""
        return {
            "number": self.number,
            "model": self.model,
            "started_at": self.started_at.isoformat(),
            "ended_at": self.ended_at.isoformat(),
            "outcome": self.outcome,
            "status_code": self.status_code,
            "request_id": self.request_id,
            "first_byte_s": None if self.first_byte is None else self.first_byte.total_seconds(),
            "usage": None if self.usage is None else self.usage.to_line(),
            "cost_usd": None if self.cost_usd is None else str(self.cost_usd),
            "failure": None if self.failure is None else self.failure.to_line(),
        }

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Attempt:
        """Read what `to_line` wrote."""
        first_byte = line.get("first_byte_s")
        return cls(
            number=line["number"],
            model=line["model"],
            started_at=datetime.fromisoformat(line["started_at"]),
            ended_at=datetime.fromisoformat(line["ended_at"]),
            outcome=line["outcome"],
            status_code=line.get("status_code"),
            request_id=line.get("request_id"),
            first_byte=None if first_byte is None else timedelta(seconds=first_byte),
            usage=None if line.get("usage") is None else Usage.from_line(line["usage"]),
            cost_usd=None if line.get("cost_usd") is None else Decimal(line["cost_usd"]),
            failure=None if line.get("failure") is None else Failure.from_line(line["failure"]),
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The one final result of a job (I2)."""

    job_id: str
    status: Status
    model: str | None = None
    """The model that answered, as the provider names it; after a fallback not the one that was asked for."""
    text: str | None = None
    """The text blocks of the answer, joined; None where there is no answer. Without trigger words where the job goes
    into Claude Code: `message` holds what the model wrote."""
    rewrites: tuple[Rewrite, ...] | None = None
    """What was changed in `text` for Claude Code; None where it is as the model wrote it.
    `promptmill.claude_code.restore` undoes it."""
    message: dict[str, Any] | None = None
    """The whole Message as the API sent it: every content block, stop reason, usage."""
    usage: Usage | None = None
    """Of the answer; failed attempts carry their own."""
    cost_usd: Decimal | None = None
    """Of all attempts that were billed; None when the model has no known price."""
    attempts: tuple[Attempt, ...] = ()
    quality: dict[str, Any] | None = None
    """Metric name to value; see `worker.quality`."""
    error: Failure | None = None
    lane: str = "standard"
    asked_model: str | None = None
    """The model that the job named first."""
    kind: str = ""
    """Which prompts are alike: the tag `kind`, or a hash of the system prompt."""
    tags: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None
    position: int | None = None
    """Line number within the run's file, counted from 1."""
    request_ref: str = ""
    """SHA-256 of the canonical request body: which request this answers, without keeping its text."""
    submitted_at: datetime | None = None
    finished_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    queue_time: timedelta | None = None
    """From submit (or the time it was due) to the first claim."""
    latency: timedelta | None = None
    """Of the attempt that was answered, from sending to the last byte."""
    worker: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.status is Status.SUCCEEDED

    def for_claude_code(self) -> Result:
        """Return the result with a text that can be handed to Claude Code; one that has it already as it is."""
        if self.text is None or self.rewrites is not None:
            return self
        sanitized = sanitize_for_claude_code(self.text)
        return replace(self, text=sanitized.text, rewrites=sanitized.rewrites)

    def to_line(self) -> dict[str, Any]:
        """Return the answer line: `{"id", "status", "text", "message", "model", "usage", "cost_usd", ...}`."""
        return {
            "id": self.job_id,
            "status": self.status.value,
            "text": self.text,
            "rewrites": None if self.rewrites is None else [rewrite.to_line() for rewrite in self.rewrites],
            "message": self.message,
            "model": self.model,
            "usage": None if self.usage is None else self.usage.to_line(),
            "cost_usd": None if self.cost_usd is None else str(self.cost_usd),
            "attempts": [attempt.to_line() for attempt in self.attempts],
            "quality": self.quality,
            "error": None if self.error is None else self.error.to_line(),
            "lane": self.lane,
            "asked_model": self.asked_model,
            "kind": self.kind,
            "tags": dict(self.tags),
            "run": self.run,
            "position": self.position,
            "request_ref": self.request_ref,
            "submitted_at": None if self.submitted_at is None else self.submitted_at.isoformat(),
            "finished_at": self.finished_at.isoformat(),
            "queue_time_s": None if self.queue_time is None else self.queue_time.total_seconds(),
            "latency_s": None if self.latency is None else self.latency.total_seconds(),
            "worker": self.worker,
        }

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> Result:
        """Read what `to_line` returned."""

        def seconds(name: str) -> timedelta | None:
            value = line.get(name)
            return None if value is None else timedelta(seconds=value)

        submitted = line.get("submitted_at")
        return cls(
            job_id=line["id"],
            status=Status(line["status"]),
            model=line.get("model"),
            text=line.get("text"),
            rewrites=None if line.get("rewrites") is None else tuple(Rewrite(**item) for item in line["rewrites"]),
            message=line.get("message"),
            usage=None if line.get("usage") is None else Usage.from_line(line["usage"]),
            cost_usd=None if line.get("cost_usd") is None else Decimal(line["cost_usd"]),
            attempts=tuple(Attempt.from_line(attempt) for attempt in line.get("attempts") or ()),
            quality=line.get("quality"),
            error=None if line.get("error") is None else Failure.from_line(line["error"]),
            lane=line.get("lane") or "standard",
            asked_model=line.get("asked_model"),
            kind=line.get("kind") or "",
            tags=line.get("tags") or {},
            run=line.get("run"),
            position=line.get("position"),
            request_ref=line.get("request_ref") or "",
            submitted_at=None if submitted is None else datetime.fromisoformat(submitted),
            finished_at=datetime.fromisoformat(line["finished_at"]),
            queue_time=seconds("queue_time_s"),
            latency=seconds("latency_s"),
            worker=line.get("worker"),
        )


@dataclass(frozen=True, slots=True)
class Earlier:
    """What became of a job before it is sent again."""

    requests: int
    """The number of its newest request."""
    status: Status | None
    """None: it has not ended."""
    cost_usd: Decimal | None
    """Of all its requests; None where that is not known."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that will not be tried again by itself, kept whole so that it can be redriven."""

    job_id: str
    reason: str
    """The failure's name."""
    message: str
    payload: bytes
    """What stood in Redis for the job, as it stood there: the envelope, or whatever a stranger wrote."""
    died_at: datetime
    attempts: int
    redrivable: bool
    """False where the payload could not be read as a job."""
