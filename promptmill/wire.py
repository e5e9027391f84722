"""Bytes in Redis: arq's envelope around a job, as JSON.

arq's default is pickle, and loading a pickle runs whatever a stranger wrote (I8). Here nothing is ever unpickled: what
is not JSON is unreadable, and an unreadable payload becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import orjson
from pydantic import ValidationError

from promptmill.errors import BadJob
from promptmill.jobs import MAX_REQUEST_BYTES, Job, explain
from promptmill.results import Result, Status

_DEFAULTS: Final = {name: field.get_default(call_default_factory=True) for name, field in Job.model_fields.items()}
_JOB_FIELDS: Final = tuple(_DEFAULTS.keys() - {"id", "request", "expect"})

SINCE: Final[Mapping[str, int]] = {}
"""Fields of a job that the first wire version (0.1.0) did not have, each with the one that brought it; those of its
expectation as `expect.NAME`. A job says the least version that can read it, so only jobs that use what is new need
workers that know it."""
WIRE_VERSION: Final = max((1, *SINCE.values()))
"""The newest that is read here. A worker leaves jobs that need a newer one to workers that know it."""

_LISTS: Final = (list, tuple)

Kind = TypeVar("Kind")

FUNCTION: Final = "run_prompt"
"""The arq function that runs a job. `arq_redis.enqueue_job("run_prompt", {...job fields...})` queues one."""


class Unreadable(BadJob):
    """A payload that is no job: corrupt, foreign, or written by a later promptmill."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class TooNew(Unreadable):
    """A job that needs a later promptmill, and is one there."""

    def __init__(self, version: int, enqueued_at: datetime) -> None:
        super().__init__(
            "payload_too_new",
            f"the job has the wire version {version}, and this promptmill reads up to {WIRE_VERSION}: upgrade it",
        )
        self.version = version
        self.enqueued_at = enqueued_at


@dataclass(frozen=True, slots=True)
class Envelope:
    """What arq stores for a job: function name, arguments, and when it was enqueued."""

    function: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    enqueued_at: datetime


def serialize(data: dict[str, Any]) -> bytes:
    """Return arq's envelope as JSON bytes; arq's `job_serializer`.

    What orjson refuses and an answer may hold all the same (half a surrogate pair, a number beyond 64 bits) is written
    by the standard library, with a space in front that says who has to read it.
    """
    try:
        return orjson.dumps(data, default=_plain)
    except TypeError:
        return b" " + json.dumps(data, default=_plain).encode()


def deserialize(data: bytes) -> dict[str, Any]:
    """Return the envelope in `data`; arq's `job_deserializer`. Raises ValueError or TypeError if that is no object.

    JSON keeps no exceptions: the result of a job that was cancelled becomes the one that `arq.jobs.Job.abort` expects.
    """
    loaded = _load(data)
    if loaded.get("s") is False and _is_cancelled(loaded.get("r")):
        loaded["r"] = asyncio.CancelledError()
    return loaded


def _is_cancelled(result: Any) -> bool:
    if isinstance(result, Mapping):
        return result.get("status") == Status.CANCELLED.value
    return bool(result == _plain(asyncio.CancelledError()))  # of another arq function


def _load(data: bytes) -> dict[str, Any]:
    loaded = json.loads(data) if data.startswith(b" ") else orjson.loads(data)
    if not isinstance(loaded, dict):
        raise TypeError(f"expected a JSON object, got {type(loaded).__name__}")
    return loaded


def pack_job(job: Job, enqueued_at: datetime) -> bytes:
    """Return the envelope of `job`.

    Raises BadJob where the job cannot be written as UTF-8 JSON as it is (lone surrogates, NaN, objects, nesting without
    end) or is larger than the API takes.
    """
    fields = {name: value for name in _JOB_FIELDS if (value := getattr(job, name)) != _DEFAULTS[name]}
    if job.expect is not None:
        fields["expect"] = job.expect.model_dump(exclude_defaults=True)
    fields |= {"id": job.id, "version": _least_version(fields), "request": job.request}
    if job.keep_result is not None:
        fields["keep_result"] = job.keep_result.total_seconds()
    envelope: dict[str, Any] = {
        "t": None,
        "f": FUNCTION,
        "a": [fields],
        "k": {},
        "et": int(enqueued_at.timestamp() * 1000),
    }
    try:
        payload = orjson.dumps(envelope)
        _refuse_what_json_changes([job.request, fields.get("expect")])
    except TypeError as error:
        raise BadJob(f"job {job.id}: expected what can be written as UTF-8 JSON, got what cannot: {error}") from None
    if len(payload) > MAX_REQUEST_BYTES:
        raise BadJob(
            f"job {job.id}: expected at most {MAX_REQUEST_BYTES:,} bytes, got {len(payload):,}; "
            "send large documents through the Files API and refer to them"
        )
    return payload


