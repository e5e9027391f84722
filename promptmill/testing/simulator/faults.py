"""Every way a request can go wrong, by name. The table is data; `provider` and `wire` carry it out."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from random import Random

from promptmill.testing.simulator import edits
from promptmill.testing.simulator.answer import Answer
from promptmill.testing.simulator.replies import ErrorReply, PlainReply


class Reached(Enum):
    """How far the request got before it went wrong, which is what it costs."""

    EDGE = "refused before the rate limiter: costs nothing"
    LIMITER = "admitted, then failed: costs a request and its input tokens"
    MODEL = "generated in full, then spoilt on the way back: costs everything"


class Disruption(StrEnum):
    """What happens to the connection instead of, or during, a proper response."""

    CLOSE = "close"
    RESET = "reset"
    GARBAGE = "garbage"
    HEADERS_ONLY = "headers only"
    SHORT_BODY = "short body"
    HANG = "hang"
    SLOW_FIRST_BYTE = "slow first byte"
    STREAM_ERROR = "stream error"
    STREAM_CUT = "stream cut"
    STREAM_STALL = "stream stall"
    STREAM_NO_STOP = "stream without an end"
    STREAM_EMPTY = "empty stream"
    STREAM_REPEATED = "stream that begins twice"
    STREAM_UNKNOWN = "stream with unknown events"


Edit = Callable[[Answer, Random], Answer]
Action = ErrorReply | PlainReply | Disruption | Edit


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong: what the server does, and how far the request had got."""

    name: str
    does: str
    reached: Reached
    action: Action

    def sent_instead(self) -> ErrorReply | PlainReply | Disruption:
        """Return what is sent when there is no answer. Raises TypeError for a fault that edits one."""
        if callable(self.action):
            raise TypeError(f"expected a fault that needs no answer, got {self.name!r}, which edits one")
        return self.action


def _page(title: str) -> bytes:
    return f"<!doctype html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>".encode()


def _error(
    status: int,
    kind: str,
    message: str,
    *,
    error_code: str | None = None,
    retry_after: int | None = None,
    reached: Reached = Reached.EDGE,
    name: str | None = None,
) -> Fault:
    does = f"{status} {error_code or kind}" + (f", retry-after {retry_after}" if retry_after else "")
    reply = ErrorReply(status, kind, message, error_code=error_code, retry_after=retry_after)
    return Fault(name or error_code or kind, does, reached, reply)


def _page_fault(name: str, status: int, title: str) -> Fault:
    return Fault(name, f"{status} with an HTML page", Reached.EDGE, PlainReply(status, _page(title), "text/html"))


def _odd_200(name: str, does: str, body: bytes, content_type: str = "application/json") -> Fault:
    return Fault(name, f"200 with {does}", Reached.MODEL, PlainReply(200, body, content_type))


def _edited(name: str, does: str, edit: Edit) -> Fault:
    return Fault(name, does, Reached.MODEL, edit)


def _cut_off(name: str, does: str, how: Disruption, reached: Reached = Reached.MODEL) -> Fault:
    return Fault(name, does, reached, how)


OVERLOADED = ErrorReply(529, "overloaded_error", "Overloaded.")

_RATE_LIMIT = "This request would exceed the rate limit of your organization. Try again later, or send less."

_REFUSED = (
    _error(400, "invalid_request_error", "The request was not understood."),
    _error(
        400,
        "invalid_request_error",
        "You have reached your specified API usage limits. You will regain access on the first of next month.",
        name="own_spend_limit_reached",
    ),
    _error(401, "authentication_error", "The API key is not valid."),
    _error(402, "billing_error", "There is a problem with your billing or payment information."),
    _error(
        402,
        "billing_error",
        "The linked organization has reached a spend limit or lacks credit.",
        error_code="linked_organization_spend_limit_reached",
    ),
    _error(403, "permission_error", "Your API key may not use this resource."),
    _error(404, "not_found_error", "The requested resource was not found."),
    _page_fault("not_found_html", 404, "404 Not Found"),
    _page_fault("proxy_authentication_html", 407, "407 Proxy Authentication Required"),
    _error(408, "timeout_error", "The request was not received in time.", name="request_timeout"),
    _error(409, "conflict_error", "The request is in conflict with another one."),
    _error(413, "request_too_large", "The request is larger than the 32 MB allowed."),
    _page_fault("request_too_large_html", 413, "413 Request Entity Too Large"),
    _error(422, "invalid_request_error", "The request cannot be processed.", name="unprocessable_entity"),
    _error(429, "rate_limit_error", _RATE_LIMIT, retry_after=2),
    _error(429, "rate_limit_error", _RATE_LIMIT, name="rate_limit_error_without_retry_after"),
    _error(
        429,
        "rate_limit_error",
        "Your use grows faster than the ramp limit allows. Grow it gradually.",
        error_code="ramp_limit_exceeded",
        retry_after=5,
    ),
    _error(
        429,
        "rate_limit_error",
        "Your organization has reached the monthly spend limit of its tier.",
        error_code="enforced_spend_limit_reached",
    ),
    _error(
        429,
        "rate_limit_error",
        "Your organization has reached the spend limit of its contract.",
        error_code="contract_spend_limit_reached",
    ),
    Fault(
        "redirect",
        "307 to another address",
        Reached.EDGE,
        PlainReply(307, b"", "text/plain", headers=(("Location", "/elsewhere"),)),
    ),
)

