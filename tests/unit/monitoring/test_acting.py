"""What is done about alarms and other news: on a result store in a file, a fake Redis and a webhook on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from fakeredis import FakeServer
from fakeredis.aioredis import FakeRedis
from pydantic import SecretStr
from structlog.testing import capture_logs

from promptmill.actions import ActionState, Notify, PauseLane, SendCanaries, StopFallback
from promptmill.alarms import Alarm, Resolution, SeriesKey
from promptmill.errors import BadJob, QueueUnavailable, StoreUnavailable
from promptmill.jobs import Lane
from promptmill.queue import Queue
from promptmill.store import ResultStore
from promptmill.store.acting import MOST
from promptmill.store.watching import Findings
from tests.support.webhooks import SECRET, Webhook, webhook
from worker import events
from worker.monitoring import acts
from worker.monitoring.acting import Acting

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MODEL, OTHER = "claude-haiku-5-5", "claude-sonnet-5-5"
CAP = {"cap": "50 USD a day", "action": "park", "spent_usd": "50.01", "lane": None, "model_class": None}
ALARM = Alarm(
    series=SeriesKey(MODEL, MODEL, "summaries", "standard"),
    metric="code_block",
    direction="lower",
    way="all clearly",
    since=NOON - timedelta(minutes=5),
    raised_at=NOON,
    answers=217,
    once_in=2_000_000,
    evidence={
        "metric": {"metric": "code_block", "before": {"mean": 0.93}, "after": {"mean": 0.61}},
        "examples": {"before": ["job-1"], "after": ["job-9"]},
    },
)


class Scene:
    """A store, a queue and a clock; as many workers as a test wants."""

    def __init__(self, store: ResultStore, queue: Queue) -> None:
        self.store = store
        self.queue = queue
        self.now = NOON
        self.canaries = AsyncMock()

    def worker(self, *actions: Any) -> Acting:
        return Acting(self.store, self.queue, actions, more_canaries=self.canaries, now=lambda: self.now)

    async def raise_alarm(self, **fields: Any) -> int:
        """Commit an alarm, as a watcher does; its id."""
        taken = await self.store.watching.take_turn("watcher", now=NOON, until=NOON)
        assert taken is not None
        found = Findings(before=taken.seq, seq=taken.seq + 1, states={}, raised=[replace(ALARM, **fields)])
        assert await self.store.watching.record(found)
        (newest, *_) = await self.store.watching.alarms()
        assert newest.id is not None
        return newest.id

    async def resolve(self, alarm_id: int) -> None:
        await self.store.watching.resolve(alarm_id, Resolution.DISMISSED, now=self.now)

    async def records(self, alarm_id: int = 1) -> dict[str, ActionState]:
        return {record.action.split(" ")[0]: record.state for record in await self.store.acting.of_alarms([alarm_id])}

    async def held_back(self) -> set[tuple[str, str, str]]:
        halts = await self.queue.halts(self.now.timestamp() * 1000)
        return {(halt.what, halt.name, halt.by) for halt in halts.all}


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with (
        await ResultStore.open(f"sqlite:///{tmp_path / 'results.sqlite'}") as store,
        FakeRedis(server=FakeServer()) as redis,
    ):
        yield Scene(store, Queue(redis))


def notify(hook: Webhook, **fields: Any) -> Notify:
    return Notify(do="notify", url=SecretStr(hook.url), **fields)


async def test_a_webhook_is_told_of_an_alarm_once_in_words_and_as_data(scene: Scene) -> None:
    async with webhook() as hook:
        alarm_id = await scene.raise_alarm()
        one = scene.worker(notify(hook))
        with capture_logs() as logs:
            for _ in range(3):
                await one.step()
                scene.now += timedelta(hours=1)
    [body] = hook.bodies
    assert body["text"] == (
        f"promptmill: answers of {MODEL} to prompts of the kind summaries in lane standard have become worse since "
        "2026-11-22 11:55 UTC: code_block from 0.93 to 0.61, 217 answers; by chance once in 2,000,000. "
        f"`promptmill alarms show {alarm_id}`"
    )
    data = body["promptmill"]
    assert (data["event"], data["occasions"], data["at"]) == ("alarm", ["alarm 1"], NOON.isoformat())
    [told] = data["alarms"]
    assert told["series"] == {"asked": MODEL, "model": MODEL, "kind": "summaries", "lane": "standard"}
    assert told["evidence"]["examples"]["after"] == ["job-9"]
    [record] = await scene.store.acting.of_alarms([alarm_id])
    assert (record.state, record.says, record.ended_at) == (ActionState.DONE, "told, status 200", NOON)
    assert logs == [
        {
            "event": events.ACTION_TAKEN,
            "log_level": "info",
            "action": notify(hook).name,
            "occasions": ["alarm 1"],
            "state": "done",
            "says": "told, status 200",
        }
    ]


async def test_a_model_that_gets_worse_everywhere_is_one_message(scene: Scene) -> None:
    async with webhook(503) as hook:
        for number in range(12):
            await scene.raise_alarm(metric=f"metric-{number}")
        one = scene.worker(notify(hook), PauseLane(do="pause_lane"))
        await one.step()
        await scene.raise_alarm(metric="later")
        scene.now += timedelta(seconds=10)
        await one.step()
    down, told = hook.bodies
    assert len(down["promptmill"]["alarms"]) == 12
    assert [alarm["metric"] for alarm in told["promptmill"]["alarms"]][-1] == "later"
    lines = told["text"].splitlines()
    assert len(lines) == 11
    assert lines[-1] == "promptmill: 3 alarms more: `promptmill alarms`"
    assert len(await scene.held_back()) == 13


async def test_however_many_alarms_there_are_each_has_its_actions(scene: Scene) -> None:
    many = 2 * MOST + 7
    taken = await scene.store.watching.take_turn("watcher", now=NOON, until=NOON)
    assert taken is not None
    raised = [replace(ALARM, metric=f"m{number}") for number in range(many)]
    await scene.store.watching.record(Findings(before=taken.seq, seq=1, states={}, raised=raised))
    async with webhook() as hook:
        await scene.worker(notify(hook)).step()
    assert sum(len(body["promptmill"]["alarms"]) for body in hook.bodies) == many


async def test_actions_that_differ_in_their_conditions_alone_are_one_where_both_apply(scene: Scene) -> None:
    await scene.raise_alarm()
    await scene.raise_alarm(metric="chars")
    await scene.raise_alarm(metric="words")
    one = scene.worker(
        PauseLane(do="pause_lane", metric="code_block"),
        PauseLane(do="pause_lane", metric="chars"),
        PauseLane(do="pause_lane", lane=Lane.STANDARD, metric="chars"),
    )
    await one.step()
    assert await scene.held_back() == {("lane", "standard", "alarm 1"), ("lane", "standard", "alarm 2")}


async def test_workers_of_one_fleet_tell_it_once(scene: Scene) -> None:
    async with webhook() as hook:
        await scene.raise_alarm()
        await asyncio.gather(*(scene.worker(notify(hook)).step() for _ in range(5)))
    assert len(hook.bodies) == 1


async def test_who_dies_with_an_action_leaves_it_to_another_a_minute_later(scene: Scene, monkeypatch) -> None:
    async with webhook() as hook:
        await scene.raise_alarm()
        with monkeypatch.context() as dying:
            dying.setattr(scene.store.acting, "put", _die)
            with pytest.raises(StoreUnavailable):
                await scene.worker(notify(hook)).step()
        other = scene.worker(notify(hook))
        await other.step()
        assert len(hook.bodies) == 1
        scene.now += timedelta(minutes=1)
        await other.step()
    assert len(hook.bodies) == 2, "told at least once: nobody knows whether the first one came through"
    assert await scene.records() == {"notify": ActionState.DONE}


async def _die(*_: Any, **__: Any) -> None:
    raise StoreUnavailable("away")


async def test_a_webhook_that_is_down_is_tried_again_ever_more_rarely_and_said_once(scene: Scene) -> None:
    async with webhook(503, 429, 500) as hook:
        await scene.raise_alarm()
        one = scene.worker(notify(hook))
        with capture_logs() as logs:
            for wait in (0, 9, 1, 19, 1, 39, 1):
                scene.now += timedelta(seconds=wait)
                await one.step()
    assert len(hook.bodies) == 4
    assert [entry["event"] for entry in logs] == [events.ACTION_FAILED, events.ACTION_TAKEN]
    assert logs[0]["says"] == "not accepted, status 503"


@pytest.mark.parametrize("status", [400, 403, 404, 410, 302])
async def test_a_webhook_that_refuses_is_said_once_and_not_tried_again(scene: Scene, status: int) -> None:
    async with webhook(status) as hook:
        await scene.raise_alarm()
        one = scene.worker(notify(hook))
        with capture_logs() as logs:
            for _ in range(3):
                await one.step()
                scene.now += timedelta(hours=1)
    assert len(hook.bodies) == 1
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [(events.ACTION_GIVEN_UP, "error")]
    assert await scene.records() == {"notify": ActionState.GIVEN_UP}


async def test_a_webhook_that_hangs_or_is_not_there_holds_up_no_other(scene: Scene, monkeypatch) -> None:
    monkeypatch.setattr(acts, "TIMEOUT", timedelta(milliseconds=100))
    async with webhook(0) as hangs, webhook() as gone:
        pass
    async with webhook(0) as hangs, webhook() as well:
        await scene.raise_alarm()
        await scene.worker(notify(hangs), notify(gone), notify(well)).step()
        assert len(well.bodies) == 1
    says = sorted(record.says for record in await scene.store.acting.of_alarms([1]))
    assert says == ["no answer: ClientConnectorError", "no answer: TimeoutError", "told, status 200"]


async def test_what_could_not_be_done_for_a_day_is_given_up(scene: Scene) -> None:
    async with webhook(*[500] * 9) as hook:
        await scene.raise_alarm()
        one = scene.worker(notify(hook))
        await one.step()
        scene.now += timedelta(days=1, seconds=1)
        await one.step()
        scene.now += timedelta(days=1)
        await one.step()
    assert len(hook.bodies) == 2
    assert await scene.records() == {"notify": ActionState.GIVEN_UP}


async def test_no_log_and_no_record_holds_the_address(scene: Scene) -> None:
    async with webhook(500, 200) as hook, webhook() as gone:
        pass
    odd = Notify.model_construct(do="notify", url=SecretStr(f"http://127.0.0.1:99999/{SECRET}"))  # settings refuse it
    async with webhook(500, 200, 404) as hook:
        actions = (notify(hook), notify(gone), odd)
        with capture_logs() as logs:
            await scene.raise_alarm()
            one = scene.worker(*actions)
            for _ in range(3):
                await one.step()
                scene.now += timedelta(minutes=20)
        told = [*logs, *await scene.store.acting.of_alarms([1]), *actions]
    assert len(logs) >= 4
    assert "SECRET" not in repr(told) + str(told)


@pytest.mark.parametrize(
    ("condition", "acts_on_it"),
    [
        ({}, True),
        ({"model": MODEL, "kind": "summaries", "lane": "standard", "metric": "code_block"}, True),
        ({"model": OTHER}, False),
        ({"kind": ""}, False),
        ({"lane": "overnight"}, False),
        ({"metric": "overall"}, False),
        ({"on": ["spend_cap"]}, False),
    ],
)
async def test_an_action_is_for_the_alarms_that_its_conditions_name(
    scene: Scene,
    condition: dict[str, Any],
    acts_on_it: bool,  # noqa: FBT001 - a case's
) -> None:
    async with webhook() as hook:
        await scene.raise_alarm()
        await scene.worker(notify(hook, **condition)).step()
    assert bool(hook.bodies) is acts_on_it


async def test_an_alarm_stops_the_fallback_and_pauses_the_lane_until_it_is_resolved(scene: Scene) -> None:
    alarm_id = await scene.raise_alarm(series=SeriesKey(MODEL, OTHER, "summaries", "standard"))
    one = scene.worker(
        StopFallback(do="stop_fallback"),
        PauseLane(do="pause_lane"),
        PauseLane(do="pause_lane", pause=Lane.OVERNIGHT),
    )
    await one.step()
    await one.step()
    by = f"alarm {alarm_id}"
    assert await scene.held_back() == {
        ("fallback", OTHER, by),
        ("lane", "standard", by),
        ("lane", "overnight", by),
    }
    await scene.queue.halt("lane", "overnight", by="owner")
    await scene.resolve(alarm_id)
    await scene.worker().step()  # whatever its settings are
    assert await scene.held_back() == {("lane", "overnight", "owner")}
    told = {record.action: (record.state, record.says) for record in await scene.store.acting.of_alarms([alarm_id])}
    assert told == {
        "stop_fallback": (ActionState.LIFTED, f"{OTHER} is not used as a fallback, until the alarm was resolved"),
        "pause_lane": (ActionState.LIFTED, "lane standard is paused, until the alarm was resolved"),
        "pause_lane overnight": (ActionState.LIFTED, "lane overnight is paused, until the alarm was resolved"),
    }


async def test_a_lane_that_its_owner_resumed_is_not_paused_again_by_the_same_alarm(scene: Scene) -> None:
    alarm_id = await scene.raise_alarm()
    one = scene.worker(PauseLane(do="pause_lane"))
    await one.step()
    await scene.queue.lift("lane", "standard", by=f"alarm {alarm_id}")
    scene.now += timedelta(hours=1)
    await one.step()
    assert await scene.held_back() == set()


async def test_nothing_is_held_back_for_an_alarm_that_is_over_but_somebody_is_told(scene: Scene) -> None:
    async with webhook() as hook:
        await scene.resolve(await scene.raise_alarm())
        await scene.worker(notify(hook), PauseLane(do="pause_lane")).step()
    assert "It is resolved: dismissed." in hook.bodies[0]["text"]
    assert await scene.held_back() == set()


async def test_what_a_dead_worker_held_back_without_noting_it_goes_on_when_the_alarm_is_over(
    scene: Scene, monkeypatch
) -> None:
    alarm_id = await scene.raise_alarm()
    one = scene.worker(PauseLane(do="pause_lane"))
    with monkeypatch.context() as dying:
        dying.setattr(scene.store.acting, "put", _die)
        with pytest.raises(StoreUnavailable):
            await one.step()
    assert len(await scene.held_back()) == 1
    await scene.resolve(alarm_id)
    scene.now += timedelta(minutes=1)
    await one.step()
    assert await scene.held_back() == set()
    assert await scene.records() == {"pause_lane": ActionState.LIFTED}


async def test_while_redis_is_away_it_stays_due_and_held_back(scene: Scene, monkeypatch) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise QueueUnavailable("Redis does not answer")

    alarm_id = await scene.raise_alarm()
    one = scene.worker(PauseLane(do="pause_lane"))
    with monkeypatch.context() as gone:
        gone.setattr(scene.queue, "halt", away)
        await one.step()
    assert await scene.records() == {"pause_lane": ActionState.DUE}
    scene.now += timedelta(seconds=10)
    await one.step()
    await scene.resolve(alarm_id)
    with monkeypatch.context() as gone:
        gone.setattr(scene.queue, "halts", away)
        await one.step()
    [record] = await scene.store.acting.of_alarms([alarm_id])
    assert (record.state, record.says) == (ActionState.HELD, "lane standard is paused")
    scene.now += timedelta(minutes=1)
    await one.step()
    assert await scene.held_back() == set()


async def test_what_this_workers_settings_do_not_have_is_left_to_others_for_a_day(scene: Scene) -> None:
    async with webhook(500) as hook:
        await scene.raise_alarm()
        await scene.worker(notify(hook)).step()
        scene.now += timedelta(hours=1)
        await scene.worker(PauseLane(do="pause_lane")).step()
        assert (await scene.records())["notify"] is ActionState.DUE
        scene.now += timedelta(days=1)
        await scene.worker(PauseLane(do="pause_lane")).step()
    assert (await scene.records())["notify"] is ActionState.GIVEN_UP


@pytest.mark.parametrize(
    ("event", "about", "text"),
    [
        (
            "spend_cap",
            CAP,
            (
                "the spend cap of 50 USD a day is reached: 50.01 USD. Nothing more that it is for is sent until the "
                "hour or day is over."
            ),
        ),
        (
            "spend_cap",
            {**CAP, "action": "warn"},
            "the spend cap of 50 USD a day is reached: 50.01 USD.",
        ),
        (
            "parked",
            {"model_class": "haiku-5-5", "outcome": "bad_key", "says": "the API key was refused", "probe_s": 30.0},
            (
                "haiku-5-5 rests: the API key was refused (bad_key). Its jobs wait; one request every 30 s finds out "
                "whether that is over. `promptmill resume haiku-5-5` tries at once"
            ),
        ),
    ],
)
async def test_other_news_is_told_as_well(scene: Scene, event: str, about: dict[str, Any], text: str) -> None:
    async with webhook() as hook:
        one = scene.worker(notify(hook), PauseLane(do="pause_lane"))
        one.hear(event, about)
        await one.step()
        await one.step()
    [body] = hook.bodies
    assert body["text"] == f"promptmill: {text}"
    assert body["promptmill"][event] == about
    assert (body["promptmill"]["event"], body["promptmill"]["at"]) == (event, NOON.isoformat())
    assert await scene.held_back() == set()


async def test_news_that_came_while_the_store_was_away_is_told_when_it_is_back(scene: Scene, monkeypatch) -> None:
    async with webhook() as hook:
        one = scene.worker(notify(hook, on=["outage", "spend_cap"]))
        one.hear("parked", {})
        one.hear("spend_cap", CAP)
        with monkeypatch.context() as gone:
            gone.setattr(scene.store.acting, "add", _die)
            with pytest.raises(StoreUnavailable):
                await one.step()
        assert hook.bodies == []
        await one.step()
        await one.step()
    assert len(hook.bodies) == 1


async def test_a_kind_of_prompt_cannot_call_a_channel(scene: Scene) -> None:
    async with webhook() as hook:
        await scene.raise_alarm(series=SeriesKey(MODEL, MODEL, "<!channel> & <http://x|y>", "standard"), evidence={})
        await scene.worker(notify(hook)).step()
    assert "kind &lt;!channel&gt; &amp; &lt;http://x|y&gt; in lane" in hook.bodies[0]["text"]


async def test_it_looks_at_once_when_poked_and_a_fault_ends_nothing(scene: Scene, monkeypatch) -> None:
    steps: asyncio.Queue[None] = asyncio.Queue()
    one = scene.worker()
    errors: list[Exception] = [RuntimeError("a fault"), StoreUnavailable("away")]

    async def step() -> None:
        steps.put_nowait(None)
        if errors:
            raise errors.pop(0)

    monkeypatch.setattr(one, "step", step)
    with capture_logs() as logs:
        running = asyncio.create_task(one.keep())
        for _ in range(4):
            await steps.get()
            one.poke()
        running.cancel()
        await asyncio.wait({running})
    assert [entry["event"] for entry in logs] == [events.HELPER_CRASHED]


async def test_an_alarm_sends_canaries_to_the_model_whose_answers_became_worse(scene: Scene) -> None:
    await scene.raise_alarm(series=ALARM.series._replace(model=OTHER))
    one = scene.worker(SendCanaries(do="send_canaries", rounds=5))
    scene.canaries.side_effect = [QueueUnavailable("away"), None]
    for _ in range(3):
        await one.step()
        scene.now += timedelta(minutes=1)
    assert [call.args for call in scene.canaries.await_args_list] == [(OTHER, NOON, 5)] * 2
    [record] = await scene.store.acting.of_alarms([1])
    assert (record.state, record.says) == (ActionState.DONE, f"5 rounds of canaries sent to {OTHER}")


async def test_canaries_for_a_model_that_cannot_be_asked_are_given_up(scene: Scene) -> None:
    await scene.raise_alarm()
    scene.canaries.side_effect = BadJob("no rate limits are known")
    await scene.worker(SendCanaries(do="send_canaries")).step()
    assert await scene.records() == {"send_canaries": ActionState.GIVEN_UP}
