"""The watcher on a real result store in a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from promptmill.alarms import AlarmState, Resolution, SeriesKey
from promptmill.errors import StoreUnavailable
from promptmill.results import Attempt, Result, Status
from promptmill.store import ResultStore
from worker import events
from worker.monitoring.watcher import INTERVAL, Watcher
from worker.quality.metric import Metric

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MODEL = "claude-haiku-5-5"
METRICS = (
    Metric("code_block", "flag", "lower", lambda _: None),
    Metric("chars", "amount", "either", lambda _: None),
)
EVERY = 100_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ResultStore]:
    async with await ResultStore.open(f"sqlite:///{tmp_path / 'results.sqlite'}") as opened:
        yield opened


def answers(seed: int, count: int, *, code: float, start: int = 0, model: str = MODEL, **fields) -> Iterable[Result]:
    """Answers, one a second, of which the share `code` has a code block."""
    rng = Random(seed)
    for number in range(start, start + count):
        at = NOON + timedelta(seconds=number)
        yield Result(
            job_id=f"{fields.get('kind', 'summaries')}-{model}-{number:06}",
            status=Status.SUCCEEDED,
            model=f"{model}-20261015",
            asked_model=MODEL,
            kind=fields.get("kind", "summaries"),
            attempts=(Attempt(1, model, at, at, "succeeded"),),
            quality={"code_block": rng.random() < code, "chars": round(rng.lognormvariate(6, 0.4))},
            finished_at=at,
        )


def watcher(store: ResultStore, name: str = "one", now=lambda: NOON) -> Watcher:
    return Watcher(store, METRICS, name=name, false_alarm_every=EVERY, now=now)


async def watch(*watchers: Watcher) -> None:
    """Let each have its turn until there is nothing left."""
    for one in watchers:
        while await one.step():
            pass


async def test_a_change_in_the_answers_becomes_an_alarm_with_evidence(store: ResultStore) -> None:
    await store.record([*answers(31, 2_000, code=0.9), *answers(32, 300, code=0.6, start=2_000)])
    with capture_logs() as logs:
        await watch(watcher(store))
    [alarm] = await store.watching.alarms()
    assert alarm.series == SeriesKey(MODEL, MODEL, "summaries", "standard")
    assert (alarm.metric, alarm.direction, alarm.state) == ("code_block", "lower", AlarmState.OPEN)
    assert abs(alarm.since - (NOON + timedelta(seconds=2_000))) < timedelta(seconds=40)
    shown = alarm.evidence["metric"]
    assert shown["before"]["mean"] == pytest.approx(0.9, abs=0.05)
    assert shown["after"]["mean"] == pytest.approx(0.6, abs=0.15)
    assert shown["after"]["answers"] == alarm.answers
    assert shown["sigma"] > 3
    worst = [await store.result(job_id) for job_id in alarm.evidence["examples"]["after"]]
    assert [result.quality["code_block"] for result in worst] == [False] * 3
    [entry] = [entry for entry in logs if entry["event"] == events.ANSWERS_WORSE]
    assert entry == {
        "event": events.ANSWERS_WORSE,
        "log_level": "warning",
        "asked_model": MODEL,
        "model": MODEL,
        "kind": "summaries",
        "lane": "standard",
        "metric": "code_block",
        "direction": "lower",
        "way": alarm.way,
        "since": alarm.since.isoformat(),
        "answers": alarm.answers,
        "once_in": alarm.once_in,
    }


async def test_bad_answers_of_a_fallback_do_not_blur_the_series_of_the_model_that_was_asked(store: ResultStore) -> None:
    await store.record([*answers(3, 2_000, code=0.9), *answers(4, 600, code=0.1, model="claude-sonnet-5-5")])
    await watch(watcher(store))
    assert await store.watching.alarms() == []


async def test_a_new_prompt_is_a_new_series(store: ResultStore) -> None:
    await store.record([*answers(5, 2_000, code=0.9), *answers(6, 600, code=0.1, kind="other")])
    await watch(watcher(store))
    assert await store.watching.alarms() == []


async def test_answers_count_once_whoever_watches_and_however_often(store: ResultStore) -> None:
    given = [*answers(7, 2_000, code=0.9), *answers(8, 400, code=0.7, start=2_000)]
    clock = [NOON]
    one, two = (watcher(store, name, now=lambda: clock[0]) for name in ("one", "two"))
    for page in range(0, len(given), 300):
        await store.record(given[page : page + 300])
        await watch(one, two)
        clock[0] += timedelta(minutes=2)
        one, two = two, one
    taken_over = await store.watching.alarms()

    async with await ResultStore.open(store._database.where + "-alone") as alone:
        await alone.record(given)
        await watch(watcher(alone))
        assert await alone.watching.alarms() == taken_over
    assert len(taken_over) == 1


async def test_two_who_both_think_it_is_their_turn_raise_one_alarm(store: ResultStore) -> None:
    await store.record([*answers(9, 2_000, code=0.9), *answers(10, 400, code=0.6, start=2_000)])
    late = watcher(store, "late", now=lambda: NOON + timedelta(hours=1))
    await asyncio.gather(watch(watcher(store)), watch(late))
    assert len(await store.watching.alarms()) == 1


async def test_an_alarm_resolves_itself_when_answers_are_as_before(store: ResultStore) -> None:
    await store.record([*answers(11, 2_000, code=0.9), *answers(12, 300, code=0.6, start=2_000)])
    one = watcher(store)
    await watch(one)
    await store.record([*answers(13, 1_500, code=0.9, start=2_300)])
    with capture_logs() as logs:
        await watch(one)
    [alarm] = await store.watching.alarms(resolved=True)
    assert alarm.resolution is Resolution.RECOVERED
    assert [entry["event"] for entry in logs] == [events.ANSWERS_RECOVERED]


async def test_answers_that_their_owner_accepts_are_the_new_baseline(store: ResultStore) -> None:
    await store.record([*answers(14, 2_000, code=0.9), *answers(15, 300, code=0.6, start=2_000)])
    one = watcher(store)
    await watch(one)
    [alarm] = await store.watching.alarms()
    await store.watching.resolve(alarm.id, Resolution.ACCEPTED, now=NOON)
    await watch(one)
    await store.record([*answers(16, 2_000, code=0.6, start=2_300)])
    await watch(one)
    assert await store.watching.alarms() == []


async def test_an_alarm_that_was_dismissed_comes_again_if_answers_stay_worse(store: ResultStore) -> None:
    await store.record([*answers(17, 2_000, code=0.9), *answers(18, 300, code=0.6, start=2_000)])
    one = watcher(store)
    await watch(one)
    [alarm] = await store.watching.alarms()
    await store.watching.resolve(alarm.id, Resolution.DISMISSED, now=NOON)
    await store.record([*answers(19, 300, code=0.6, start=2_300)])
    await watch(one)
    [again] = await store.watching.alarms()
    assert again.id != alarm.id
    assert again.metric == "code_block"


async def test_a_series_that_its_owner_froze_learns_no_more(store: ResultStore) -> None:
    one = watcher(store)
    key = SeriesKey(MODEL, MODEL, "summaries", "standard")

    async def learned() -> int:
        states = await store.watching.states([key])
        return sum(states[key]["metrics"]["chars"]["baseline"]["counts"])

    await store.record([*answers(22, 1_000, code=0.9)])
    await watch(one)
    assert await store.watching.freeze(frozen=True, kind="summaries") == 1
    before = await learned()
    await store.record([*answers(23, 1_500, code=0.9, start=1_000)])
    await watch(one)
    assert await learned() == before
    assert await store.watching.freeze(frozen=False) == 1
    await store.record([*answers(24, 1_000, code=0.9, start=2_500)])
    await watch(one)
    assert await learned() > before


async def test_what_fails_is_tried_again_and_no_answer_is_lost_or_counted_twice(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.record([*answers(20, 2_000, code=0.9), *answers(21, 300, code=0.6, start=2_000)])
    record = store.watching.record
    failures = [StoreUnavailable("away"), RuntimeError("a fault")]
    pauses: list[float] = []
    done = asyncio.Event()

    async def fragile(findings):
        if failures:
            raise failures.pop(0)
        return await record(findings)

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            done.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(store.watching, "record", fragile)
    watching = Watcher(store, METRICS, name="one", false_alarm_every=EVERY, now=lambda: NOON, sleep=pause)
    with capture_logs() as logs:
        running = asyncio.create_task(watching.keep())
        await done.wait()
        running.cancel()
        await asyncio.wait({running})
    assert pauses == [INTERVAL.total_seconds()] * 3
    assert [entry["event"] for entry in logs] == [events.HELPER_CRASHED, events.ANSWERS_WORSE]
    assert len(await store.watching.alarms()) == 1


async def test_a_look_that_is_broken_off_for_the_last_one_counts_no_answer_twice(
    store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {}
    for name in ("undisturbed", "broken off"):
        async with await ResultStore.open(f"{store._database.where}-{name.replace(' ', '-')}") as own:
            one = watcher(own)
            await own.record([*answers(25, 400, code=0.9)])
            await watch(one)
            await own.record([*answers(26, 100, code=0.9, start=400)])
            if name == "broken off":
                monkeypatch.setattr(own.watching, "record", lambda _findings: asyncio.Event().wait())
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await one.step()
                monkeypatch.undo()
            await one.finish()
            states[name] = await own.watching.states([SeriesKey(MODEL, MODEL, "summaries", "standard")])
    assert states["broken off"] == states["undisturbed"]


async def test_what_was_watched_is_added_up_with_what_is_usual(store: ResultStore) -> None:
    given = list(answers(41, 500, code=0.9))
    await store.record(given)
    await watch(watcher(store))
    found = {one.metric: one for one in await store.quality(since=NOON)}
    code, chars = found["code_block"], found["chars"]
    assert (code.kind, code.worse, code.whole.answers) == ("flag", "lower", 500)
    assert code.baseline.answers == 400
    assert code.baseline.mean == sum(one.quality["code_block"] for one in given[:400]) / 400
    assert chars.whole.total == sum(one.quality["chars"] for one in given)
    assert chars.baseline.mean == pytest.approx(sum(one.quality["chars"] for one in given[:400]) / 400)


async def test_what_an_older_worker_watched_is_added_up_first(store: ResultStore) -> None:
    await store.record(list(answers(42, 5_000, code=0.9)))
    await watch(watcher(store))
    await store._database.write(lambda connection: connection.exec_driver_sql("UPDATE promptmill_watch SET added_up=0"))
    await store._database.write(lambda connection: connection.exec_driver_sql("DELETE FROM promptmill_quality_hours"))
    await store.record(list(answers(43, 1, code=0.9, start=5_000)))
    await watch(watcher(store, "two", now=lambda: NOON + timedelta(hours=1)))
    assert {one.whole.answers for one in await store.quality(since=NOON)} == {5_001}
    reached = await store._database.read(
        lambda connection: connection.exec_driver_sql("SELECT added_up, seq FROM promptmill_watch").one()
    )
    assert reached == (5_001, 5_001)
