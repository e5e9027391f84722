"""Many small requests in one call: who gets which answer, and what happens when a call fails or nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from worker.batching import Batcher


class Backend:
    """Answers n with 10 n; remembers every call, and holds one up when told to."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.reached = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.error: Exception | None = None

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        self.reached.set()
        await self.goes_on.wait()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return [10 * item for item in items]


@pytest.fixture
def backend():
    return Backend()


@pytest.fixture
def batcher(backend):
    return Batcher(backend, most=3)


async def test_one_item_alone_goes_at_once(batcher, backend):
    assert await batcher.put(1) == 10
    assert backend.calls == [[1]]


async def test_what_comes_in_the_same_moment_goes_together(batcher, backend):
    assert await asyncio.gather(*map(batcher.put, [1, 2, 3])) == [10, 20, 30]
    assert backend.calls == [[1, 2, 3]]


async def test_what_comes_while_a_call_is_under_way_goes_into_the_next_one(batcher, backend):
    backend.goes_on.clear()
    first = asyncio.create_task(batcher.put(1))
    await backend.reached.wait()
    later = [asyncio.create_task(batcher.put(n)) for n in (2, 3)]
    await asyncio.sleep(0)
    assert backend.calls == [[1]]
    backend.goes_on.set()
    assert await asyncio.gather(first, *later) == [10, 20, 30]
    assert backend.calls == [[1], [2, 3]]


async def test_no_call_is_larger_than_allowed(batcher, backend):
    assert await asyncio.gather(*map(batcher.put, range(7))) == [0, 10, 20, 30, 40, 50, 60]
    assert backend.calls == [[0, 1, 2], [3, 4, 5], [6]]


async def test_a_failed_call_fails_for_each_of_its_items_and_for_no_other(batcher, backend):
    backend.error = ValueError("no")
    answers = await asyncio.gather(*map(batcher.put, range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ValueError] * 3 + [int] * 2
    assert answers[3:] == [30, 40]


async def test_a_call_that_answers_too_little_leaves_nobody_waiting(backend):
    async def one_short(items):
        return [0] * (len(items) - 1)

    batcher = Batcher(one_short, most=3)
    answers = await asyncio.gather(*map(batcher.put, range(3)), return_exceptions=True)
    assert any(isinstance(answer, ValueError) for answer in answers)


async def test_who_no_longer_waits_does_not_disturb_the_others(batcher, backend):
    backend.goes_on.clear()
    waiting = [asyncio.create_task(batcher.put(n)) for n in (1, 2)]
    await backend.reached.wait()
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    backend.goes_on.set()
    assert await waiting[1] == 20
    assert backend.calls == [[1, 2]], "what was handed over is not taken back"


async def test_it_goes_on_after_a_failure_and_after_a_rest(batcher, backend):
    backend.error = ValueError("no")
    with pytest.raises(ValueError, match="no"):
        await batcher.put(1)
    assert await batcher.put(2) == 20
    assert await batcher.put(3) == 30


async def test_closing_gives_up_what_waits(batcher, backend):
    backend.goes_on.clear()
    waiting = [asyncio.create_task(batcher.put(n)) for n in range(5)]
    await backend.reached.wait()
    await batcher.close()
    await asyncio.wait(waiting)
    assert all(task.cancelled() for task in waiting)


async def test_closing_one_at_rest_is_nothing(batcher):
    await batcher.close()
