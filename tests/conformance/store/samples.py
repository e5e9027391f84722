"""Results, attempts and dead letters to write down; every field can be replaced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from promptmill.claude_code import Rewrite
from promptmill.results import Attempt, DeadLetter, Failure, Result, Status, Usage

NOON = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
T = TypeVar("T")


_OVERLOADED = Failure("overloaded", "the provider is overloaded", "provider")
_REFUSED = Failure("invalid_request", "max_tokens is too large", "ours")


def attempt(number: int = 1, **fields: Any) -> Attempt:
    started = NOON + timedelta(minutes=number)
    plain = Attempt(
        number=number,
        model="claude-haiku-5-5",
        started_at=started,
        ended_at=started + timedelta(milliseconds=2345, microseconds=678),
        outcome="succeeded",
        status_code=200,
        request_id=f"req_{number}",
        first_byte=timedelta(microseconds=312_345),
        usage=Usage(input_tokens=500, output_tokens=200, service_tier="standard"),
        cost_usd=Decimal("0.000150000001"),
    )
    return replace(plain, **fields)


def overloaded(number: int = 1) -> Attempt:
    return attempt(
        number, outcome="overloaded", status_code=529, first_byte=None, usage=None, cost_usd=None, failure=_OVERLOADED
    )


def answer(job_id: str = "job-1", **fields: Any) -> Result:
    """A job that succeeded at its second attempt, with every field filled in."""
    plain = Result(
        job_id=job_id,
        status=Status.SUCCEEDED,
        model="claude-haiku-5-5-20261015",
        text="Forty-two.",
        rewrites=(Rewrite(0, 0, "Thoughts: forty-two.", "Forty-two."),),
        message={
            "type": "message",
            "content": [{"type": "text", "text": "Forty-two."}],
            "stop_reason": "end_turn",
        },
        usage=Usage(500, 200, 10, 20, 30, 40, "standard", 3, "fast", "us"),
        cost_usd=Decimal("0.000150000001"),
        attempts=(overloaded(1), attempt(2)),
        quality={
            "chars": 10,
            "words": 1,
            "output_tokens": 200,
            "code_block": False,
            "specific_examples": 3,
            "instruction_following": 0.75,
            "similarity": None,
            "language": "en",
        },
        lane="overnight",
        tags={"team": "search", "experiment": "7"},
        run="nightly",
        position=1,
        request_ref="ab" * 32,
        submitted_at=NOON - timedelta(hours=1),
        finished_at=NOON,
        queue_time=timedelta(seconds=1, microseconds=1),
        latency=timedelta(seconds=2, microseconds=345_678),
        worker="host-1:4711",
    )
    return replace(plain, **fields)


def failed(job_id: str = "job-1", **fields: Any) -> Result:
    plain = answer(
        job_id,
        status=Status.FAILED,
        model=None,
        text=None,
        rewrites=None,
        message=None,
        usage=None,
        cost_usd=None,
        attempts=(attempt(1, outcome="invalid_request", status_code=400, usage=None, cost_usd=None, failure=_REFUSED),),
        quality=None,
        error=_REFUSED,
        latency=None,
    )
    return replace(plain, **fields)


def dead_letter(job_id: str = "job-1", **fields: Any) -> DeadLetter:
    plain = DeadLetter(
        job_id=job_id,
        reason="invalid_request",
        message="max_tokens is too large",
        payload=b'{"f":"run_prompt"}\x00\xff',
        died_at=NOON,
        attempts=1,
        redrivable=True,
    )
    return replace(plain, **fields)


async def collect(stream: AsyncIterator[T]) -> list[T]:
    return [item async for item in stream]
