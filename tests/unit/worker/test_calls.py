"""The one part of a job that may be stopped, and the moments at which somebody stops it."""

from __future__ import annotations

import asyncio

import pytest

from worker.calls import Call, Stopped, StopReason


class Request:
    """A coroutine that tells when it began, and ends when the test says so."""

    def __init__(self, answer="answer") -> None:
        self.began = asyncio.Event()
        self.ends = asyncio.Event()
        self.stopped = False
        self._answer = answer

    async def __call__(self):
        self.began.set()
        try:
            await self.ends.wait()
        except asyncio.CancelledError:
            self.stopped = True
            raise
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


async def test_an_answer_is_returned():
    request = Request()
    request.ends.set()
    assert await Call().run(request()) == "answer"


async def test_a_failure_passes_through():
    request = Request(ValueError("no"))
    request.ends.set()
    with pytest.raises(ValueError, match="no"):
        await Call().run(request())


@pytest.mark.parametrize("reason", list(StopReason))
async def test_a_call_under_way_is_stopped(reason):
    call, request = Call(), Request()
    running = asyncio.create_task(call.run(request()))
    await request.began.wait()
    call.stop(reason)
    with pytest.raises(Stopped) as stopped:
        await running
    assert (stopped.value.reason, stopped.value.sent, request.stopped) == (reason, True, True)


@pytest.mark.parametrize("reason", list(StopReason))
async def test_a_call_that_was_stopped_before_it_began_sends_nothing(reason):
    call, request = Call(), Request()
    call.stop(reason)
    with pytest.raises(Stopped) as stopped:
        await call.run(request())
    assert (stopped.value.reason, stopped.value.sent, request.began.is_set()) == (reason, False, False)


async def test_an_answer_that_has_arrived_is_not_taken_away_by_a_stop():
    """It was paid for: it goes on to the store, whatever anybody wants by now (I6)."""
    call, request = Call(), Request()
    running = asyncio.create_task(call.run(request()))
    await request.began.wait()
    task = call._task
    request.ends.set()
    await asyncio.wait([task])
    call.stop(StopReason.SHUTDOWN)
    assert await running == "answer"


async def test_a_stop_after_the_end_changes_nothing():
    call, request = Call(), Request()
    request.ends.set()
    await call.run(request())
    call.stop(StopReason.CANCELLED)


@pytest.mark.parametrize("first", [StopReason.CANCELLED, StopReason.SHUTDOWN])
async def test_a_lost_lease_outweighs_every_other_reason(first):
    call, request = Call(), Request()
    running = asyncio.create_task(call.run(request()))
    await request.began.wait()
    call.stop(first)
    call.stop(StopReason.LEASE_LOST)
    with pytest.raises(Stopped) as stopped:
        await running
    assert stopped.value.reason is StopReason.LEASE_LOST


async def test_otherwise_the_first_reason_counts():
    call = Call()
    call.stop(StopReason.CANCELLED)
    call.stop(StopReason.SHUTDOWN)
    with pytest.raises(Stopped) as stopped:
        await call.run(Request()())
    assert stopped.value.reason is StopReason.CANCELLED


async def test_whoever_cancels_the_whole_job_stops_the_request_too():
    call, request = Call(), Request()
    running = asyncio.create_task(call.run(request()))
    await request.began.wait()
    task = call._task
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait([task])
    assert request.stopped
