"""What else arq runs: cron jobs and functions not ours, under our leases, with results left as arq leaves them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

from promptmill.queue import Claim, Disposition, Queue, Settlement, keys
from promptmill.results import Status
from promptmill.wire import FUNCTION, Unreadable, pack_returned, unpack_envelope
from worker.calls import Stopped, StopReason
from worker.leases import Lease

CRON_RESULT_KEPT: Final = timedelta(seconds=60)
"""A cron job's result is what keeps other workers from running the same minute again; as long as arq keeps it."""


class Function(Protocol):
    """What is used of arq's functions and cron jobs."""

    @property
    def name(self) -> str:
        """Under which it is enqueued."""

    @property
    def timeout_s(self) -> float | None:
        """None: as long as the worker's other functions."""

    @property
    def coroutine(self) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Called with the context, then with what was enqueued."""


Known = TypeVar("Known", bound=Function)


def function_of(claim: Claim, functions: Mapping[str, Known]) -> Known | None:
    """Return which of these functions a stranger's job names; None where it is ours, or none of them."""
    if claim.disposition is not Disposition.FOREIGN or claim.payload is None:
        return None
    try:
        name = unpack_envelope(claim.payload).function
    except Unreadable:
        return None
    return None if name == FUNCTION else functions.get(name)


class FunctionRunner:
    """Runs them. `say_crash` is told of each one that failed, by its job's id."""

    def __init__(
        self, queue: Queue, *, timeout_s: float, keep_result: timedelta, say_crash: Callable[[str, BaseException], None]
    ) -> None:
        self._queue = queue
        self._timeout_s = timeout_s
        self._keep_result = max(CRON_RESULT_KEPT, keep_result)
        self._say_crash = say_crash

    async def run(self, function: Function, lease: Lease, context: Mapping[Any, Any]) -> None:
        """Run `function` for the job that `lease` is for, and settle that with what it returned or raised."""
        claim = lease.claim
        envelope = unpack_envelope(claim.payload or b"")
        started = datetime.now(UTC)
        ctx = {**context, "job_id": claim.job_id, "job_try": claim.number, "enqueue_time": envelope.enqueued_at}
        timeout_s = self._timeout_s if function.timeout_s is None else function.timeout_s
        status, returned = Status.SUCCEEDED, None
        try:
            async with asyncio.timeout(timeout_s):
                returned = await lease.call.run(function.coroutine(ctx, *envelope.args, **envelope.kwargs))
        except Stopped as stopped:
            if stopped.reason is not StopReason.CANCELLED:
                return  # somebody else runs it, or will when its lease has run out
            status, returned = Status.CANCELLED, asyncio.CancelledError()
        except Exception as error:  # noqa: BLE001 - a function's failure is its result
            status, returned = Status.FAILED, error
            self._say_crash(claim.job_id, error)
        result = pack_returned(
            envelope,
            returned,
            ok=status is Status.SUCCEEDED,
            job_id=claim.job_id,
            tries=claim.number,
            started_at=started,
            finished_at=datetime.now(UTC),
            queue=keys.QUEUE,
        )
        await self._queue.settle([Settlement(claim, status, result, self._keep_result)])
