"""The bodies of errors, as the API words them."""

from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error in the API's own envelope."""

    status: int
    kind: str
    """`error.type`."""
    message: str
    error_code: str | None = None
    """`error.details.error_code`: the stable name of the cause, where there is one."""
    retry_after: int | None = None
    """Seconds for the `retry-after` header; None: no header."""

    def body(self, request_id: str) -> bytes:
        """Return the JSON envelope."""
        error: dict[str, object] = {"type": self.kind, "message": self.message}
        if self.error_code is not None:
            error["details"] = {"error_code": self.error_code}
        return orjson.dumps({"type": "error", "error": error, "request_id": request_id})


@dataclass(frozen=True, slots=True)
class PlainReply:
    """A status with a fixed body: what proxies and accidents send."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


class RejectedError(Exception):
    """The request is answered with an error of the API; raised while it is read and checked."""

    def __init__(self, reply: ErrorReply, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{reply.status} {reply.kind}: {reply.message}")
        self.reply = reply
        self.headers = headers


def invalid(message: str) -> RejectedError:
    """Return a 400 `invalid_request_error`."""
    return RejectedError(ErrorReply(400, "invalid_request_error", message))
