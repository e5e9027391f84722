"""Answers are watched in order and once each; alarms go the way that their states allow."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from promptmill.alarms import Alarm, AlarmState, Resolution, SeriesKey
from promptmill.errors import BadInput, StoreUnavailable
from promptmill.results import Status
from promptmill.store import ResultStore
from promptmill.store.watching import Findings, Turn
from tests.conformance.store.samples import NOON, answer, attempt, failed

KEY = SeriesKey("claude-haiku-5-5", "claude-haiku-5-5", "summaries", "standard")
MINUTE = timedelta(minutes=1)


def measured(number: int, **fields):
    given = {"asked_model": KEY.asked, "kind": KEY.kind, "lane": KEY.lane, "quality": {"chars": number}, **fields}
    return answer(f"job-{number}", **given)


def alarm(**fields) -> Alarm:
    plain = Alarm(
        series=KEY,
        metric="chars",
        direction="lower",
        way="all slightly",
        since=NOON,
        raised_at=NOON + MINUTE,
        answers=217,
        once_in=2_000_000,
        evidence={"metric": {"before": {"mean": 5.5}}, "examples": {"after": ["job-1", "\ud800"]}},
    )
    return replace(plain, **fields)


async def turn(store: ResultStore, watcher: str = "one") -> Turn:
    taken = await store.watching.take_turn(watcher, now=NOON, until=NOON + MINUTE)
    assert taken is not None
    return taken


async def test_answers_come_in_the_order_of_their_recording_with_the_series_they_belong_to(store: ResultStore) -> None:
    await store.record([measured(1), measured(2)])
    await store.record([measured(3)])
    page = await store.watching.page(await turn(store), limit=10)
    assert [found.job_id for found in page] == ["job-1", "job-2", "job-3"]
    assert page[0].series == KEY
    assert page[0].quality == {"chars": 1}
    assert page[0].finished_at == NOON


async def test_an_answer_of_a_fallback_belongs_to_a_series_of_its_own(store: ResultStore) -> None:
    fallback = attempt(2, model="claude-sonnet-5-5")
    await store.record([measured(1, attempts=(attempt(1), fallback), model="claude-sonnet-5-5-20260901")])
    [found] = await store.watching.page(await turn(store), limit=10)
    assert found.series == KEY._replace(model="claude-sonnet-5-5")


async def test_what_has_no_answer_or_was_not_measured_is_left_out(store: ResultStore) -> None:
    old = measured(2, asked_model=None)
    await store.record([failed("job-0"), measured(1, quality=None), old, measured(3, status=Status.EXPIRED)])
    assert await store.watching.page(await turn(store), limit=10) == []


async def test_one_worker_watches_until_its_turn_is_over(store: ResultStore) -> None:
    watching = store.watching
    assert await watching.take_turn("one", now=NOON, until=NOON + MINUTE)
    assert await watching.take_turn("one", now=NOON, until=NOON + 2 * MINUTE)
    almost = NOON + 2 * MINUTE - timedelta(microseconds=1)
    assert await watching.take_turn("two", now=almost, until=NOON + 4 * MINUTE) is None
    assert await watching.take_turn("two", now=NOON + 2 * MINUTE, until=NOON + 4 * MINUTE)


async def test_of_two_who_watched_the_same_answers_only_one_is_heard(store: ResultStore) -> None:
    await store.record([measured(1)])
    begun = await turn(store)
    one, two = (
        Findings(before=begun.seq, seq=begun.newest, states={KEY: {"by": name}}, raised=[alarm(way=name)])
        for name in ("one", "two")
    )
    heard = await asyncio.gather(store.watching.record(one), store.watching.record(two))
    assert sorted(heard) == [False, True]
    winner = "one" if heard[0] else "two"
    assert await store.watching.states([KEY]) == {KEY: {"by": winner}}
    assert [found.way for found in await store.watching.alarms()] == [winner]
    assert (await turn(store)).seq == begun.newest


async def test_a_state_is_replaced_and_one_that_nobody_wrote_is_missing(store: ResultStore) -> None:
    await turn(store)
    other = KEY._replace(lane="overnight")
    assert await store.watching.record(Findings(before=0, seq=5, states={KEY: {"seen": 1}}))
    assert await store.watching.record(Findings(before=5, seq=9, states={KEY: {"seen": 2}}))
    assert await store.watching.states([KEY, other]) == {KEY: {"seen": 2}}


async def test_series_are_frozen_by_what_their_owner_chooses_and_stay_so_when_their_state_moves(
    store: ResultStore,
) -> None:
    watching = store.watching
    await turn(store)
    other = KEY._replace(kind="other")
    await watching.record(Findings(before=0, seq=1, states={KEY: {}, other: {}}))
    assert await watching.freeze(frozen=True, model=KEY.model, kind=KEY.kind, lane=KEY.lane) == 1
    await watching.record(Findings(before=1, seq=2, states={KEY: {"seen": 1}, other: {}}))
    assert await watching.frozen() == {KEY}
    assert await watching.freeze(frozen=True) == 1
    assert await watching.freeze(frozen=False) == 2
    assert await watching.frozen() == frozenset()


async def test_an_alarm_is_kept_whole(store: ResultStore) -> None:
    await turn(store)
    await store.watching.record(Findings(before=0, seq=1, states={}, raised=[alarm()]))
    [found] = await store.watching.alarms()
    assert found == alarm(id=found.id)
    assert found.id is not None
    assert await store.watching.alarm(found.id) == found


async def test_an_alarm_is_acknowledged_then_resolved_and_only_then_no_longer_listed(store: ResultStore) -> None:
    watching = store.watching
    await turn(store)
    await watching.record(Findings(before=0, seq=1, states={}, raised=[alarm()]))
    [found] = await watching.alarms()
    await watching.acknowledge(found.id, now=NOON + 2 * MINUTE)
    [found] = await watching.alarms()
    assert (found.state, found.acknowledged_at) == (AlarmState.ACKNOWLEDGED, NOON + 2 * MINUTE)
    await watching.resolve(found.id, Resolution.ACCEPTED, now=NOON + 3 * MINUTE)
    assert await watching.alarms() == []
    [found] = await watching.alarms(resolved=True)
    assert (found.state, found.resolution) == (AlarmState.RESOLVED, Resolution.ACCEPTED)
    assert found.resolved_at == NOON + 3 * MINUTE


async def test_what_its_owner_resolved_is_obeyed_once(store: ResultStore) -> None:
    watching = store.watching
    await turn(store)
    await watching.record(Findings(before=0, seq=1, states={}, raised=[alarm()]))
    [found] = await watching.alarms()
    assert await watching.to_obey() == []
    await watching.resolve(found.id, Resolution.DISMISSED, now=NOON)
    assert [one.id for one in await watching.to_obey()] == [found.id]
    await watching.record(Findings(before=1, seq=1, states={}, obeyed=[found.id]))
    assert await watching.to_obey() == []


async def test_answers_that_recovered_resolve_the_alarm_of_their_metric_alone(store: ResultStore) -> None:
    watching = store.watching
    await turn(store)
    await watching.record(Findings(before=0, seq=1, states={}, raised=[alarm(), alarm(metric="words")]))
    await watching.record(Findings(before=1, seq=2, states={}, recovered=[(KEY, "chars", NOON + MINUTE)]))
    assert [found.metric for found in await watching.alarms()] == ["words"]
    over = next(found for found in await watching.alarms(resolved=True) if found.metric == "chars")
    assert (over.resolution, over.resolved_at) == (Resolution.RECOVERED, NOON + MINUTE)
    assert await watching.to_obey() == []


async def test_a_move_that_an_alarm_cannot_make_is_refused_with_what_it_is(store: ResultStore) -> None:
    watching = store.watching
    await turn(store)
    await watching.record(Findings(before=0, seq=1, states={}, raised=[alarm()]))
    [found] = await watching.alarms()
    await watching.resolve(found.id, Resolution.DISMISSED, now=NOON)
    with pytest.raises(BadInput, match="expected one that is open, it is resolved"):
        await watching.acknowledge(found.id, now=NOON)
    with pytest.raises(BadInput, match="no such alarm"):
        await watching.resolve(4711, Resolution.DISMISSED, now=NOON)


async def test_evidence_is_taken_from_both_sides_of_an_answer_within_the_series(store: ResultStore) -> None:
    await store.record([measured(number) for number in range(1, 8)])
    await store.record([measured(99, kind="others")])
    page = await store.watching.page(await turn(store), limit=100)
    fourth = page[3].seq
    found = await store.watching.around(KEY, fourth, most=2, within=1_000)
    assert [one.seq for one in found] == [fourth - 2, fourth - 1, fourth, fourth + 1]
    near = await store.watching.around(KEY, fourth, most=100, within=1)
    assert [one.seq for one in near] == [fourth - 1, fourth]


@pytest.mark.postgres
async def test_an_answer_whose_transaction_takes_long_is_not_passed_by(store: ResultStore, backend: str) -> None:
    """A row gets its number before it is committed: one with a higher number may be seen first."""
    if backend == "sqlite":
        pytest.skip("one connection writes at a time: rows are seen in the order of their numbers")
    written, may_commit = asyncio.Event(), asyncio.Event()
    from sqlalchemy.ext.asyncio import AsyncConnection

    from promptmill.store.recording import Batch

    async def slowly() -> None:
        async with store._database._engine.begin() as connection:
            assert isinstance(connection, AsyncConnection)
            await connection.run_sync(store._recording.write, Batch.of([measured(1)]))
            written.set()
            await may_commit.wait()

    writer = asyncio.create_task(slowly())
    await written.wait()
    await store.record([measured(2)])
    with pytest.raises(StoreUnavailable, match="lock timeout"):
        await turn(store)
    may_commit.set()
    await writer
    page = await store.watching.page(await turn(store), limit=10)
    assert [found.job_id for found in page] == ["job-1", "job-2"]
