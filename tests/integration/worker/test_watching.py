"""A worker watches the answers of the whole fleet beside its jobs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random

from structlog.testing import capture_logs

from promptmill.alarms import SeriesKey
from promptmill.results import Attempt, Result, Status
from promptmill.store.watching import Findings, Watching
from tests.support.workers import REQUEST, make_job
from worker.monitoring.watcher import Watcher

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MODEL = REQUEST["model"]


def history(rng: Random, numbers: range, code: float) -> list[Result]:
    return [
        Result(
            f"before-{number:05}",
            Status.SUCCEEDED,
            asked_model=MODEL,
            kind="code",
            attempts=(Attempt(1, MODEL, NOON, NOON, "succeeded"),),
            quality={"code_block": rng.random() < code},
            finished_at=NOON + timedelta(seconds=number),
        )
        for number in numbers
    ]


async def test_answers_that_have_become_worse_raise_an_alarm_in_whichever_worker_runs(mill, monkeypatch):
    rng = Random(1)
    await mill.store.record([*history(rng, range(2_000), 0.95), *history(rng, range(2_000, 2_200), 0.5)])
    recorded: asyncio.Queue[Findings] = asyncio.Queue()
    record = Watching.record

    async def telling(self: Watching, findings: Findings) -> bool:
        done = await record(self, findings)
        recorded.put_nowait(findings)
        return done

    monkeypatch.setattr(Watching, "record", telling)
    async with mill.worker():
        await mill.submit(make_job())
        await mill.ends.of("job-1")
        while not (await recorded.get()).raised:
            pass
    [alarm] = await mill.store.watching.alarms()
    assert (alarm.series, alarm.metric) == (SeriesKey(MODEL, MODEL, "code", "standard"), "code_block")
    assert alarm.evidence["metric"]["before"]["mean"] > 0.9


async def test_a_fault_in_the_last_look_is_said_and_ends_the_worker_no_otherwise(mill, monkeypatch):
    """The supervisor starts whoever crashed again: a burst would never be over."""

    async def fault(*_args, **_how):
        raise ZeroDivisionError

    monkeypatch.setattr(Watcher, "finish", fault)
    with capture_logs() as logs:
        async with mill.worker(burst=True, idle=False) as worker:
            await worker.ended()
    last = [entry["event"] for entry in logs if entry["event"] in {"helper_crashed", "worker_stopped"}]
    assert last == ["helper_crashed", "worker_stopped"]
