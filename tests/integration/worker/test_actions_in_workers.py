"""Whole workers that tell their owner what is news, and that look at the last answers before they leave."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from promptmill.actions import ActionState, Notify, PauseLane, SendCanaries
from promptmill.alarms import Resolution
from promptmill.caps import SpendCap
from promptmill.queue import keys
from tests.integration.worker.test_watching import history
from tests.support.canaries import MODEL, starter
from tests.support.providers import Held, failing
from tests.support.webhooks import webhook
from tests.support.workers import make_job
from worker import events, main
from worker.monitoring import acting, watcher


@pytest.fixture
def often(monkeypatch):
    """Answers and actions are looked for so often that nobody waits for it."""
    for module in (watcher, acting):
        monkeypatch.setattr(module, "INTERVAL", timedelta(milliseconds=100))


async def degrade(mill, *, answers: int = 200) -> None:
    """Record 2,000 good answers and some that are worse, of which nobody knows yet."""
    rng = Random(1)
    await mill.store.record([*history(rng, range(2_000), 0.95), *history(rng, range(2_000, 2_000 + answers), 0.5)])


def notify(hook, **fields) -> Notify:
    return Notify(do="notify", url=SecretStr(hook.url), **fields)


@pytest.mark.usefixtures("often")
async def test_an_alarm_pauses_the_lane_and_tells_its_owner_and_resolved_the_jobs_go_on(mill):
    async with webhook() as hook, mill.worker(alarm_actions=(notify(hook), PauseLane(do="pause_lane"))) as worker:
        await mill.submit(make_job("before"))
        await degrade(mill)
        await worker.says(events.LANES_PAUSED)
        [body] = await hook.received(1)
        assert body["promptmill"]["alarms"][0]["metric"] == "code_block"
        await mill.submit(make_job("waits"))
        await worker.idle()
        assert await mill.redis.zscore(keys.QUEUE, "waits") == 1
        await mill.store.watching.resolve(
            body["promptmill"]["alarms"][0]["id"], Resolution.DISMISSED, now=datetime.now(UTC)
        )
        await mill.ends.of("before", "waits")
    [alarm] = await mill.store.watching.alarms(resolved=True)
    states = [record.state for record in await mill.store.acting.of_alarms([alarm.id])]
    assert sorted(states) == [ActionState.DONE, ActionState.LIFTED]


async def test_a_reached_cap_is_told_once_by_the_whole_fleet(mill):
    cap = SpendCap(usd=Decimal("0.000001"), per="day", action="warn")
    async with webhook() as hook:
        how = {"caps": (cap,), "alarm_actions": (notify(hook),)}
        async with mill.worker(**how), mill.worker(**how) as other:
            await mill.submit(*(make_job(f"job-{number}") for number in range(4)))
            await mill.ends.of(*(f"job-{number}" for number in range(4)))
            [body] = await hook.received(1)
            await mill.submit(make_job("more"))
            await mill.ends.of("more")
            await other.idle()
        assert len(hook.bodies) == 1
    assert body["promptmill"]["spend_cap"]["cap"] == "0.000001 USD a day"


async def test_a_refused_key_is_told_once(mill):
    mill.api.script = [failing(401, "authentication_error", "invalid bearer token")]
    async with webhook() as hook, mill.worker(alarm_actions=(notify(hook),)):
        await mill.submit(*(make_job(f"job-{number}") for number in range(5)))
        [body] = await hook.received(1)
    assert len(hook.bodies) == 1
    assert body["promptmill"]["parked"]["outcome"] == "bad_key"
    assert body["text"].startswith("promptmill: haiku-5-5 rests: the API key was refused")


@pytest.mark.parametrize("how", ["burst", "stopped"])
async def test_the_last_answers_are_watched_and_acted_on_before_the_worker_leaves(mill, how):
    answer = Held()
    mill.api.script = [answer]
    await mill.submit(make_job())
    async with (
        webhook() as hook,
        mill.worker(burst=how == "burst", alarm_actions=(notify(hook),), idle=False) as worker,
    ):
        await mill.api.arrival()
        await degrade(mill)
        answer.release()
        if how == "stopped":
            worker.engine.handle_sig(15)
        await worker.ended()
        assert [body["promptmill"]["event"] for body in hook.bodies] == ["alarm"]
    now = datetime.now(UTC)
    assert await mill.store.watching.take_turn("next", now=now, until=now) is not None


async def test_whoever_is_told_to_stop_at_once_does(mill):
    async with mill.worker() as worker:
        await degrade(mill)
        for _ in range(2):
            worker.engine.handle_sig(15)
        await worker.ended()
    assert await mill.store.watching.alarms() == []


async def test_a_store_that_hangs_holds_nobody_up_for_long(mill, monkeypatch):
    async def hangs(*_, **__):
        await asyncio.Event().wait()

    monkeypatch.setattr(main, "LAST_LOOK", main.LAST_LOOK / 50)
    async with mill.worker() as worker:
        monkeypatch.setattr(main.Watcher, "finish", hangs)
        worker.engine.handle_sig(15)
        async with asyncio.timeout(30):
            await worker.ended()


async def test_a_burst_says_which_lane_it_waits_for(mill):
    await mill.queue.halt("lane", "standard", by="owner", why="somebody@host (new prompt)")
    await mill.submit(make_job())
    with capture_logs() as logs:
        async with mill.worker(burst=True, idle=False) as worker:
            await worker.says(events.LANES_PAUSED)
            assert mill.api.requests == []
            await mill.queue.lift("lane", "standard", by="owner")
            await worker.ended()
    said = [entry for entry in logs if entry["event"] in {events.LANES_PAUSED, events.LANES_RESUMED}]
    assert said == [
        {
            "event": "lanes_paused",
            "log_level": "warning",
            "lanes": ["standard"],
            "why": ["owner: somebody@host (new prompt)"],
        },
        {"event": "lanes_resumed", "log_level": "info", "lanes": ["standard"]},
    ]
    assert len(mill.api.requests) == 1


@pytest.mark.usefixtures("often")
async def test_an_alarm_has_more_canaries_answered_by_the_model_that_it_is_about(mill):
    async with mill.worker(alarm_actions=(SendCanaries(do="send_canaries", rounds=2),)):
        await degrade(mill)
        rounds = [f"canary/alarm-20261122T120000Z.{number}/{MODEL}" for number in (1, 2)]
        await mill.ends.of(*(f"{name}/{canary.id}" for name in rounds for canary in starter().canaries))
    answers = await mill.store.canary_answers(since=datetime.now(UTC) - timedelta(hours=1))
    assert len(answers) == 2 * len(starter().canaries)
    assert {answer.model for answer in answers} == {MODEL}