_FAILED = (
    _error(500, "api_error", "Internal server error.", reached=Reached.LIMITER),
    _page_fault("bad_gateway_html", 502, "502 Bad Gateway"),
    Fault(
        "service_unavailable_text",
        "503 with plain text",
        Reached.EDGE,
        PlainReply(503, b"upstream connect error or disconnect/reset before headers", "text/plain"),
    ),
    Fault("service_unavailable_empty", "503 without a body", Reached.EDGE, PlainReply(503, b"", "text/plain")),
    _error(504, "timeout_error", "The request took too long.", name="gateway_timeout", reached=Reached.LIMITER),
    Fault(
        "wrong_charset",
        "500 with a page in another charset than it says",
        Reached.EDGE,
        PlainReply(500, _page("500 Internal Server Error"), "text/html; charset=utf-16"),
    ),
    Fault(
        "not_gzip",
        "503 with a body that is not the gzip it says",
        Reached.EDGE,
        PlainReply(503, b"upstream connect error", "text/plain", headers=(("Content-Encoding", "gzip"),)),
    ),
    _page_fault("unknown_error_html", 520, "520: Web server is returning an unknown error"),
    Fault(OVERLOADED.kind, "529 overloaded_error", Reached.LIMITER, OVERLOADED),
)

_ODD_USAGE = (
    b'{"id":"msg_odd","type":"message","role":"assistant","model":"claude-haiku-5-5","stop_reason":"end_turn",'
    b'"stop_sequence":null,"content":[{"type":"text","text":"An answer all the same."}],'
    b'"usage":{"input_tokens":"many","output_tokens":7,"cache_creation":[1],"cache_read_input_tokens":-3}}'
)

_ODD_SUCCESSES = (
    _odd_200("empty_json", "an empty body labelled JSON", b""),
    _odd_200("empty_text", "an empty body labelled plain text", b"", "text/plain"),
    _odd_200("empty_without_content_type", "an empty body and no content type", b"", ""),
    Fault("no_content", "204", Reached.MODEL, PlainReply(204, b"", "")),
    _odd_200("html", "an HTML page", _page("Just a moment"), "text/html"),
    _odd_200("html_as_json", "an HTML page labelled JSON", _page("Just a moment")),
    _odd_200("cut_json", "JSON that ends in the middle", b'{"id":"msg_cut","type":"message","content":[{"type":"te'),
    _odd_200("foreign_json", 'the JSON {"foo":1}', b'{"foo":1}'),
    _odd_200("error_envelope", "an error envelope", ErrorReply(200, "api_error", "Oops.").body("req_envelope")),
    _odd_200("json_null", "the JSON null", b"null"),
    _odd_200("json_list", "the JSON [1]", b"[1]"),
    _odd_200("invalid_utf8", "bytes labelled JSON that are not UTF-8", b'{"id":"msg_\xff\xfe","type":"message"}'),
    _odd_200("odd_usage", "a Message whose usage is partly nonsense", _ODD_USAGE),
    _edited("empty_content", "a Message without content that ended its turn", edits.without_content),
    _edited("no_stop_reason", "a Message whose stop_reason is null", edits.without_stop_reason),
    _edited("no_usage", "a Message without usage", edits.without_usage),
    _edited("refusal", "a Message cut short by a refusal", edits.refusing),
    _edited("max_tokens", "a Message cut at max_tokens", edits.cut_at_max_tokens),
    _edited(
        "unfit_tool_input", "a tool call whose input does not fit; none: a good answer", edits.with_unfit_tool_input
    ),
    _edited("context_window_exceeded", "a Message that filled the context window", edits.out_of_context),
    _edited("pause_turn", "a Message that pauses its turn", edits.pausing),
)

_BROKEN_CONNECTIONS = (
    _cut_off("connection_closed", "closes without a byte", Disruption.CLOSE, Reached.EDGE),
    _cut_off("connection_reset", "resets the connection without a byte", Disruption.RESET, Reached.EDGE),
    _cut_off("garbage", "answers with bytes that are not HTTP", Disruption.GARBAGE, Reached.EDGE),
    _cut_off("short_body", "closes before the body is complete", Disruption.SHORT_BODY),
    _cut_off("hang", "never answers", Disruption.HANG, Reached.LIMITER),
    _cut_off("body_hang", "sends headers and then nothing", Disruption.HEADERS_ONLY),
    _cut_off("slow_first_byte", "answers properly, 3 s later", Disruption.SLOW_FIRST_BYTE),
)

_BROKEN_STREAMS = (
    _cut_off("stream_error", "an error event half-way; 529 if not streaming", Disruption.STREAM_ERROR),
    _cut_off("stream_cut", "closes half-way; a short body if not streaming", Disruption.STREAM_CUT),
    _cut_off("stream_stall", "stops half-way for ever, streaming or not", Disruption.STREAM_STALL),
    _cut_off("stream_no_stop", "ends properly without message_stop; cut JSON if not", Disruption.STREAM_NO_STOP),
    _cut_off("stream_repeated_start", "message_start twice; proper if not streaming", Disruption.STREAM_REPEATED),
    _cut_off("stream_unknown_events", "unknown events among the others; all proper", Disruption.STREAM_UNKNOWN),
    _cut_off("stream_empty", "200 and no event; an empty body if not streaming", Disruption.STREAM_EMPTY),
)

_WORSE_ANSWERS = (
    _edited("stray_script", "stray Thai and Chinese characters in the answer", edits.with_stray_script),
    _edited("short_answer", "the first few words of the answer only", edits.shortened),
    _edited("worse_model", "vague, repetitive text that ignores instructions", edits.by_a_worse_model),
)

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        *_REFUSED,
        *_FAILED,
        *_ODD_SUCCESSES,
        *_BROKEN_CONNECTIONS,
        *_BROKEN_STREAMS,
        *_WORSE_ANSWERS,
    )
}
"""By name, in the order in which `--list-faults` prints them."""
