"""Redis or the result store goes away in the middle: nothing is lost, nothing is sent or settled without them (I5)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import orjson
import pytest
from structlog.testing import capture_logs

from promptmill.errors import BadInput, QueueUnavailable, StoreUnavailable
from promptmill.results import Status
from tests.support.providers import Held, answering, failing
from tests.support.workers import make_job
from tests.unit.worker.tables import TRIED

AWAY = QueueUnavailable("Redis does not answer")
STORE_AWAY = StoreUnavailable("the disk is full")
STEPS_OF_AN_ANSWER = ["look up", "answered", "record result", "recorded result", "settle", "settled"]


async def test_while_the_store_is_away_nothing_is_settled_and_the_answer_waits(shop):
    shop.steps.fail("record result", *[STORE_AWAY] * 7)
    await shop.submit(make_job())
    with capture_logs() as logs:
        await shop.work()
    assert shop.naps.taken == [0.1, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0]
    assert shop.steps.taken == STEPS_OF_AN_ANSWER
    assert len(shop.api.requests) == 1
    assert [entry for entry in logs if entry["event"].startswith("store")] == [
        {"event": "store_away", "log_level": "error", "error": "the disk is full"},
        {"event": "store_back", "log_level": "info"},
    ]
    assert (await shop.store.result("job-1")).status is Status.SUCCEEDED


async def test_the_engine_is_told_while_the_store_is_away(shop):
    gate = shop.steps.hold("record result")
    shop.steps.fail("record result", STORE_AWAY)
    await shop.submit(make_job())
    running = asyncio.create_task(shop.work())
    await gate.reached.wait()
    assert not shop.recorder.store_is_away
    seen = []

    async def look_then_sleep(_seconds):
        seen.append(shop.recorder.store_is_away)

    shop.recorder._sleep = look_then_sleep
    gate.opened.set()
    await running
    assert (seen, shop.recorder.store_is_away) == ([True], False)


async def test_a_store_that_can_be_read_and_not_written_is_away_all_the_same(shop):
    """One that is locked or full answers look-ups: nothing is claimed for that, since no answer could be stored."""
    gate = shop.steps.hold("record result")
    shop.steps.fail("record result", STORE_AWAY)
    await shop.submit(make_job())
    running = asyncio.create_task(shop.work())
    await gate.reached.wait()
    waits, goes_on = asyncio.Event(), asyncio.Event()

    async def sleep(_seconds):
        waits.set()
        await goes_on.wait()

    shop.recorder._sleep = sleep
    gate.opened.set()
    with capture_logs() as logs:
        await waits.wait()
        assert await shop.recorder.finished("another") is None
        assert shop.recorder.store_is_away
        goes_on.set()
        await running
    assert not shop.recorder.store_is_away
    assert [entry["event"] for entry in logs if entry["event"].startswith("store")] == ["store_away", "store_back"]


async def test_an_answer_is_held_from_when_it_is_handed_over_until_it_is_committed(shop):
    """A store that says nothing for long is not away yet: whoever stops the worker must not lose the answer."""
    before, after = shop.steps.hold("record result"), shop.steps.hold("recorded result")
    await shop.submit(make_job())
    assert not shop.recorder.holds_answers
    running = asyncio.create_task(shop.work())
    for gate in (before, after):
        await gate.reached.wait()
        assert (shop.recorder.holds_answers, shop.recorder.store_is_away) == (True, False)
        gate.opened.set()
    await running
    assert not shop.recorder.holds_answers


async def test_the_answer_to_a_retry_is_held_too_while_the_store_is_asked_for_the_tries_before_it(shop):
    """Else a worker that stops while the store is away gives it up, and it is paid for again (I6)."""
    shop.api.script = [failing(500, "api_error"), answering()]
    await shop.submit(make_job())
    await shop.work()
    shop.clock.advance(timedelta(minutes=1))
    attempts, seen = shop.store.attempts, []

    async def look(job_ids):
        seen.append(shop.recorder.holds_answers)
        if len(seen) < 3:
            raise STORE_AWAY
        return await attempts(job_ids)

    shop.store.attempts = look
    await shop.run_to_end()
    assert (seen, shop.recorder.holds_answers) == ([True] * 3, False)
    assert len((await shop.store.result("job-1")).attempts) == 2


async def test_a_value_that_can_never_be_stored_costs_the_others_of_its_moment_nothing(shop):
    held = Held()
    shop.api.script = [held]
    record = shop.store.record

    async def refuse(entries):
        if any(entry.job_id == "job-3" for entry in entries):
            raise BadInput("the result store cannot hold a value")
        await record(entries)

    shop.store.record = refuse
    await shop.submit(*(make_job(f"job-{n}") for n in range(6)))
    running = [asyncio.create_task(shop.run(lease)) for lease in await shop.claim(6)]
    await shop.api.arrival(6)
    held.release()
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert [n for n in range(6) if outcomes[n] is not None] == [3]
    assert isinstance(outcomes[3], BadInput)
    assert set(await shop.store.finished([f"job-{n}" for n in range(6)])) == {f"job-{n}" for n in (0, 1, 2, 4, 5)}


async def test_without_the_store_nothing_is_sent(shop):
    """Nobody could know whether the job was answered already."""
    shop.steps.fail("look up", STORE_AWAY)
    await shop.submit(make_job())
    gate = shop.steps.hold("look up")
    running = asyncio.create_task(shop.work())
    await gate.reached.wait()
    assert shop.api.requests == []
    gate.opened.set()
    await running
    assert len(shop.api.requests) == 1


async def test_leases_are_kept_while_the_store_is_away(shop):
    gate = shop.steps.hold("record result")
    await shop.submit(make_job())
    running = asyncio.create_task(shop.work())
    await gate.reached.wait()
    for _ in range(10):
        shop.clock.advance(shop.settings.lease / 3)
        await shop.leases.renew()
    theirs = await shop.queue.claim(worker="other", lease=shop.settings.lease, most=1, token_prefix="other.1")
    assert theirs.jobs == ()
    gate.opened.set()
    await running
    assert (await shop.left_in_redis()).ok


async def test_redis_away_at_the_end_finds_the_row_committed_and_settles_when_it_is_back(shop):
    shop.steps.fail("settle", AWAY, AWAY)
    await shop.submit(make_job())
    gate = shop.steps.hold("settle")
    running = asyncio.create_task(shop.work())
    await gate.reached.wait()
    assert (await shop.store.result("job-1")).status is Status.SUCCEEDED
    assert await shop.left_in_redis() is None
    gate.opened.set()
    await running
    assert shop.naps.taken == [0.1, 0.5]
    assert (await shop.left_in_redis()).ok
    assert shop.steps.taken == STEPS_OF_AN_ANSWER


async def test_a_settlement_whose_answer_was_lost_is_made_again_and_does_no_harm(shop):
    """The first one went through; the second finds no lease. The job has ended once, and its row stays."""
    shop.steps.fail("settled", AWAY)
    await shop.submit(make_job(run="run-1"))
    await shop.work()
    assert (await shop.left_in_redis()).ok
    assert await shop.redis.hget("promptmill:run:run-1", "succeeded") == b"1"
    assert len(shop.api.requests) == 1


async def test_redis_away_when_a_job_goes_back_is_waited_for(shop):
    shop.api.script = [failing(500, "api_error"), answering()]
    shop.steps.fail("snooze", AWAY)
    await shop.submit(make_job())
    await shop.work()
    assert shop.steps.taken == TRIED
    await shop.run_to_end()
    assert len(shop.api.requests) == 2


async def test_redis_away_when_a_failure_is_told_is_waited_for(shop):
    shop.api.script = [failing(500, "api_error"), answering()]
    shop.steps.fail("report", AWAY)
    await shop.submit(make_job())
    await shop.work()
    assert shop.steps.taken == TRIED
    await shop.run_to_end()
    assert len(shop.api.requests) == 2


async def test_a_pause_that_could_not_be_set_is_set_before_the_job_is_free_to_go(shop):
    shop.api.script = [failing(429, "rate_limit_error", headers={"retry-after": "60"}), answering()]
    shop.steps.fail("block", AWAY)
    await shop.submit(make_job())
    await shop.work()
    assert shop.steps.taken[-3:] == ["block", "snooze", "snoozed"]
    assert timedelta(seconds=59) < await shop.blocked_for() <= timedelta(seconds=60)


async def test_redis_away_while_a_strangers_job_is_taken_in_is_waited_for(shop):
    await shop.redis.set("arq:job:job-1", orjson.dumps({"f": "run_prompt", "a": ["Hi"], "k": {}, "et": 1, "t": None}))
    await shop.redis.zadd("promptmill:queue", {"job-1": 1_000})
    shop.steps.fail("adopt", AWAY)
    await shop.run_to_end()
    assert (await shop.store.result("job-1")).ok


async def test_many_results_share_a_transaction_and_a_settlement(shop):
    held = Held()
    shop.api.script = [held]
    await shop.submit(*(make_job(f"job-{n}") for n in range(20)))
    leases = await shop.claim(20)
    running = [asyncio.create_task(shop.run(lease)) for lease in leases]
    await shop.api.arrival(20)
    gate = shop.steps.hold("record result")
    held.release()
    await gate.reached.wait()
    gate.opened.set()
    await asyncio.gather(*running)
    assert shop.steps.taken.count("record result") <= 3
    assert shop.steps.taken.count("settle") <= 3
    assert shop.pipeline.tally.ended[Status.SUCCEEDED] == 20


@pytest.mark.parametrize("step", ["look up", "record result", "settle", "report", "snooze"])
async def test_closing_gives_up_what_waits_for_an_outage(shop, step):
    """At the end of a worker's life: the jobs' leases run out by themselves."""
    shop.api.script = [failing(500, "api_error") if step in {"report", "snooze"} else answering()]
    error = STORE_AWAY if step in {"look up", "record result"} else AWAY
    shop.steps.fail(step, *[error] * 10_000)
    await shop.submit(make_job())
    lease = await shop.claim_one()
    waits = asyncio.Event()

    async def sleep(_seconds):
        waits.set()
        await asyncio.Event().wait()

    shop.recorder._sleep = sleep
    running = asyncio.create_task(shop.run(lease))
    await waits.wait()
    running.cancel()
    await asyncio.wait([running])
    await shop.recorder.close()
    assert await shop.is_queued()
