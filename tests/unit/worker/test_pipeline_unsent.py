"""Jobs that end without a request, and jobs that are stopped while theirs is under way."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from promptmill.queue import keys
from promptmill.results import Status
from tests.support.providers import Held, answering, failing
from tests.support.workers import make_job, workshop
from tests.unit.worker.tables import ANSWERED, is_gone, outcomes
from worker.calls import StopReason
from worker.quality import Metric, PlugIns

SECOND = timedelta(seconds=1)


async def test_an_answer_that_is_in_the_store_is_not_paid_for_again(shop):
    await shop.submit(make_job())
    await shop.work()
    await shop.redis.delete(keys.RESULT + "job-1")
    await shop.submit(make_job())
    await shop.work()
    assert len(shop.api.requests) == 1
    assert shop.steps.taken == [*ANSWERED, "look up", "settle", "settled"]
    assert (await shop.left_in_redis()).text == "Hello."
    assert await is_gone(shop)


async def test_an_answer_found_in_the_store_is_announced_to_the_run_that_waits_for_it(shop):
    await shop.submit(make_job(run="first"))
    await shop.work()
    await shop.redis.delete(keys.RESULT + "job-1")
    await shop.submit(make_job(run="second"))
    await shop.work()
    assert await shop.redis.hget(f"{keys.RUN}second", "succeeded") == b"1"
    assert (await shop.store.result("job-1")).run == "first"
    assert len(shop.api.requests) == 1


@pytest.mark.parametrize("what", ["measure", "cost_usd"])
async def test_an_answer_is_kept_even_if_it_cannot_be_measured(shop, monkeypatch, what):
    """A fault in a metric would otherwise throw the paid answer away, and pay for it again."""

    def fault(*_args, **_how):
        raise RecursionError("of the answer, perhaps")

    monkeypatch.setattr(f"worker.endings.{what}", fault)
    await shop.submit(make_job())
    with capture_logs() as logs:
        await shop.work()
    result = await shop.store.result("job-1")
    assert (result.ok, result.text) == (True, "Hello.")
    assert (result.quality is None, result.cost_usd is None) == (what == "measure", what == "cost_usd")
    (entry,) = [entry for entry in logs if entry["event"] == "measure_failed"]
    assert (entry["job"], entry["error"]) == ("job-1", "RecursionError")
    assert "perhaps" not in repr(logs)


@pytest.mark.parametrize("how", ["lost too often", "payload deleted", "payload overwritten", "cancelled", "expired"])
async def test_an_answer_in_the_store_counts_whatever_became_of_the_job(shop, how):
    """A worker that dies between record and settle leaves a job that is answered; what follows must not deny it."""
    await shop.submit(make_job())
    await shop.work()
    await shop.redis.delete(keys.RESULT + "job-1")
    await shop.submit(make_job(deadline=shop.now() + SECOND))
    match how:
        case "lost too often":
            for _ in range(12):
                await shop.claim()
                shop.clock.advance(shop.settings.lease)
        case "payload deleted":
            await shop.redis.delete(keys.PAYLOAD + "job-1")
        case "payload overwritten":
            await shop.redis.set(keys.PAYLOAD + "job-1", b"\x80\x04pickle")
        case "cancelled":
            await shop.queue.cancel(["job-1"])
        case "expired":
            shop.clock.advance(SECOND)
    await shop.run_to_end()
    assert (await shop.left_in_redis()).text == "Hello."
    assert (await shop.store.result("job-1")).status is Status.SUCCEEDED
    assert await shop.store.dead_letter("job-1") is None
    assert len(shop.api.requests) == 1


async def test_a_job_cancelled_in_the_queue_ends_without_a_request(shop):
    await shop.submit(make_job(run="run-1"))
    await shop.queue.cancel(["job-1"])
    await shop.work()
    result = await shop.store.result("job-1")
    assert (result.status, result.attempts, result.run) == (Status.CANCELLED, (), "run-1")
    assert result.cost_usd == 0
    assert shop.api.requests == []
    assert await is_gone(shop)


async def test_a_job_that_is_no_longer_wanted_in_time_expires(shop):
    await shop.submit(make_job(deadline=shop.now() + SECOND))
    shop.clock.advance(SECOND)
    await shop.work()
    assert (await shop.store.result("job-1")).status is Status.EXPIRED
    assert (await shop.left_in_redis()).status is Status.EXPIRED
    assert shop.api.requests == []


async def test_a_job_that_expires_between_two_attempts_keeps_the_first(shop):
    shop.api.script = [failing(500, "api_error")]
    await shop.submit(make_job(deadline=shop.now() + timedelta(milliseconds=500)))
    await shop.work()
    shop.clock.advance(SECOND)
    await shop.work()
    result = await shop.store.result("job-1")
    assert (result.status, outcomes(result)) == (Status.EXPIRED, ["server_error"])
    assert len(shop.api.requests) == 1


async def test_a_job_whose_deadline_passes_while_it_is_answered_is_answered(shop):
    held = Held()
    shop.api.script = [held]
    await shop.submit(make_job(deadline=shop.now() + SECOND))
    running = asyncio.create_task(shop.run(await shop.claim_one()))
    await shop.api.arrival()
    shop.clock.advance(2 * SECOND)
    held.release()
    await running
    assert (await shop.store.result("job-1")).status is Status.SUCCEEDED


async def test_a_job_with_which_too_many_workers_died_becomes_a_dead_letter_of_its_run(shop):
    await shop.submit(make_job(run="run-1", position=3, tags={"a": "b"}))
    for _ in range(shop.settings.max_lost_leases):
        await shop.claim()
        shop.clock.advance(shop.settings.lease)
    await shop.work()
    result = await shop.store.result("job-1")
    assert (result.status, result.error.name) == (Status.FAILED, "lost_too_often")
    assert (result.run, result.position, result.tags) == ("run-1", 3, {"a": "b"})
    assert (await shop.redis.hgetall(f"{keys.RUN}run-1"))[b"failed"] == b"1", "whoever follows the run must hear of it"
    letter = await shop.store.dead_letter("job-1")
    assert (letter.redrivable, letter.message) == (True, "too many workers died while they ran this job: 10 of them")
    assert shop.api.requests == []


# stopped ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def under_way(shop):
    """A job whose request has arrived and is not answered."""
    held = Held()
    shop.api.script = [held]
    await shop.submit(make_job(max_attempts=2))
    lease = await shop.claim_one()
    running = asyncio.create_task(shop.run(lease))
    await shop.api.arrival()
    yield lease, running, held
    running.cancel()
    await asyncio.wait([running])


async def test_a_job_cancelled_under_way_stops_its_call(shop, under_way):
    lease, running, _ = under_way
    await shop.queue.cancel(["job-1"])
    shop.clock.advance(SECOND)
    lease.call.stop(StopReason.CANCELLED)
    await running
    result = await shop.store.result("job-1")
    assert (result.status, outcomes(result)) == (Status.CANCELLED, ["interrupted"])
    assert result.attempts[0].duration == SECOND, "from sending, not from the end"
    assert await is_gone(shop)


async def test_at_a_shutdown_a_job_goes_back_without_using_up_an_attempt(shop, under_way):
    lease, running, _ = under_way
    lease.call.stop(StopReason.SHUTDOWN)
    await running
    record = await shop.record_of()
    assert (record["state"], record["attempts"], record["claims"]) == ("r", 0, 1)
    assert [attempt.outcome for attempt in (await shop.store.attempts(["job-1"]))["job-1"]] == ["interrupted"]
    assert shop.pipeline.tally.returned == 1

    shop.api.script = [answering()]
    await shop.work()
    result = await shop.store.result("job-1")
    assert [(attempt.number, attempt.outcome) for attempt in result.attempts] == [(1, "interrupted"), (2, "succeeded")]


async def test_a_job_handed_back_before_it_was_sent_leaves_no_trace(shop):
    await shop.submit(make_job())
    lease = await shop.claim_one()
    lease.call.stop(StopReason.SHUTDOWN)
    await shop.run(lease)
    record = await shop.record_of()
    assert (record["state"], record["attempts"], record["claims"]) == ("r", 0, 0)
    assert await shop.store.attempts(["job-1"]) == {}
    assert shop.api.requests == []


async def test_a_lease_lost_under_way_stops_the_call_and_nothing_is_written(shop, under_way):
    _, running, _ = under_way
    shop.clock.advance(shop.settings.lease)
    await shop.queue.claim(worker="other", lease=shop.settings.lease, most=1, token_prefix="other.1")
    await shop.leases.renew()
    with capture_logs() as logs:
        await running
    assert logs == [{"event": "lease_lost", "log_level": "warning", "job": "job-1"}]
    assert shop.steps.taken == ["look up", "renew"]
    assert await shop.store.result("job-1") is None
    assert (await shop.record_of())["token"] == "other.1.1"


@pytest.mark.parametrize(
    "step",
    [answering(), failing(500, "api_error"), failing(400, "invalid_request_error")],
    ids=["answered", "to be retried", "dead"],
)
async def test_a_worker_frozen_for_longer_than_its_lease_asks_redis_before_it_writes(shop, step):
    held = Held(step)
    shop.api.script = [held]
    await shop.submit(make_job())
    running = asyncio.create_task(shop.run(await shop.claim_one()))
    await shop.api.arrival()
    shop.clock.advance(shop.settings.lease)
    await shop.queue.claim(worker="other", lease=shop.settings.lease, most=1, token_prefix="other.1")
    held.release()
    await running
    assert shop.steps.taken == ["look up", "answered", "renew"]
    assert await shop.store.result("job-1") is None
    assert await shop.store.attempts(["job-1"]) == {}


async def test_a_worker_frozen_before_it_sends_does_not_send(shop):
    await shop.submit(make_job())
    lease = await shop.claim_one()
    shop.clock.advance(shop.settings.lease)
    await shop.queue.claim(worker="other", lease=shop.settings.lease, most=1, token_prefix="other.1")
    await shop.run(lease)
    assert shop.api.requests == []
    assert shop.steps.taken == ["look up", "renew"]


async def test_a_lease_lost_between_record_and_settle_ends_the_job_once(shop):
    """The answer was committed first; whoever holds the job now finds it there."""
    await shop.submit(make_job())
    gate = shop.steps.hold("settle")
    running = asyncio.create_task(shop.run(await shop.claim_one()))
    await gate.reached.wait()
    shop.clock.advance(shop.settings.lease)
    async with workshop(shop.settings.data_dir, redis=shop.redis) as other:
        other.clock.now = shop.clock.now
        await other.work()
        assert other.api.requests == []
        assert other.steps.taken == ["look up", "settle", "settled"]
    gate.opened.set()
    with capture_logs() as logs:
        await running
    assert [entry["event"] for entry in logs] == ["lease_lost"]
    assert (await shop.left_in_redis()).text == "Hello."


async def test_an_answer_is_kept_and_measured_even_if_a_plug_in_chokes_on_it(shop):
    def fault(_subject):
        raise KeyError("of the answer, perhaps")

    plug_ins = PlugIns([Metric("faulty", "amount", "lower", fault), Metric("good", "amount", "lower", lambda _: 2)])
    shop.pipeline._endings._plug_ins = plug_ins
    await shop.submit(make_job())
    with capture_logs() as logs:
        await shop.work()
    result = await shop.store.result("job-1")
    assert (result.text, result.quality["words"], result.quality["faulty"], result.quality["good"]) == (
        "Hello.",
        1,
        None,
        2.0,
    )
    (entry,) = [entry for entry in logs if entry["event"] == "metric_failed"]
    assert (entry["job"], entry["metric"], entry["error"]) == ("job-1", "faulty", "KeyError")
    assert "perhaps" not in repr(logs)
