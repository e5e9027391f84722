"""Rounds of canaries: each in the queue once, whoever sends it and however often; and which sets a worker refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest
from structlog.testing import capture_logs

from promptmill.canaries.rounds import send_more_rounds, send_present_round
from promptmill.canaries.sets import KIND, load
from promptmill.errors import BadFile, BadSettings, QueueUnavailable
from promptmill.jobs import Lane
from promptmill.queue import kind_of
from promptmill.results import Status
from promptmill.wire import unpack_envelope, unpack_job
from tests.support.providers import answering
from tests.support.workers import make_settings
from worker.canaries import Canaries, load_canaries, main
from worker.engine import PacedWorker, at_each

HOUR = timedelta(hours=1)
MODEL = "claude-haiku-5-5"


@pytest.fixture
def canaries(tmp_path):
    path = tmp_path / "canaries.jsonl"
    lines = [
        {"id": "sum", "prompt": "What is 1 + 1?", "tags": {"team": "us"}, "expect": {"contains": "2"}},
        {"id": "hello", "prompt": "Say hello.", "max_tokens": 9, "expect": {"contains": "hello"}},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load(str(path), max_tokens=50)


async def queued(shop) -> list:
    """The jobs in the queue."""
    ids = [job_id.decode() for job_id in await shop.redis.zrange("promptmill:queue", 0, -1)]
    payloads = [await shop.redis.get(f"arq:job:{job_id}") for job_id in ids]
    return [unpack_job(unpack_envelope(payload), job_id=job_id) for job_id, payload in zip(ids, payloads, strict=True)]


async def rounds_sent(shop) -> list[str]:
    return sorted({job.tags["round"] for job in await queued(shop)})


async def test_a_canary_is_an_ordinary_job_that_tells_what_it_is(shop, canaries):
    began = datetime(2026, 11, 22, 14, tzinfo=UTC)
    now = began + timedelta(minutes=37)
    assert await send_present_round(shop.queue, shop.settings, canaries, MODEL, now) == 2
    job = next(job for job in await queued(shop) if job.tags["canary"] == "hello")
    assert job.id == f"canary/20261122T140000Z/{MODEL}/hello"
    assert job.request == {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "Say hello."}]}
    assert (job.lane, job.fallbacks, job.run, job.deadline) == (Lane.STANDARD, (), None, began + HOUR)
    assert kind_of(job).startswith(KIND)
    assert {"tenant": "canary", "round": "20261122T140000Z"}.items() <= job.tags.items()
    assert next(job for job in await queued(shop) if job.tags["canary"] == "sum").tags["team"] == "us"


async def test_a_round_is_sent_once_however_many_workers_send_it(shop, canaries):
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    sent = [
        await send_present_round(shop.queue, shop.settings, canaries, MODEL, noon + late * HOUR / 4)
        for late in range(4)
    ]
    assert sent == [2, 0, 0, 0]
    assert await send_present_round(shop.queue, shop.settings, canaries, MODEL, noon + HOUR) == 2


async def test_a_round_that_was_answered_is_not_sent_again_by_a_worker_that_starts_later(shop, canaries):
    shop.api.script = [answering("Hello, 2.")]
    now = shop.now()
    await send_present_round(shop.queue, shop.settings, canaries, MODEL, now)
    while await shop.work():
        pass
    assert await send_present_round(shop.queue, shop.settings, canaries, MODEL, now) == 0
    assert len(shop.api.requests) == 2


async def test_an_answer_is_measured_against_what_is_known(shop, canaries):
    shop.api.script = [answering("Hello.")]
    await send_present_round(shop.queue, shop.settings, canaries, MODEL, shop.now())
    while await shop.work():
        pass
    answers = await shop.store.canary_answers(since=shop.now() - HOUR)
    assert {answer.canary: answer.passed for answer in answers} == {"sum": False, "hello": True}
    assert all(answer.answered for answer in answers)


async def test_a_canary_that_is_refused_has_failed(shop, canaries):
    shop.api.script = [answering("I would rather not.", stop_reason="refusal")]
    await send_present_round(shop.queue, shop.settings, canaries, MODEL, shop.now())
    while await shop.work():
        pass
    answers = await shop.store.canary_answers(since=shop.now() - HOUR)
    assert [(answer.passed, answer.answered) for answer in answers] == [(False, True)] * 2


async def test_a_canary_that_waited_until_the_next_round_is_no_longer_wanted(shop, canaries):
    await send_present_round(shop.queue, shop.settings, canaries, MODEL, shop.now())
    shop.clock.advance(HOUR)
    while await shop.work():
        pass
    assert shop.api.requests == []
    answers = await shop.store.canary_answers(since=shop.now() - HOUR)
    assert [(answer.passed, answer.answered) for answer in answers] == [(None, False)] * 2
    result = await shop.store.result(answers[0].job_id)
    assert result.status is Status.EXPIRED


async def test_more_rounds_for_the_same_reason_are_sent_once(shop, canaries):
    for expected in (6, 0):
        sent = await send_more_rounds(
            shop.queue, shop.settings, canaries, MODEL, name="alarm-17", rounds=3, now=shop.now()
        )
        assert sent == expected
    assert await rounds_sent(shop) == ["alarm-17.1", "alarm-17.2", "alarm-17.3"]


async def test_alarms_that_come_in_a_swarm_send_canaries_once_to_each_model(shop, canaries):
    asked = Canaries(shop.queue, shop.settings, canaries, now=shop.now)
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    for minutes in (0, 1, 59):
        await asked.send_more(MODEL, noon + timedelta(minutes=minutes), 2)
    assert await rounds_sent(shop) == ["alarm-20261122T120000Z.1", "alarm-20261122T120000Z.2"]
    await asked.send_more("claude-opus-5-5", noon, 2)
    await asked.send_more(MODEL, noon + HOUR, 1)
    assert len(await queued(shop)) == (2 + 2 + 1) * 2


class VirtualFleet:
    """Workers whose beats a test makes: each has the cron job that real ones have, and nothing else."""

    def __init__(self, shop, canaries, *, workers: int, **settings) -> None:
        self.now = datetime(2026, 11, 22, 9, 59, 30, tzinfo=UTC)
        chosen = make_settings(**settings)
        self._workers = [
            SimpleNamespace(
                ctx={},
                _rounds=[
                    at_each(
                        chosen.canary_every, Canaries(shop.queue, chosen, canaries, now=lambda: self.now).send_round
                    )
                ],
            )
            for _ in range(workers)
        ]

    async def beat(self, *workers: int) -> None:
        for number in workers or range(len(self._workers)):
            await PacedWorker._make_rounds(self._workers[number], self.now)

    async def live(self, until: datetime, *workers: int, beat: timedelta = timedelta(seconds=7.3)) -> None:
        while self.now < until:
            await self.beat(*workers)
            self.now += beat


async def test_a_fleet_sends_each_round_of_a_day_once_for_each_model(shop, canaries):
    fleet = VirtualFleet(shop, canaries, workers=3, canary_every=4 * 3_600, canary_models=(MODEL, "claude-opus-5-5"))
    with capture_logs() as logs:
        await fleet.live(fleet.now + timedelta(days=1))
    assert await rounds_sent(shop) == [
        "20261122T080000Z",  # the present one when they started
        *(f"20261122T{hour}0000Z" for hour in (12, 16, 20)),
        *(f"20261123T{hour}0000Z" for hour in ("00", "04", "08")),
    ]
    assert len(await queued(shop)) == 7 * 2 * 2
    assert len(logs) == 7 * 2
    assert logs[0] == {
        "event": "canaries_sent",
        "log_level": "info",
        "model": MODEL,
        "round": "20261122T080000Z",
        "canaries": 2,
    }


async def test_a_round_begins_with_its_hour_not_an_hour_after_the_start(shop, canaries):
    fleet = VirtualFleet(shop, canaries, workers=1)
    await fleet.beat()
    fleet.now = datetime(2026, 11, 22, 9, 59, 59, 900_000, tzinfo=UTC)
    await fleet.beat()
    assert await rounds_sent(shop) == ["20261122T090000Z"]
    fleet.now = datetime(2026, 11, 22, 10, 0, 0, 400_000, tzinfo=UTC)
    await fleet.beat()
    assert await rounds_sent(shop) == ["20261122T090000Z", "20261122T100000Z"]


async def test_a_round_that_every_worker_missed_is_sent_by_the_first_that_starts(shop, canaries):
    fleet = VirtualFleet(shop, canaries, workers=2)
    await fleet.beat(0)
    fleet.now = datetime(2026, 11, 22, 12, 50, tzinfo=UTC)  # the only worker died; hours later another one starts
    await fleet.beat(1)
    assert await rounds_sent(shop) == ["20261122T090000Z", "20261122T120000Z"]


async def test_a_round_is_not_lost_while_redis_is_away(shop, canaries, monkeypatch):
    fleet = VirtualFleet(shop, canaries, workers=1)
    await fleet.beat()
    fleet.now += HOUR
    with monkeypatch.context() as away:
        away.setattr(shop.queue, "submit", AsyncMock(side_effect=QueueUnavailable("away")))
        for _ in range(2):
            with pytest.raises(QueueUnavailable):
                await fleet.beat()
    await fleet.beat()
    assert await rounds_sent(shop) == ["20261122T090000Z", "20261122T100000Z"]


@pytest.mark.parametrize("seconds", [60, 300, 900, 3_600, 3 * 3_600, 86_400])
def test_cron_and_the_names_of_rounds_mean_the_same_times(seconds):
    async def nothing() -> None:
        pass

    job = at_each(timedelta(seconds=seconds), nothing)
    at = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)
    midnight = at.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    for number in range(5):
        job.calculate_next(at)
        at = job.next_run
        assert at.replace(microsecond=0) == midnight + number * timedelta(seconds=seconds)


# what a worker refuses at its start ----------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [{}, {"canaries": "starter"}])
def test_the_starter_set_is_one_that_a_worker_takes(named):
    assert load_canaries(make_settings(**named)).name == "starter"


def test_a_model_without_limits_is_refused():
    with pytest.raises(BadSettings, match="canary_models: no rate limits are known for model 'claude-haiku-9'"):
        load_canaries(make_settings(canaries="starter", canary_models=("claude-haiku-9",)))


def test_a_set_whose_known_answer_fails_its_own_checks_is_refused(tmp_path, capsys, monkeypatch):
    path = tmp_path / "mine.jsonl"
    good = {"id": "a", "prompt": "Say hello.", "expect": {"similar_to": "Hello.", "contains": "hello"}}
    bad = {
        "id": "b",
        "prompt": "Say hello in at most two words.",
        "expect": {"similar_to": "Oh, hello you.", "contains": "bye"},
    }
    path.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    with pytest.raises(BadFile) as refused:
        load_canaries(make_settings(canaries=str(path)))
    assert str(refused.value) == (
        f"canaries: {path}: line 2: expect: expected similar_to to pass them and do what the prompt "
        "asks for, got one that fails max_words, contains"
    )
    monkeypatch.chdir(tmp_path)
    assert main("mine.jsonl") == 2
    assert "mine.jsonl: line 2: expect" in capsys.readouterr().err


def test_checking_a_set_tells_what_a_round_costs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PROMPTMILL_CANARY_MODELS", '["claude-haiku-5-5", "claude-opus-5-5"]')
    assert main("starter") == 0
    assert capsys.readouterr().out.splitlines() == [
        "30 canaries in starter; a round takes about",
        "  claude-haiku-5-5: 3,398 tokens in, 668 out and what it thinks (at most 11,800): USD 0.0007, at most 0.0062",
        "  claude-opus-5-5: 3,398 tokens in, 668 out and what it thinks (at most 11,800): USD 0.0270, at most 0.2496",
    ]
