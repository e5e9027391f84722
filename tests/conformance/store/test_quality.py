"""Metrics of answers are added up by the hour as they are watched: each answer once, whoever watched it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from promptmill.alarms import SeriesKey
from promptmill.results import Result
from promptmill.store import Learned, ResultStore, SeriesMetric
from promptmill.store.schema import watch
from promptmill.store.sums import add_up
from promptmill.store.watching import Findings, Turn
from tests.conformance.store.samples import answer, failed

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
MODEL = "claude-haiku-5-5"
KEY = SeriesKey(MODEL, MODEL, "summaries", "standard")
Told = dict[str, list[tuple[int, int, float]]]


def measured(number: int, hours: float = 0, **fields) -> Result:
    """An answer of ten o'clock, or so many hours later."""
    plain = {"asked_model": KEY.asked, "kind": KEY.kind, "lane": KEY.lane, "finished_at": TEN + hours * HOUR}
    return answer(f"job-{number}", **{**plain, "quality": {"chars": number}, **fields})


def told(found: Iterable[SeriesMetric]) -> Told:
    """By metric: hours after ten, answers, and mean of each span."""
    return {
        one.metric: [((begins - TEN) // HOUR, sums.answers, sums.mean) for begins, sums in one.spans.items()]
        for one in found
    }


async def turn(store: ResultStore) -> Turn:
    taken = await store.watching.take_turn("one", now=TEN, until=TEN + HOUR)
    assert taken is not None
    return taken


async def watched(store: ResultStore, **findings) -> None:
    """Watch all there is, as a worker does."""
    begun = await turn(store)
    page = await store.watching.page(begun, limit=10_000)
    what = Findings(before=begun.seq, seq=begun.newest, hours=add_up(page), **{"states": {}, **findings})
    assert await store.watching.record(what)


@pytest.mark.parametrize("when", ["watched", "unwatched", "half and half"])
async def test_means_are_told_by_the_hour_whether_or_not_somebody_watched(store: ResultStore, when: str) -> None:
    await store.record([measured(1), measured(4, 59 / 60)])
    if when != "unwatched":
        await watched(store)
    await store.record([measured(7, 59 / 60), measured(10, 1)])
    if when == "watched":
        await watched(store)

    assert told(await store.quality(since=TEN)) == {"chars": [(0, 3, 4.0), (1, 1, 10.0)]}


async def test_spans_may_be_longer_and_begin_where_days_do(store: ResultStore) -> None:
    await store.record([measured(1), measured(3, 13.99), measured(5, 14)])
    await watched(store)

    (one,) = await store.quality(since=TEN, every=24 * HOUR)
    assert [(begins.isoformat(), sums.answers) for begins, sums in one.spans.items()] == [
        ("2026-11-22T00:00:00+00:00", 2),
        ("2026-11-23T00:00:00+00:00", 1),
    ]
    assert (one.whole.answers, one.whole.mean, one.whole.variance) == (3, 3.0, 4.0)


async def test_the_hour_in_which_the_time_begins_counts_as_a_whole_and_nothing_before_it(store: ResultStore) -> None:
    await store.record([measured(1, -0.01), measured(2, 0.1), measured(3, 0.9)])
    assert told(await store.quality(since=TEN + HOUR / 2)) == {"chars": [(0, 2, 2.5)]}
    await watched(store)
    assert told(await store.quality(since=TEN + HOUR / 2)) == {"chars": [(0, 2, 2.5)]}


async def test_what_has_no_number_is_left_out_of_its_metric_alone(store: ResultStore) -> None:
    qualities = [
        {"flag": True, "score": 0.5, "instructions": [1], "odd": "x"},
        {"flag": False, "score": None, "odd": 1e300},
    ]
    await store.record([measured(number, quality=quality) for number, quality in enumerate(qualities)])
    expected = {"flag": [(0, 2, 0.5)], "score": [(0, 1, 0.5)]}
    assert told(await store.quality(since=TEN)) == expected
    await watched(store)
    assert told(await store.quality(since=TEN)) == expected


async def test_failures_and_answers_that_were_not_measured_are_none(store: ResultStore) -> None:
    await store.record([failed("job-0"), measured(1, quality=None), measured(2, asked_model=None)])
    assert await store.quality(since=TEN - 1_000 * HOUR) == []
    await watched(store)
    assert await store.quality(since=TEN - 1_000 * HOUR) == []


async def test_series_are_chosen_by_the_model_that_answered_by_kind_and_by_lane(store: ResultStore) -> None:
    await store.record([measured(1), measured(2, kind="code"), measured(3, lane="overnight")])
    for _ in range(2):
        for chosen, expected in (({}, 3), ({"kind": "code"}, 1), ({"lane": "standard"}, 2), ({"model": "no"}, 0)):
            assert len(await store.quality(since=TEN, **chosen)) == expected
        assert len(await store.quality(since=TEN, model=MODEL, kind="code", lane="standard")) == 1
        await watched(store)


async def test_of_two_who_watched_the_same_answers_only_one_adds_them_up(store: ResultStore) -> None:
    await store.record([measured(1)])
    begun = await turn(store)
    findings = Findings(before=0, seq=begun.newest, states={}, hours=add_up(await store.watching.page(begun, limit=9)))
    assert [await store.watching.record(findings), await store.watching.record(findings)] == [True, False]
    assert told(await store.quality(since=TEN)) == {"chars": [(0, 1, 1.0)]}


async def test_what_a_worker_of_0_1_0_watched_is_added_up_afterwards_in_pages(store: ResultStore) -> None:
    """It moves the one number and does not know of the other."""
    await store.record([measured(number) for number in range(1, 6)])
    await turn(store)
    old = sa.update(watch).where(watch.c.seq == 0).values(seq=4)
    await store._database.write(lambda connection: connection.execute(old))

    assert told(await store.quality(since=TEN)) == {"chars": [(0, 5, 3.0)]}, "as if nobody had watched"
    behind = await turn(store)
    assert (behind.seq, behind.added_up) == (4, 0)
    assert not await store.watching.record(Findings(before=4, seq=5, states={})), "not before those are added up"
    for reached in (2, 4, 4):
        now = await turn(store)
        passed = await store.watching.page(now._replace(seq=now.added_up, newest=now.seq), limit=2)
        await store.watching.catch_up(now, passed, limit=2)
        await store.watching.catch_up(now, passed, limit=2)  # somebody else, at the same time
        assert (await turn(store)).added_up == reached
    assert told(await store.quality(since=TEN)) == {"chars": [(0, 5, 3.0)]}
    await watched(store)
    assert told(await store.quality(since=TEN)) == {"chars": [(0, 5, 3.0)]}


async def test_what_is_known_of_a_metric_comes_with_it(store: ResultStore) -> None:
    learned = {"mean": 5.0, "spread": 1.5, "answers": 400}
    known = {
        "own": {"kind": "score", "worse": "higher", "baseline": learned},
        "code_block": {"kind": "flag", "worse": "lower", "baseline": None},
    }
    await store.record([measured(1, quality={"own": 0.5, "code_block": True, "chars": 3, "unknown": 1})])
    await watched(store, states={KEY: {}}, summaries={KEY: known})

    found = {one.metric: (one.kind, one.worse, one.baseline) for one in await store.quality(since=TEN)}
    assert found == {
        "own": ("score", "higher", Learned(5.0, 1.5, 400)),
        "code_block": ("flag", "lower", None),
        "chars": ("amount", "either", None),
        "unknown": ("amount", "either", None),
    }


async def test_an_empty_store_has_no_quality(store: ResultStore) -> None:
    assert await store.quality(since=TEN) == []