def unpack_envelope(payload: bytes) -> Envelope:
    """Return the envelope in `payload`. Raises Unreadable."""
    try:
        data = deserialize(payload)
        return Envelope(
            function=_known(str, data["f"]),
            args=tuple(_known(list, data.get("a") or [])),
            kwargs=_known(dict, data.get("k") or {}),
            enqueued_at=datetime.fromtimestamp(_known(int, data["et"]) / 1000, UTC),
        )
    except (ValueError, TypeError, KeyError, OverflowError, OSError):
        raise Unreadable(
            "unreadable_payload",
            "expected a JSON envelope as arq writes it with promptmill.wire.serialize; "
            f"got {len(payload)} bytes that are not one (a pickle is never loaded)",
        ) from None


def job_fields(envelope: Envelope) -> Mapping[str, Any]:
    """Return the fields of the job in `envelope`, unchecked.

    The job is the one argument, a text or an object, or the keyword argument `job`; other keyword arguments are more
    fields of it. Raises Unreadable where the function is not ours, and TooNew where the job needs a later version.
    """
    if envelope.function != FUNCTION:
        raise Unreadable("unknown_function", f"expected function {FUNCTION!r}, got {envelope.function[:80]!r}")
    if len(envelope.args) > 1:
        raise Unreadable("bad_job", f"expected the job as the one argument, got {len(envelope.args)} arguments")
    beside = dict(envelope.kwargs)
    job = envelope.args[0] if envelope.args else beside.pop("job", {})
    if isinstance(job, str):
        job = {"prompt": job}
    if not isinstance(job, Mapping):
        raise Unreadable("bad_job", f"expected the job's fields as an object, got {type(job).__name__}")
    fields = {**job, **beside}
    version = fields.pop("version", 1)
    if type(version) is not int or version < 1:
        raise Unreadable("bad_job", f"version: expected a whole number from 1, got {type(version).__name__}")
    if version > WIRE_VERSION:
        raise TooNew(version, envelope.enqueued_at)
    return fields


def unpack_job(envelope: Envelope, *, job_id: str) -> Job:
    """Return the job in `envelope`, under the id that it has in Redis. Raises Unreadable."""
    try:
        return Job.model_validate({**job_fields(envelope), "id": job_id})
    except ValidationError as error:
        raise Unreadable("bad_job", explain(error)) from None


def pack_result(result: Result, *, queue: str, enqueued_at: datetime) -> bytes:
    """Return `result` as arq keeps results, so that arq's own `Job` handle can read it too."""
    first = result.attempts[0].started_at if result.attempts else result.finished_at
    return serialize(
        {
            "t": len(result.attempts),
            "f": FUNCTION,
            "a": [],
            "k": {},
            "et": int(enqueued_at.timestamp() * 1000),
            "s": result.ok,
            "r": result.to_line(),
            "st": int(first.timestamp() * 1000),
            "ft": int(result.finished_at.timestamp() * 1000),
            "q": queue,
            "id": result.job_id,
        }
    )


def pack_returned(
    called: Envelope,
    returned: Any,
    *,
    ok: bool,
    job_id: str,
    tries: int,
    started_at: datetime,
    finished_at: datetime,
    queue: str,
) -> bytes:
    """Return what another arq function returned or raised, as arq keeps results; what JSON lacks is a failure."""
    result = {
        "t": tries,
        "f": called.function,
        "a": called.args,
        "k": called.kwargs,
        "et": int(called.enqueued_at.timestamp() * 1000),
        "s": ok,
        "r": returned,
        "st": int(started_at.timestamp() * 1000),
        "ft": int(finished_at.timestamp() * 1000),
        "q": queue,
        "id": job_id,
    }
    try:
        return serialize(result)
    except (TypeError, ValueError, RecursionError):
        return serialize({**result, "s": False, "r": f"{type(returned).__name__} is not JSON"})


def unpack_result(data: bytes) -> Result:
    """Return the result that `pack_result` wrote. Raises Unreadable."""
    try:
        return Result.from_line(_load(data)["r"])
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise Unreadable(
            "unreadable_result", f"expected a result as promptmill writes it: {type(error).__name__}"
        ) from None


def _least_version(fields: Mapping[str, Any]) -> int:
    """Return the oldest version that reads a job which has these fields."""
    names = (*fields, *(f"expect.{name}" for name in fields.get("expect") or ()))
    return max((1, *(SINCE.get(name, 1) for name in names)))


def _known(kind: type[Kind], value: Any) -> Kind:
    """Return `value` if it is of that kind. Raises TypeError."""
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _refuse_what_json_changes(inside: list[Any]) -> None:
    """Raise TypeError for what orjson writes as something else: NaN as null, a datetime or a dataclass as its parts.

    What is `inside` is known to be finite: orjson has been through it.
    """
    while inside:
        value = inside.pop()
        if isinstance(value, str):
            continue
        if isinstance(value, dict):
            inside += value.values()
        elif isinstance(value, _LISTS):
            inside += value
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise TypeError(f"{value} is no JSON number")
        elif value is not None and not isinstance(value, int):
            raise TypeError(f"{type(value).__name__} is not JSON")


def _plain(value: Any) -> Any:
    """Return what orjson cannot write by itself in a form that pydantic reads back."""
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    if hasattr(value, "total_seconds"):
        return value.total_seconds()
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"
    raise TypeError(f"{type(value).__name__} is not JSON")
