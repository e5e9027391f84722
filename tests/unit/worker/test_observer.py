"""What answers say reaches Redis: the newest alone, not too often, and never at a job's expense."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import structlog

from promptmill.errors import QueueUnavailable
from promptmill.jobs import Lane
from promptmill.pacing import Charge, Cost, Reading
from promptmill.queue import Claim, Disposition
from promptmill.queue.queue import NewLimit
from tests.support.workers import leaves_no_task, make_settings
from worker import events
from worker.observer import PAUSE, Observer

no_task_is_left = pytest.fixture(autouse=True)(leaves_no_task)


def claim(at: float, *, budget: str = "haiku-5-5", charged: bool = True) -> Claim:
    charge = Charge(at, Cost(int(at), 0, 0)) if charged else None
    return Claim("job-1", Disposition.RUN, "t", 1, 0, 0, 0, Lane.STANDARD, budget, Cost(), b"", charge=charge)


def says(left: int) -> dict[str, str]:
    return {"anthropic-ratelimit-requests-limit": "600", "anthropic-ratelimit-requests-remaining": str(left)}


class Listening:
    """Stands where the queue is: notes what it is told, and does what a test wants."""

    def __init__(self) -> None:
        self.told = []
        self.news = []
        self.error = None

    async def observe(self, model_class, charge, readings):
        self.told.append((model_class, charge.at, readings["requests"]))
        if self.error:
            raise self.error
        return self.news


class Pauses:
    """Sleep that ends when the test says so."""

    def __init__(self) -> None:
        self.asked = []
        self.over = asyncio.Condition()
        self.ended = 0

    async def __call__(self, seconds):
        self.asked.append(seconds)
        number = len(self.asked)
        async with self.over:
            self.over.notify_all()
            await self.over.wait_for(lambda: self.ended >= number)

    async def end(self):
        """Return when the pause that is under way has ended and what follows it has been done."""
        async with self.over:
            self.ended += 1
            self.over.notify_all()
        await turns()

    async def reached(self, number):
        async with self.over:
            await self.over.wait_for(lambda: len(self.asked) >= number)


async def turns():
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def queue():
    return Listening()


@pytest.fixture
def pauses():
    return Pauses()


@pytest.fixture
async def observer(queue, pauses):
    observer = Observer(queue, make_settings(), sleep=pauses)
    yield observer
    await observer.close()


async def test_the_first_answer_is_passed_on_at_once(observer, queue, pauses):
    observer.hear(claim(5), says(9))
    await pauses.reached(1)
    assert queue.told == [("haiku-5-5", 5, Reading(600, 9))]
    assert pauses.asked == [PAUSE.total_seconds()] == [timedelta(milliseconds=100).total_seconds()]


async def test_of_the_answers_within_a_pause_the_one_to_the_newest_request_is_passed_on(observer, queue, pauses):
    observer.hear(claim(1), says(9))
    await pauses.reached(1)
    for at, left in ((2, 8), (4, 6), (3, 7)):
        observer.hear(claim(at), says(left))
    assert len(queue.told) == 1
    await pauses.end()
    assert queue.told[1:] == [("haiku-5-5", 4, Reading(600, 6))]


async def test_where_nothing_new_was_said_nobody_is_told(observer, queue, pauses):
    observer.hear(claim(1), says(9))
    await pauses.reached(1)
    await pauses.end()
    assert len(queue.told) == 1
    observer.hear(claim(2), says(8))
    await pauses.reached(2)
    assert len(queue.told) == 2


async def test_model_classes_do_not_wait_for_each_other(observer, queue, pauses):
    observer.hear(claim(1), says(9))
    observer.hear(claim(2, budget="opus-5"), says(8))
    await pauses.reached(2)
    assert sorted(name for name, *_ in queue.told) == ["haiku-5-5", "opus-5"]


async def test_an_answer_that_says_nothing_costs_no_call(observer, queue, pauses):
    observer.hear(claim(1), {"request-id": "req_1", "anthropic-ratelimit-requests-limit": "lots"})
    observer.hear(claim(1, charged=False), says(9))
    await turns()
    assert queue.told == []


async def test_while_redis_is_away_what_was_said_is_dropped(observer, queue, pauses):
    queue.error = QueueUnavailable("away")
    observer.hear(claim(1), says(9))
    await pauses.reached(1)
    queue.error = None
    await pauses.end()
    assert len(queue.told) == 1
    observer.hear(claim(2), says(8))
    await pauses.reached(2)
    assert queue.told[-1] == ("haiku-5-5", 2, Reading(600, 8))


@pytest.mark.parametrize("pinned", [False, True])
async def test_a_limit_that_differs_is_said(queue, pauses, pinned):
    queue.news = [NewLimit("requests", 1_000, 600)]
    observer = Observer(queue, make_settings(pinned=pinned), sleep=pauses)
    with structlog.testing.capture_logs() as logs:
        observer.hear(claim(1), says(9))
        await pauses.reached(1)
    await observer.close()
    assert logs == [
        {
            "event": events.LIMIT_DIFFERS,
            "log_level": "warning",
            "model_class": "haiku-5-5",
            "dimension": "requests",
            "assumed": 1_000,
            "limit": 600,
            "obeyed": not pinned,
        }
    ]


async def test_a_call_under_way_is_ended_with_the_worker(queue, pauses):
    observer = Observer(queue, make_settings(), sleep=pauses)
    observer.hear(claim(1), says(9))
    await pauses.reached(1)
    await observer.close()
