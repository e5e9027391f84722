"""Canaries among all other results."""

from __future__ import annotations

from datetime import timedelta

from promptmill.canaries.sets import CANARY_TAG, ROUND_TAG
from promptmill.results import Result, Status
from promptmill.store import ResultStore
from promptmill.store.canary_answers import CanaryAnswer
from tests.conformance.store.samples import NOON

MODEL = "claude-haiku-5-5"


def canary(job_id: str, followed: float | None, *, minutes: int = 0, **fields) -> Result:
    plain = {
        "asked_model": MODEL,
        "kind": "canary:1234abcd",
        "tags": {CANARY_TAG: "sum", ROUND_TAG: "20261122T120000Z"},
        "quality": {"instruction_following": followed},
        "finished_at": NOON + timedelta(minutes=minutes),
    }
    return Result(job_id, **{"status": Status.SUCCEEDED, **plain, **fields})


def told(job_id: str, passed: bool | None, *, minutes: int = 0, answered: bool = True) -> CanaryAnswer:  # noqa: FBT001
    at = NOON + timedelta(minutes=minutes)
    return CanaryAnswer(job_id, MODEL, "canary:1234abcd", "sum", "20261122T120000Z", at, passed, answered)


async def test_an_answer_passes_that_does_all_that_can_be_checked(store: ResultStore) -> None:
    await store.record(
        [
            canary("late", 1.0, minutes=2),
            canary("passed", 1.0),
            canary("failed", 2 / 3, minutes=1),
            canary("unknown", None, minutes=3),
            canary("expired", None, minutes=4, status=Status.EXPIRED, quality=None),
        ]
    )
    assert await store.canary_answers(since=NOON) == [
        told("passed", True),
        told("failed", False, minutes=1),
        told("late", True, minutes=2),
        told("unknown", None, minutes=3),
        told("expired", None, minutes=4, answered=False),
    ]


async def test_other_results_and_older_ones_are_left_out(store: ResultStore) -> None:
    await store.record(
        [
            canary("old", 1.0, minutes=-1),
            canary("theirs", 1.0, kind="canaries"),
            canary("plain", 1.0, kind=""),
            canary("without tags", 1.0, tags={}),
        ]
    )
    assert await store.canary_answers(since=NOON) == []


async def test_where_only_ones_own_answers_are_wanted_they_are_left_out(store: ResultStore) -> None:
    timed = {"model": MODEL, "latency": timedelta(seconds=1)}
    kinds = {"canary": "canary:1234abcd", "theirs": "canaries", "unnamed": ""}
    await store.record([canary(job_id, 1.0, kind=kind, **timed) for job_id, kind in kinds.items()])
    assert [result.job_id async for result in store.results(canaries=False)] == ["theirs", "unnamed"]
    assert [result.job_id async for result in store.results()] == ["canary", "theirs", "unnamed"]
    [latency] = await store.latency(since=NOON)
    assert latency.whole is not None
    assert latency.whole.count == 2
