"""What one attempt came to, as data: from what was seen to a named outcome, and from the name to a policy.

`worker.provider` says what was seen, in terms of HTTP and of the SDK; the rules below name it; `worker.decisions`
follows the policy. An answer that no rule knows is a failure with a name of its own, never a success.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, StrEnum
from typing import Any, Final


class Blame(StrEnum):
    """Whose fault a failure is."""

    NOBODY = "nobody"
    OURS = "ours"
    PROVIDER = "provider"
    NETWORK = "network"
    UNKNOWN = "unknown"


class Verdict(Enum):
    """What follows from an outcome."""

    ANSWERED = "answered"
    """Settle it."""
    FINAL = "final"
    """The same request would fail again: a dead letter, unless a fallback may answer it."""
    RETRY = "retry"
    """Again after a backoff; uses up an attempt if the job is to blame."""
    WAIT = "wait"
    """Again after a backoff; the job is not to blame, so no attempt is used up (I3)."""
    PAUSE = "pause"
    """Nobody sends on this budget for a time; no attempt is used up."""
    PARK = "park"
    """Nobody sends on this budget until the owner mends something: said loudly, one request at every probe interval."""


class Wire(StrEnum):
    """How far an attempt got."""

    NOT_CONNECTED = "not connected"
    """No connection: nothing was sent."""
    TLS = "tls"
    """The connection could not be secured: nothing was sent."""
    SILENT = "silent"
    """Sent, perhaps billed, and not one byte of the stream came in time."""
    STALLED = "stalled"
    """A stream that began and fell silent."""
    TIMEOUT = "timeout"
    """Sent, perhaps billed, and not answered in time."""
    CUT = "cut"
    """The connection broke while the answer was awaited or under way."""
    ERROR = "error"
    """The API, or something before it, answered with an error."""
    BODY = "body"
    """Status 200."""
    BUG = "bug"
    """Our own code or the SDK raised something that is none of the above."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen of one attempt."""

    wire: Wire
    status_code: int | None = None
    error_type: str | None = None
    """`error.type` of the body."""
    error_code: str | None = None
    """`error.details.error_code` of the body."""
    message: str = ""
    """The API's words, cut to a sensible length; never prompt, answer or key."""
    body: Any = None
    """Of a 200: the decoded JSON, or None where it is not JSON."""
    body_bytes: int = 0
    streamed: bool = False
    complete: bool = True
    """Of a stream: whether `message_stop` came."""
    retry_after: timedelta | None = None
    tools_fit: bool | None = None
    """Of a Message that calls tools: whether its calls fit the tools of the request; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done about an outcome."""

    name: str
    blame: Blame
    verdict: Verdict
    says: str
    """For people: what it means, and what to do where the owner can do something."""
    fallback: bool = False
    """Whether another model might answer."""
    trips: bool = False
    """Whether enough of them in a row mean that the provider is out: nobody sends then but a probe now and then. No job
    is to blame for one unless others are answered meanwhile."""
    monthly: bool = False
    """Of PARK: whether it ends with the month."""
    personal: bool = False
    """Of PARK: whether it may concern one job alone, which then becomes a dead letter."""
    pause: timedelta | None = None
    """Of PAUSE: how long where the provider names no time."""
    billed: bool = False
    """Whether tokens may have been used although no answer came: the reservation then stands."""
    unread: bool = False
    """Whether the API certainly did not even count the prompt."""


