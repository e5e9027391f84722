"""Sets of canaries: files of job lines, each with what a good answer to it looks like."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import orjson

from promptmill.errors import BadFile, BadJob
from promptmill.expectations import Expectation
from promptmill.lines import job_from_line
from promptmill.models import KNOWN_MODELS, chars_per_token, estimate_input_tokens

STARTER: Final = "starter"
"""Names the set that ships with promptmill."""

KIND: Final = "canary:"
"""With this the tag `kind` of every canary begins."""
CANARY_TAG: Final = "canary"
"""Holds the canary's id."""
ROUND_TAG: Final = "round"
"""Holds the name of the round."""

MOST: Final = 500
"""Canaries in a set: each is paid for in every round, and a file of prompts is easily given by mistake."""
_MAX_BYTES: Final = 10_000_000
_LONGEST_ID: Final = 60
"""It is part of a job's id, beside its round and its model."""
_FIELDS: Final = frozenset({"id", "custom_id", "prompt", "params", "request", "system", "max_tokens", "expect", "tags"})
_ANY_MODEL: Final = KNOWN_MODELS[0]
"""Stands in a line until it is known which model is asked."""


@dataclass(frozen=True, slots=True)
class Canary:
    """A prompt with a known good answer."""

    line: int
    """Where it stands in its file, counted from 1."""
    id: str
    request: Mapping[str, Any]
    """A Messages API body without a model."""
    expect: Expectation
    tags: Mapping[str, str]

    def request_to(self, model: str) -> dict[str, Any]:
        """Return the body that asks this model."""
        return {**self.request, "model": model}


@dataclass(frozen=True, slots=True)
class CanarySet:
    """The canaries of one file, in its order."""

    name: str
    """As it was named: `starter`, or the file."""
    canaries: tuple[Canary, ...]

    @property
    def kind(self) -> str:
        """The tag `kind` of its canaries, from what they ask and expect: a changed set makes new series."""
        content = [(one.id, one.request, one.expect.model_dump(mode="json")) for one in self.canaries]
        return KIND + hashlib.blake2s(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=4).hexdigest()

    def tokens(self, model: str) -> tuple[int, int, int]:
        """Return what a round takes of this model: tokens of input, of output if all answers are good, and at most.

        The first two are estimates. What a model thinks comes to the second, and is within the third.
        """
        most = [one.request["max_tokens"] for one in self.canaries]
        good = [one.expect.similar_to for one in self.canaries]
        each = chars_per_token(model)
        return (
            sum(estimate_input_tokens(one.request_to(model)) for one in self.canaries),
            sum(limit if text is None else math.ceil(len(text) / each) for text, limit in zip(good, most, strict=True)),
            sum(most),
        )


def load(name: str, *, max_tokens: int) -> CanarySet:
    """Return the set called `starter`, or the one in a JSONL file.

    A line is one that `promptmill run` takes, with an `id` and an `expect`; model, lane and the like are not its own.
    `max_tokens` is for lines that state none. Raises BadFile, with the number of each bad line, what was expected and
    what came.
    """
    lines = _read(name).splitlines()
    problems: list[tuple[int, str, str]] = []
    found: dict[str, Canary] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            canary = _canary(line, number, max_tokens)
        except BadJob as error:
            problems.append(_problem(number, error))
            continue
        if (first := found.setdefault(canary.id, canary)) is not canary:
            problems.append((number, "id", f"expected each once, got {canary.id!r}, which line {first.line} has"))
    if problems:
        raise bad_set(name, problems)
    if not 0 < len(found) <= MOST:
        raise BadFile(f"canaries: expected 1 to {MOST} of them in {name}, got {len(found):,}; all are sent every round")
    return CanarySet(name, tuple(found.values()))


def bad_set(name: str, problems: list[tuple[int, str, str]]) -> BadFile:
    """Return what to raise for a set with these problems: number of the line, field or "", what is wrong."""
    line, field, reason = problems[0]
    more = f" ({len(problems):,} bad lines in all)" if len(problems) > 1 else ""
    where = f"{field}: {reason}" if field else reason
    return BadFile(f"canaries: {name}: line {line}: {where}{more}", tuple(problems))


def _read(name: str) -> bytes:
    if name == STARTER:
        return (files("promptmill.canaries") / "starter.jsonl").read_bytes()
    try:
        with Path(name).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BadFile(f"canaries: expected {STARTER!r} or a file, got {name}: {error.strerror}") from None
    if len(content) > _MAX_BYTES:
        raise BadFile(f"canaries: expected at most {_MAX_BYTES:,} bytes in {name}, got more: is it a set of canaries?")
    return content


def _canary(line: bytes, number: int, max_tokens: int) -> Canary:
    fields = _fields(line)
    job = job_from_line(fields, model=_ANY_MODEL, max_tokens=max_tokens)
    if "model" in (fields.get("params") or fields.get("request") or {}):
        raise BadJob("model: expected none in a canary, since each model of `canary_models` is asked, got one")
    if len(job.id) > _LONGEST_ID:
        raise BadJob(f"id: expected at most {_LONGEST_ID} characters, got {len(job.id)}")
    if job.expect is None or not _can_fail(job.expect):
        raise BadJob("expect: expected at least one check beside similar_to, such as contains or matches, got none")
    request = {name: value for name, value in job.request.items() if name != "model"}
    return Canary(number, job.id, request, job.expect, job.tags)


def _fields(line: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadJob(f"expected a JSON object, got something else: {error.msg} at character {error.colno}") from None
    if not isinstance(fields, dict):
        raise BadJob(f"expected a JSON object, got {type(fields).__name__}")
    for field in fields:
        if field not in _FIELDS:
            raise BadJob(f"{field[:80]}: expected none in a canary, which has one of {', '.join(sorted(_FIELDS))}")
    names = [field for field in ("id", "custom_id") if fields.get(field) is not None]
    if not names:
        raise BadJob("id: expected a name, under which its answers are followed from round to round, got none")
    for field in names:
        if type(fields[field]) is int:
            fields[field] = str(fields[field])
    return fields


def _can_fail(expect: Expectation) -> bool:
    """Return whether there is a check; an answer is compared with `similar_to`, but nobody says what is enough."""
    return bool(expect.model_dump(exclude_defaults=True, exclude={"similar_to"}))


def _problem(line: int, error: BadJob) -> tuple[int, str, str]:
    field, colon, reason = str(error).partition(": ")
    return (line, field, reason) if colon and " " not in field else (line, "", str(error))
