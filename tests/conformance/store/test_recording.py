"""One final result a job (I2), and none that was paid for is lost or replaced (I6)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from promptmill.errors import BadInput
from promptmill.results import Result, Status
from promptmill.store import AttemptRecord, Entry, ResultStore
from tests.conformance.store.samples import (
    NOON,
    answer,
    attempt,
    collect,
    dead_letter,
    failed,
    overloaded,
)


async def test_a_result_comes_back_as_it_was_recorded(store: ResultStore) -> None:
    await store.record([answer()])

    assert await store.result("job-1") == answer()
    assert await store.result("job-2") is None


async def test_a_result_with_nothing_but_an_id_comes_back_as_it_was_recorded(store: ResultStore) -> None:
    bare = Result(job_id="job-1", status=Status.CANCELLED, finished_at=NOON)

    await store.record([bare])

    assert await store.result("job-1") == bare


async def test_an_empty_batch_writes_nothing(store: ResultStore) -> None:
    await store.record([])

    assert await collect(store.results()) == []


async def test_the_same_entries_again_change_nothing(store: ResultStore) -> None:
    entries: list[Entry] = [
        answer("job-1"),
        failed("job-2"),
        dead_letter("job-2"),
        AttemptRecord("job-3", overloaded()),
    ]
    await store.record(entries)
    once = await collect(store.results())

    await store.record(entries)
    await store.record(entries * 2)

    assert await collect(store.results()) == once
    assert await store.attempts(["job-3"]) == {"job-3": (overloaded(),)}
    assert await store.dead_letters() == [dead_letter("job-2")]


@pytest.mark.parametrize("status", list(Status))
async def test_nothing_overwrites_a_success(store: ResultStore, status: Status) -> None:
    await store.record([answer()])

    await store.record([failed(status=status, text="something else", attempts=())])

    assert await store.result("job-1") == answer()


@pytest.mark.parametrize("first", [Status.FAILED, Status.CANCELLED, Status.EXPIRED])
async def test_any_other_end_gives_way_to_what_a_redriven_job_came_to(store: ResultStore, first: Status) -> None:
    await store.record([failed(status=first, attempts=(overloaded(1),))])

    await store.record([answer(attempts=(attempt(2),))])

    assert await store.result("job-1") == answer(attempts=(overloaded(1), attempt(2)))


async def test_within_one_batch_a_success_counts_whatever_follows_it(store: ResultStore) -> None:
    await store.record([failed(attempts=()), answer(), failed(attempts=())])

    assert await store.result("job-1") == answer()


async def test_a_batch_that_cannot_be_written_whole_is_not_written_at_all(store: ResultStore) -> None:
    impossible = dead_letter("job-3", payload=None)

    with pytest.raises(BadInput, match="cannot hold a value"):
        await store.record([answer("job-1"), AttemptRecord("job-2", attempt()), impossible])

    assert await collect(store.results()) == []
    assert await store.attempts(["job-1", "job-2"]) == {}


async def test_only_successes_must_not_be_paid_for_again(store: ResultStore) -> None:
    results = [failed(f"job-{status}", status=status) for status in Status if status is not Status.SUCCEEDED]
    await store.record([*results, answer("job-1"), answer("job-2")])

    found = await store.finished([*(result.job_id for result in results), "job-1", "job-2", "job-unknown"])

    assert found == {"job-1": answer("job-1"), "job-2": answer("job-2")}


async def test_any_number_of_jobs_can_be_asked_for_at_once(store: ResultStore) -> None:
    results = [answer(f"job-{number}", position=number) for number in range(1, 1_202)]
    await store.record(results)

    found = await store.finished([f"job-{number}" for number in range(40_000)])

    assert found == {result.job_id: result for result in results}
    assert await store.finished([]) == {}


async def test_attempts_are_kept_from_the_moment_they_ended(store: ResultStore) -> None:
    await store.record([AttemptRecord("job-1", overloaded(2)), AttemptRecord("job-2", attempt(1))])
    await store.record([AttemptRecord("job-1", overloaded(1))])

    assert await store.attempts(["job-1", "job-2", "job-3"]) == {
        "job-1": (overloaded(1), overloaded(2)),
        "job-2": (attempt(1),),
    }
    assert await store.result("job-1") is None


async def test_a_result_shows_every_attempt_recorded_for_its_job(store: ResultStore) -> None:
    await store.record([AttemptRecord("job-1", overloaded(number)) for number in (1, 2, 10)])

    await store.record([answer(attempts=(attempt(11),))])

    result = await store.result("job-1")
    assert result is not None
    assert [tried.number for tried in result.attempts] == [1, 2, 10, 11]


async def test_an_attempt_is_written_once(store: ResultStore) -> None:
    await store.record([AttemptRecord("job-1", overloaded(1))])

    await store.record([AttemptRecord("job-1", attempt(1))])

    assert await store.attempts(["job-1"]) == {"job-1": (overloaded(1),)}


async def test_batches_that_name_the_same_jobs_in_opposite_orders_do_not_block_each_other(
    store: ResultStore,
) -> None:
    entries: list[Entry] = []
    for number in range(100):
        entries += [failed(f"job-{number}"), dead_letter(f"job-{number}")]

    await asyncio.gather(*(store.record(entries[:: (-1) ** turn]) for turn in range(12)))

    assert len(await collect(store.results())) == 100


async def test_tasks_that_record_at_once_do_not_disturb_each_other(store: ResultStore) -> None:
    results = [answer(f"job-{number:03}", finished_at=NOON + timedelta(seconds=number)) for number in range(60)]

    await asyncio.gather(
        *(store.record([result]) for result in results),
        *(store.record([replace(result, status=Status.FAILED)]) for result in results),
        *(store.finished([result.job_id]) for result in results),
    )

    recorded = sorted(await collect(store.results()), key=lambda result: result.job_id)
    assert recorded == results
