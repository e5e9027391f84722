"""Results as a stream: chosen, in order, flat in memory, whoever writes meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from promptmill.errors import BadInput
from promptmill.results import Result, Status
from promptmill.store import ResultStore, SettledLine
from tests.conformance.store.samples import NOON, answer, collect, failed


async def ids(store: ResultStore, **chosen: Any) -> list[str]:
    return [result.job_id for result in await collect(store.results(**chosen))]


async def test_results_come_in_the_order_in_which_they_were_recorded(store: ResultStore) -> None:
    expected = [f"job-{number}" for number in (3, 1, 2)]
    for job_id in expected:
        await store.record([answer(job_id)])

    assert await ids(store) == expected


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"status": Status.FAILED}, ["b", "d"]),
        ({"lane": "interactive"}, ["c"]),
        ({"model": "claude-opus-5-5"}, ["c"]),
        ({"run": "weekly"}, ["d", "e"]),
        ({"run": "weekly", "status": Status.SUCCEEDED}, ["e"]),
        ({"since": NOON + timedelta(hours=3)}, ["d", "e"]),
        ({"since": NOON + timedelta(hours=2, microseconds=1), "status": Status.SUCCEEDED}, ["e"]),
        ({"since": NOON + timedelta(days=1)}, []),
        ({"tag": ("team", "ads")}, ["c", "e"]),
        ({"tag": ("team", "search")}, ["a", "b"]),
        ({"tag": ("ads", "team")}, []),
        ({"tag": ('a"b.c$[0]', "'; DROP TABLE")}, ["d"]),
        ({"run": "yearly"}, []),
        ({}, ["a", "b", "c", "d", "e"]),
    ],
)
async def test_results_can_be_chosen(store: ResultStore, chosen: dict[str, Any], expected: list[str]) -> None:
    hour = timedelta(hours=1)
    await store.record(
        [
            answer("a"),
            failed("b", finished_at=NOON + hour),
            answer(
                "c",
                finished_at=NOON + 2 * hour,
                model="claude-opus-5-5",
                lane="interactive",
                tags={"team": "ads", "x": "y"},
            ),
            failed("d", finished_at=NOON + 3 * hour, run="weekly", tags={'a"b.c$[0]': "'; DROP TABLE"}),
            answer("e", finished_at=NOON + 4 * hour, run="weekly", tags={"team": "ads"}),
        ]
    )

    assert sorted(await ids(store, **chosen)) == expected


async def test_a_run_can_be_read_in_the_order_of_its_input(store: ResultStore) -> None:
    positions = [3, 1200, None, 1, 2, None, *range(4, 1200)]
    await store.record([answer(f"job-{n}", position=position) for n, position in enumerate(positions)])
    await store.record([answer("elsewhere", run="weekly", position=2), answer("twin", position=2)])

    found = await collect(store.results(run="nightly", in_input_order=True))

    assert [result.position for result in found] == [1, 2, 2, *range(3, 1201), None, None]
    assert len({result.job_id for result in found}) == len(positions) + 1


async def test_the_order_of_an_input_needs_a_run(store: ResultStore) -> None:
    with pytest.raises(BadInput, match="expected a run, got none"):
        await collect(store.results(in_input_order=True))


async def test_rows_added_while_results_are_read_disturb_nothing(store: ResultStore) -> None:
    before = [f"job-{number:04}" for number in range(1_000)]
    for start in range(0, 1_000, 100):
        await store.record([failed(job_id, attempts=()) for job_id in before[start : start + 100]])

    seen: list[str] = []
    async for result in store.results():
        if len(seen) % 50 == 0 and len(seen) < 1_000:
            redriven = before[(len(seen) * 7 + 500) % 1_000]
            await store.record([answer(f"new-{len(seen)}"), answer(redriven, attempts=())])
        seen.append(result.job_id)

    assert len(seen) == len(set(seen))
    assert sorted(job_id for job_id in seen if job_id in set(before)) == before


async def test_a_reader_that_pauses_holds_no_connection(store: ResultStore) -> None:
    await store.record([answer(f"job-{number}") for number in range(100)])
    paused = [store.results() for _ in range(10)]
    for stream in paused:
        await anext(stream)

    await store.record([answer("job-more")])

    assert await store.result("job-more") is not None


async def test_pages_of_long_answers_hold_few_rows(store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "x" * 1_000_000
    for number in range(30):
        await store.record([answer(f"job-{number:02}", text=text, message=None, attempts=())])
    sizes: list[int] = []
    decode = store._reading._with_attempts

    def counting(connection: sa.Connection, rows: Sequence[Any]) -> list[Result]:
        sizes.append(len(rows))
        return decode(connection, rows)

    monkeypatch.setattr(store._reading, "_with_attempts", counting)

    assert len(await ids(store)) == 30
    assert sizes[0] <= 20
    assert max(sizes[1:]) <= 4


async def test_a_resumed_run_learns_which_lines_are_settled(store: ResultStore) -> None:
    expected = []
    entries = []
    for position in range(1, 5_001):
        if position % 3 == 0:
            continue
        make = failed if position % 5 == 0 else answer
        entries.append(make(f"job-{position}", position=position, attempts=()))
        expected.append(SettledLine(position, f"job-{position}", entries[-1].status))
    await store.record(entries[::-1])
    await store.record([answer("elsewhere", run="weekly"), answer("no-position", position=None)])

    assert await collect(store.settled("nightly")) == expected
    assert await collect(store.settled("nightly", after=4_990)) == [line for line in expected if line[0] > 4_990]
    assert await collect(store.settled("yearly")) == []


@pytest.mark.parametrize("rows", [20, 80])
async def test_the_last_page_may_be_exactly_full(store: ResultStore, rows: int) -> None:
    await store.record([answer(f"job-{number:03}") for number in range(rows)])

    assert await ids(store) == [f"job-{number:03}" for number in range(rows)]
