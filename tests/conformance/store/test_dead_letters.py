"""Dead letters: open until their job is redriven, or succeeds."""

from __future__ import annotations

from datetime import timedelta

from promptmill.results import Status
from promptmill.store import ResultStore
from tests.conformance.store.samples import NOON, answer, dead_letter, failed

MINUTE = timedelta(minutes=1)


async def test_a_dead_letter_comes_back_as_it_was_recorded(store: ResultStore) -> None:
    foreign = dead_letter("job-2", payload=bytes(range(256)) * 1000, redrivable=False, reason="unreadable")
    await store.record([dead_letter("job-1"), foreign])

    assert await store.dead_letter("job-1") == dead_letter("job-1")
    assert await store.dead_letter("job-2") == foreign
    assert await store.dead_letter("job-3") is None


async def test_dead_letters_are_listed_page_by_page_the_oldest_first(store: ResultStore) -> None:
    letters = [dead_letter(f"job-{n:02}", died_at=NOON + MINUTE * (n // 3)) for n in range(10)]
    await store.record(letters[::-1])

    first = await store.dead_letters(limit=4)
    await store.mark_redriven([first[-1].job_id])
    second = await store.dead_letters(limit=4, after=first[-1])
    third = await store.dead_letters(limit=4, after=second[-1])

    assert [*first, *second, *third] == letters


async def test_dead_letters_can_be_chosen_by_reason(store: ResultStore) -> None:
    await store.record([dead_letter("job-1"), dead_letter("job-2", reason="unreadable")])

    assert await store.dead_letters(reason="unreadable") == [dead_letter("job-2", reason="unreadable")]


async def test_a_dead_letter_goes_away_when_its_job_succeeds(store: ResultStore) -> None:
    await store.record([failed("job-1"), dead_letter("job-1"), failed("job-2"), dead_letter("job-2")])

    await store.record([answer("job-1")])

    assert await store.dead_letter("job-1") is None
    assert await store.dead_letters() == [dead_letter("job-2")]


async def test_a_dead_letter_stays_when_its_job_ends_in_any_other_way(store: ResultStore) -> None:
    await store.record([failed("job-1"), dead_letter("job-1")])

    await store.record([failed("job-1", status=Status.EXPIRED)])

    assert await store.dead_letters() == [dead_letter("job-1")]


async def test_a_job_that_succeeded_does_not_die(store: ResultStore) -> None:
    await store.record([answer("job-1"), dead_letter("job-2"), answer("job-2")])

    await store.record([dead_letter("job-1"), dead_letter("job-2")])

    assert await store.dead_letters() == []


async def test_a_redriven_job_is_no_longer_listed(store: ResultStore) -> None:
    await store.record([dead_letter("job-1"), dead_letter("job-2")])

    assert await store.mark_redriven(["job-1", "job-1", "job-unknown"]) == 1
    assert await store.mark_redriven(["job-1"]) == 0

    assert await store.dead_letters() == [dead_letter("job-2")]
    assert await store.dead_letter("job-1") is None


async def test_the_same_death_recorded_late_does_not_open_a_redriven_letter_again(store: ResultStore) -> None:
    await store.record([dead_letter("job-1")])
    await store.mark_redriven(["job-1"])

    await store.record([dead_letter("job-1")])

    assert await store.dead_letters() == []


async def test_a_redriven_job_that_dies_again_is_listed_again(store: ResultStore) -> None:
    again = dead_letter("job-1", died_at=NOON + MINUTE, message="still too large", attempts=2)
    await store.record([dead_letter("job-1")])
    await store.mark_redriven(["job-1"])

    await store.record([again])

    assert await store.dead_letters() == [again]


async def test_purging_deletes_what_died_before_a_time_redriven_or_not(store: ResultStore) -> None:
    letters = [dead_letter(f"job-{n}", died_at=NOON + MINUTE * n) for n in range(4)]
    await store.record([*letters, failed("job-0")])
    await store.mark_redriven(["job-1"])

    assert await store.purge_dead(before=NOON + 2 * MINUTE) == 2

    assert await store.dead_letters() == letters[2:]
    assert await store.result("job-0") is not None


async def test_purging_can_be_limited_to_a_reason(store: ResultStore) -> None:
    await store.record([dead_letter("job-1"), dead_letter("job-2", reason="unreadable")])

    assert await store.purge_dead(before=NOON + MINUTE, reason="unreadable") == 1

    assert await store.dead_letters() == [dead_letter("job-1")]


async def test_open_letters_are_counted_and_closed_ones_are_not(store: ResultStore) -> None:
    await store.record([dead_letter("one"), dead_letter("two")])
    await store.mark_redriven(["one"])
    assert await store.count_dead_letters() == 1
