"""What many results come to: money and tokens by the hour, percentiles of times."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from promptmill.results import Attempt, Result, Status, Usage
from promptmill.store import AttemptRecord, Latency, ResultStore, Spend, Times
from tests.conformance.store.samples import answer, attempt, overloaded

TEN = datetime(2026, 11, 22, 10, tzinfo=UTC)
LONG_AGO = TEN - timedelta(days=900)


def tried(
    minutes: float, cost: str | None, *, number: int = 1, model: str = "a", usage: Usage | None = None
) -> Attempt:
    """An attempt that was billed, so many minutes after ten."""
    at = TEN + timedelta(minutes=minutes)
    billed = usage or Usage(input_tokens=10, output_tokens=1)
    return attempt(
        number, model=model, started_at=at, ended_at=at, usage=billed, cost_usd=None if cost is None else Decimal(cost)
    )


def job(job_id: str, *attempts: Attempt, **fields: Any) -> Result:
    return answer(job_id, **{"attempts": attempts, "tags": {}, "lane": "standard", **fields})


def told(spent: list[Spend]) -> list[tuple[int, str | None, int, Decimal]]:
    """Minutes after ten, group, requests and cost."""
    return [(round((part.hour - TEN).total_seconds() / 60), part.group, part.requests, part.cost_usd) for part in spent]


async def test_an_hour_ends_where_the_next_begins(store: ResultStore) -> None:
    ends = {"early": -1e-7, "first": 0, "last": 60 - 1e-7, "next": 60}
    await store.record([job(name, tried(minutes, "1")) for name, minutes in ends.items()])

    assert told(await store.spend(since=LONG_AGO)) == [(-60, "a", 1, 1), (0, "a", 2, 2), (60, "a", 1, 1)]


async def test_every_kind_of_token_is_added_up_and_money_to_the_last_digit(store: ResultStore) -> None:
    odd = Decimal("0.000000000001")
    usage = Usage(1, 2, 3, 4, 5, 6, "batch")
    await store.record([job("x", tried(0, str(odd), usage=usage)), job("y", tried(1, "0.3", usage=usage))])

    assert await store.spend(since=LONG_AGO) == [
        Spend(
            hour=TEN,
            group="a",
            requests=2,
            input_tokens=2,
            cache_write_tokens=14,
            cache_read_tokens=10,
            output_tokens=4,
            cost_usd=Decimal("0.3") + odd,
            unpriced=0,
        )
    ]


async def test_each_model_pays_for_its_own_requests_whoever_answered_in_the_end(store: ResultStore) -> None:
    refused = tried(0, "0.5", number=1, model="first")
    answered = tried(1, "0.25", number=2, model="fallback")
    await store.record([job("x", refused, answered, model="fallback", cost_usd=Decimal("0.75"))])

    assert told(await store.spend(since=LONG_AGO)) == [
        (0, "fallback", 1, Decimal("0.25")),
        (0, "first", 1, Decimal("0.5")),
    ]


async def test_what_was_billed_for_a_job_that_is_still_tried_counts_too(store: ResultStore) -> None:
    await store.record([AttemptRecord("open", tried(0, "2")), job("done", tried(0, "1"), lane="overnight")])

    assert told(await store.spend(since=LONG_AGO)) == [(0, "a", 2, 3)]
    assert sorted(told(await store.spend(since=LONG_AGO, by="lane")), key=repr) == [
        (0, "overnight", 1, 1),
        (0, None, 1, 2),
    ]


async def test_failures_without_usage_are_no_requests_that_cost_and_unknown_prices_are_counted(
    store: ResultStore,
) -> None:
    await store.record([job("x", replace(overloaded(1), model="a"), tried(0, None, number=2)), job("y", tried(0, "1"))])

    (spent,) = await store.spend(since=TEN)
    assert (spent.requests, spent.unpriced, spent.cost_usd) == (2, 1, 1)


@pytest.mark.parametrize("name", ["team", 'it\'s "odd"; $.a', "ü \x00", "a.b", "0"])
async def test_a_tag_of_any_name_can_be_asked_for(store: ResultStore, name: str) -> None:
    values = {"w": {name: "red"}, "x": {name: "blue \x00"}, "y": {name: "red", "other": "red"}, "z": {}}
    await store.record([job(job_id, tried(0, "1"), tags=tags) for job_id, tags in values.items()])

    spent = await store.spend(since=LONG_AGO, by=("tag", name))
    assert {part.group: part.requests for part in spent} == {"red": 2, "blue \x00": 1, None: 1}


async def test_nothing_from_before_is_counted(store: ResultStore) -> None:
    await store.record([job("x", tried(0, "1")), job("y", tried(1, "1"))])

    assert told(await store.spend(since=TEN + timedelta(seconds=1))) == [(0, "a", 1, 1)]
    assert await store.spend(since=TEN + timedelta(hours=1)) == []


async def test_more_tokens_than_a_column_holds_are_no_reason_to_show_nothing(store: ResultStore) -> None:
    await store.record([job("x", tried(0, "1", usage=Usage(input_tokens=2**70)))])

    (spent,) = await store.spend(since=LONG_AGO)
    assert spent.input_tokens == pytest.approx(2**70)


# times ---------------------------------------------------------------------------------------------------------------


def timed(job_id: str, ms: int, **fields: Any) -> Result:
    """An answer that took so long in every stage: in the queue ten times, to its first byte a tenth."""
    span = timedelta(milliseconds=ms)
    streamed = attempt(1, model="a", first_byte=span / 10)
    return answer(
        job_id, **{"model": "a", "lane": "standard", "attempts": (streamed,), "queue_time": span * 10, "latency": span}
        | fields,
    )  # fmt: skip


def ms(*values: float) -> tuple[timedelta, ...]:
    return tuple(timedelta(milliseconds=value) for value in values)


async def test_percentiles_are_the_values_of_their_rank(store: ResultStore) -> None:
    await store.record([timed(f"job-{number}", number) for number in range(200, 0, -1)])

    assert await store.latency(since=LONG_AGO) == [
        Latency(
            model="a",
            lane="standard",
            queue=Times(200, *ms(1000, 1900, 1980)),
            first_byte=Times(200, *ms(10, 19, 19.8)),
            whole=Times(200, *ms(100, 190, 198)),
        )
    ]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, (1, 1, 1)), (2, (1, 2, 2)), (3, (2, 3, 3)), (100, (50, 95, 99)), (101, (51, 96, 100))]
)
async def test_few_values_have_percentiles_too(store: ResultStore, count: int, expected: tuple[int, ...]) -> None:
    await store.record([timed(f"job-{number}", number) for number in range(1, count + 1)])

    (latency,) = await store.latency(since=LONG_AGO)
    assert latency.whole == Times(count, *ms(*expected))


async def test_models_and_lanes_are_kept_apart_and_failures_left_out(store: ResultStore) -> None:
    await store.record(
        [
            timed("1", 1),
            timed("2", 2, lane="overnight"),
            timed("3", 3, model="b"),
            timed("4", 4, status=Status.FAILED),
            timed("5", 5, finished_at=LONG_AGO),
        ]
    )

    found = await store.latency(since=TEN)
    assert [(part.model, part.lane, part.whole) for part in found] == [
        ("a", "overnight", Times(1, *ms(2, 2, 2))),
        ("a", "standard", Times(1, *ms(1, 1, 1))),
        ("b", "standard", Times(1, *ms(3, 3, 3))),
    ]


async def test_answers_that_were_not_streamed_have_no_first_byte(store: ResultStore) -> None:
    await store.record([timed("1", 1, attempts=(attempt(1, model="a", first_byte=None),)), timed("2", 2, latency=None)])

    (found,) = await store.latency(since=LONG_AGO)
    assert (found.queue, found.first_byte, found.whole) == (
        Times(2, *ms(10, 20, 20)),
        Times(1, *ms(0.2, 0.2, 0.2)),
        Times(1, *ms(1, 1, 1)),
    )


async def test_an_empty_store_has_neither_spend_nor_latency(store: ResultStore) -> None:
    assert await store.spend(since=LONG_AGO) == []
    assert await store.latency(since=LONG_AGO) == []