_ROWS: Final = (
    Policy("succeeded", Blame.NOBODY, Verdict.ANSWERED, "answered"),
    # Answers of which something is to be known; what was received and paid for is not asked for again (I6)
    Policy("cut_at_max_tokens", Blame.NOBODY, Verdict.ANSWERED, "answered as far as max_tokens went: raise it"),
    Policy("context_full", Blame.NOBODY, Verdict.ANSWERED, "answered as far as the model's context window went"),
    Policy("turn_paused", Blame.NOBODY, Verdict.ANSWERED, "answered in part: send it back, and the model goes on"),
    Policy(
        "unfit_tool_input",
        Blame.NOBODY,
        Verdict.ANSWERED,
        "answered with a tool call that does not fit the tools of the request",
    ),
    # What the API says
    Policy(
        "rate_limited",
        Blame.OURS,
        Verdict.PAUSE,
        "the rate limit was hit: everybody waits",
        fallback=True,
        pause=timedelta(seconds=5),
        unread=True,
    ),
    Policy(
        "ramp_limited",
        Blame.OURS,
        Verdict.PAUSE,
        "use rose too fast for the provider",
        fallback=True,
        pause=timedelta(seconds=15),
        unread=True,
    ),
    Policy(
        "spend_limit_reached",
        Blame.OURS,
        Verdict.PARK,
        "a spend limit is reached: raise it in the Claude Console, or wait for the next month",
        monthly=True,
    ),
    Policy("bad_key", Blame.OURS, Verdict.PARK, "the API key was refused: set a valid ANTHROPIC_API_KEY"),
    Policy("billing_problem", Blame.OURS, Verdict.PARK, "the account has a billing problem: see the Claude Console"),
    Policy(
        "not_permitted",
        Blame.OURS,
        Verdict.PARK,
        "the API key may not do this: check its workspace and model access",
        personal=True,
    ),
    Policy("invalid_request", Blame.OURS, Verdict.FINAL, "the request is not valid: mend it, then redrive"),
    Policy("not_found", Blame.OURS, Verdict.FINAL, "no such model or resource, or it was retired", fallback=True),
    Policy("too_large", Blame.OURS, Verdict.FINAL, "the request is larger than the API takes"),
    Policy("request_timeout", Blame.NETWORK, Verdict.RETRY, "the API waited too long for the request", trips=True),
    Policy("conflict", Blame.PROVIDER, Verdict.RETRY, "the API reported a conflict"),
    Policy("server_error", Blame.PROVIDER, Verdict.RETRY, "the API failed", fallback=True, trips=True),
    Policy("unavailable", Blame.PROVIDER, Verdict.WAIT, "the API is not available", fallback=True, trips=True),
    Policy(
        "gateway_timeout",
        Blame.PROVIDER,
        Verdict.RETRY,
        "the API took too long",
        fallback=True,
        billed=True,
        trips=True,
    ),
    Policy("overloaded", Blame.PROVIDER, Verdict.WAIT, "the API is overloaded", fallback=True, trips=True),
    # What the network does
    Policy("connection_failed", Blame.NETWORK, Verdict.WAIT, "no connection to the API", unread=True, trips=True),
    Policy(
        "redirected",
        Blame.NETWORK,
        Verdict.WAIT,
        "sent on to another address, which is not followed: check ANTHROPIC_BASE_URL, and what is between here and it",
        unread=True,
        trips=True,
    ),
    Policy("tls_failed", Blame.NETWORK, Verdict.WAIT, "no secure connection to the API", unread=True, trips=True),
    Policy(
        "no_first_byte",
        Blame.NETWORK,
        Verdict.RETRY,
        "a streamed answer did not begin in time",
        fallback=True,
        billed=True,
        trips=True,
    ),
    Policy(
        "stalled",
        Blame.NETWORK,
        Verdict.RETRY,
        "a streamed answer fell silent",
        fallback=True,
        billed=True,
        trips=True,
    ),
    Policy("timed_out", Blame.NETWORK, Verdict.RETRY, "no answer in time", fallback=True, billed=True, trips=True),
    Policy("cut_off", Blame.NETWORK, Verdict.RETRY, "the connection broke during the answer", billed=True, trips=True),
    Policy("interrupted", Blame.OURS, Verdict.WAIT, "this worker was stopped during the call", billed=True),
    Policy(
        "foreign_error",
        Blame.NETWORK,
        Verdict.RETRY,
        "an error that is not the API's: a proxy or another server answered",
        unread=True,
        trips=True,
    ),
    # A 200 that is no answer
    Policy("empty_body", Blame.PROVIDER, Verdict.RETRY, "status 200 with an empty body", billed=True, trips=True),
    Policy(
        "not_json", Blame.PROVIDER, Verdict.RETRY, "status 200 with a body that is not JSON", billed=True, trips=True
    ),
    Policy(
        "not_a_message",
        Blame.PROVIDER,
        Verdict.RETRY,
        "status 200 with JSON that is not a Message",
        billed=True,
        trips=True,
    ),
    Policy(
        "incomplete_message",
        Blame.PROVIDER,
        Verdict.RETRY,
        "a Message without stop reason or usage",
        billed=True,
        trips=True,
    ),
    Policy("empty_answer", Blame.PROVIDER, Verdict.FINAL, "a Message without content", fallback=True, billed=True),
    Policy("refused", Blame.PROVIDER, Verdict.FINAL, "the model refused to answer", fallback=True, billed=True),
    # What never reached the API
    Policy("payload_missing", Blame.OURS, Verdict.FINAL, "the job's payload is gone from Redis"),
    Policy("unreadable_payload", Blame.OURS, Verdict.FINAL, "the payload in Redis is not a job"),
    Policy("unknown_function", Blame.OURS, Verdict.FINAL, "an arq function that this worker does not have"),
    Policy("bad_job", Blame.OURS, Verdict.FINAL, "the job's fields do not fit"),
    Policy("lost_too_often", Blame.UNKNOWN, Verdict.FINAL, "too many workers died while they ran this job"),
    # Everything else
    Policy("unrecognised", Blame.UNKNOWN, Verdict.RETRY, "nothing that is known", billed=True, trips=True),
    Policy("internal_error", Blame.OURS, Verdict.RETRY, "a fault in promptmill or the SDK: report it", billed=True),
)

POLICIES: Final[Mapping[str, Policy]] = {policy.name: policy for policy in _ROWS}

_SPEND_CODES: Final = {"enforced_spend_limit_reached", "contract_spend_limit_reached"}
_OWN_SPEND_LIMIT: Final = "You have reached your specified"
_ANSWERED_WITHOUT_CONTENT: Final = {"tool_use", "pause_turn", "stop_sequence"}
"""Stop reasons that explain why a Message may have no content."""

