"""What is due is noted once, taken by one worker at a time, and by another one if that one dies."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from promptmill.actions import ActionRecord, ActionState
from promptmill.alarms import Resolution
from promptmill.store import ResultStore
from promptmill.store.watching import Findings
from tests.conformance.store.samples import NOON
from tests.conformance.store.test_watching import KEY, MINUTE, alarm, turn

NAMES = ("notify hooks.example.com 1a2b3c4d",)
DUE = ActionRecord("alarm 1", NAMES[0], "alarm", NOON, NOON, alarm_id=1)


async def raised(store: ResultStore) -> int:
    taken = await turn(store)
    await store.watching.record(Findings(before=taken.seq, seq=1, states={}, raised=[alarm()]))
    (one,) = await store.watching.alarms()
    assert one.id is not None
    return one.id


async def test_what_is_due_is_noted_once_and_kept_as_it_was(store: ResultStore) -> None:
    odd = replace(DUE, occasion="spend_cap 7", alarm_id=None, event="spend_cap", about={"cap": "1 USD \x00", "n": 1.5})
    await store.acting.add([DUE, odd])
    await store.acting.add([replace(DUE, says="later", tries=5)])
    await store.acting.add([])
    assert await store.acting.open(NOON, NAMES) == [odd, DUE]
    assert await store.acting.of_alarms([1, 2]) == [DUE]
    assert await store.acting.of_alarms([]) == []


async def test_nobody_tries_it_before_its_time(store: ResultStore) -> None:
    await store.acting.add([replace(DUE, next_at=NOON + MINUTE)])
    assert await store.acting.open(NOON + MINUTE - timedelta(microseconds=1), NAMES) == []
    assert len(await store.acting.open(NOON + MINUTE, NAMES)) == 1


async def test_of_many_who_want_it_one_gets_it(store: ResultStore) -> None:
    await store.acting.add([DUE])
    got = await asyncio.gather(*(store.acting.take(DUE, until=NOON + MINUTE) for _ in range(8)))
    (mine,) = [record for record in got if record]
    assert (mine.tries, mine.next_at) == (1, NOON + MINUTE)
    assert await store.acting.open(NOON, NAMES) == []


async def test_what_a_dead_worker_had_taken_is_taken_again_and_its_late_word_counts_nothing(store: ResultStore) -> None:
    await store.acting.add([DUE])
    late = await store.acting.take(DUE, until=NOON + MINUTE)
    (found,) = await store.acting.open(NOON + MINUTE, NAMES)
    mine = await store.acting.take(found, until=NOON + 2 * MINUTE)
    assert mine is not None
    assert late is not None
    await store.acting.put(late, state=ActionState.DONE, says="late", at=NOON)
    (still,) = await store.acting.open(NOON + 2 * MINUTE, NAMES)
    assert still.tries == 2
    await store.acting.put(mine, state=ActionState.DONE, says="told", at=NOON + MINUTE)
    assert await store.acting.open(NOON + 9 * MINUTE, NAMES) == []
    (record,) = await store.acting.of_alarms([1])
    assert (record.state, record.says, record.ended_at) == (ActionState.DONE, "told", NOON + MINUTE)


async def test_what_is_held_back_comes_up_again_when_its_alarm_is_resolved(store: ResultStore) -> None:
    alarm_id = await raised(store)
    await store.acting.add([replace(DUE, alarm_id=alarm_id)])
    (due,) = await store.acting.open(NOON, NAMES)
    mine = await store.acting.take(due, until=NOON + MINUTE)
    assert mine is not None
    await store.acting.put(mine, state=ActionState.HELD, says="lane standard is paused", at=NOON)
    assert await store.acting.open(NOON + MINUTE, NAMES) == []
    await store.watching.resolve(alarm_id, Resolution.DISMISSED, now=NOON + MINUTE)
    (held,) = await store.acting.open(NOON + MINUTE, NAMES)
    assert (held.state, held.says, held.ended_at) == (ActionState.HELD, "lane standard is paused", NOON)


async def test_what_nobody_here_can_take_comes_up_when_it_is_stale_alone(store: ResultStore) -> None:
    await store.acting.add([DUE])
    assert await store.acting.open(NOON, ["pause_lane"], stale=NOON) == []
    assert await store.acting.open(NOON, ["pause_lane"], stale=NOON + MINUTE) == [DUE]
    assert await store.acting.open(NOON, []) == []


async def test_what_is_held_back_comes_up_for_everybody(store: ResultStore) -> None:
    alarm_id = await raised(store)
    await store.acting.add([replace(DUE, alarm_id=alarm_id, state=ActionState.HELD)])
    await store.watching.resolve(alarm_id, Resolution.DISMISSED, now=NOON)
    assert len(await store.acting.open(NOON, [])) == 1


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ({}, True),
        ({"model": KEY.model, "kind": KEY.kind, "lane": KEY.lane, "metric": "chars"}, True),
        ({"metric": "words"}, False),
        ({"lane": "overnight"}, False),
        ({"kind": ""}, False),
    ],
)
async def test_alarms_for_which_an_action_was_never_noted_are_found_by_its_condition(
    store: ResultStore, condition: dict[str, str], *, found: bool
) -> None:
    alarm_id = await raised(store)
    await store.acting.add([replace(DUE, alarm_id=alarm_id, action="pause_lane")])
    assert await store.acting.unnoted(DUE.action, condition, since=None) == ([alarm_id] if found else [])
    assert await store.acting.unnoted("pause_lane", condition, since=NOON - MINUTE) == []


async def test_alarms_that_are_resolved_are_found_for_a_time(store: ResultStore) -> None:
    alarm_id = await raised(store)
    await store.watching.resolve(alarm_id, Resolution.DISMISSED, now=NOON)
    at = alarm().raised_at
    assert await store.acting.unnoted(DUE.action, {}, since=at) == [alarm_id]
    assert await store.acting.unnoted(DUE.action, {}, since=at + timedelta(microseconds=1)) == []
    assert await store.acting.unnoted(DUE.action, {}, since=None) == []


async def test_who_leaves_lets_another_one_watch_at_once(store: ResultStore) -> None:
    await turn(store, "one")
    assert await store.watching.take_turn("two", now=NOON, until=NOON + MINUTE) is None
    await store.watching.leave_turn("two", now=NOON)
    assert await store.watching.take_turn("two", now=NOON, until=NOON + MINUTE) is None
    await store.watching.leave_turn("one", now=NOON)
    assert await store.watching.take_turn("two", now=NOON, until=NOON + MINUTE) is not None