_BY_STATUS: Final[Mapping[int, str]] = {
    401: "bad_key",
    402: "billing_problem",
    403: "not_permitted",
    407: "connection_failed",
    408: "request_timeout",
    409: "conflict",
    413: "too_large",
    429: "rate_limited",
    503: "unavailable",
    504: "gateway_timeout",
    529: "overloaded",
}
"""What a status says by itself. Others below 500 that come without a type are not the API's: to take a proxy's 404 for
final would make a dead letter of every job."""
_BY_ERROR_TYPE: Final[Mapping[str, str]] = {
    "invalid_request_error": "invalid_request",
    "authentication_error": "bad_key",
    "billing_error": "billing_problem",
    "permission_error": "not_permitted",
    "not_found_error": "not_found",
    "conflict_error": "conflict",
    "request_too_large": "too_large",
    "rate_limit_error": "rate_limited",
    "api_error": "server_error",
    "timeout_error": "gateway_timeout",
    "overloaded_error": "overloaded",
}

_RULES: Final[tuple[tuple[str, Callable[[Sighting], bool]], ...]] = (
    ("internal_error", lambda s: s.wire is Wire.BUG),
    ("connection_failed", lambda s: s.wire is Wire.NOT_CONNECTED),
    ("tls_failed", lambda s: s.wire is Wire.TLS),
    ("no_first_byte", lambda s: s.wire is Wire.SILENT),
    ("stalled", lambda s: s.wire is Wire.STALLED),
    ("timed_out", lambda s: s.wire is Wire.TIMEOUT),
    ("cut_off", lambda s: s.wire is Wire.CUT),
    ("spend_limit_reached", lambda s: s.wire is Wire.ERROR and s.error_code in _SPEND_CODES),
    ("spend_limit_reached", lambda s: s.wire is Wire.ERROR and s.message.startswith(_OWN_SPEND_LIMIT)),
    ("ramp_limited", lambda s: s.wire is Wire.ERROR and s.error_code == "ramp_limit_exceeded"),
    # An edge that waited in vain reports the same type as a gateway does under 504.
    ("request_timeout", lambda s: s.wire is Wire.ERROR and s.status_code == 408),
    ("empty_body", lambda s: s.wire is Wire.BODY and s.body is None and s.body_bytes == 0),
    ("not_json", lambda s: s.wire is Wire.BODY and s.body is None),
    ("not_a_message", lambda s: s.wire is Wire.BODY and not _is_message(s.body)),
    ("cut_off", lambda s: s.wire is Wire.BODY and s.streamed and not s.complete),
    ("incomplete_message", lambda s: s.wire is Wire.BODY and not _is_complete(s.body)),
    ("refused", lambda s: s.wire is Wire.BODY and s.body["stop_reason"] == "refusal"),
    ("empty_answer", lambda s: s.wire is Wire.BODY and _is_empty(s.body)),
    ("cut_at_max_tokens", lambda s: s.wire is Wire.BODY and s.body["stop_reason"] == "max_tokens"),
    ("context_full", lambda s: s.wire is Wire.BODY and s.body["stop_reason"] == "model_context_window_exceeded"),
    ("turn_paused", lambda s: s.wire is Wire.BODY and s.body["stop_reason"] == "pause_turn"),
    ("unfit_tool_input", lambda s: s.wire is Wire.BODY and s.tools_fit is False),
    ("succeeded", lambda s: s.wire is Wire.BODY),
)

_THOUGHTS: Final = ("thinking", "redacted_thinking")
"""No set: a damaged block's type may be a list, which cannot be looked up in one."""


def classify(sighting: Sighting) -> Policy:
    """Return the policy of the outcome that `sighting` shows."""
    for name, fits in _RULES:
        if fits(sighting):
            return POLICIES[name]
    return POLICIES[_name_of_error(sighting)]


def _name_of_error(sighting: Sighting) -> str:
    # A stream reports its errors under status 200, so the type comes first.
    if name := _BY_ERROR_TYPE.get(sighting.error_type or ""):
        return name
    status = sighting.status_code or 0
    if name := _BY_STATUS.get(status):
        return name
    match status // 100:
        case 3:
            return "redirected"
        case 4:
            return "foreign_error" if sighting.error_type is None else "invalid_request"
        case 5:
            return "server_error"
        case _:
            return "unrecognised"


def _is_message(body: Any) -> bool:
    return isinstance(body, Mapping) and body.get("type") == "message" and isinstance(body.get("content"), list)


def _is_complete(message: Mapping[str, Any]) -> bool:
    usage = message.get("usage")
    return (
        isinstance(message.get("stop_reason"), str)
        and bool(message["stop_reason"])
        and isinstance(usage, Mapping)
        and isinstance(usage.get("output_tokens"), int)
    )


def _is_empty(message: Mapping[str, Any]) -> bool:
    said = any(
        isinstance(block, Mapping)
        and block.get("type") not in _THOUGHTS
        and (block.get("type") != "text" or str(block.get("text") or "").strip())
        for block in message["content"]
    )
    return not said and message["stop_reason"] not in _ANSWERED_WITHOUT_CONTENT
