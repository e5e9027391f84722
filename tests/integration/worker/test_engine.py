"""Whole workers on a real Valkey: how they are woken, stopped, and go on when things break."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import orjson
import pytest
from arq.worker import Worker
from redis.exceptions import OutOfMemoryError
from structlog.testing import capture_logs

from promptmill.caps import SpendCap
from promptmill.models import UnknownModel
from promptmill.queue import Queue, keys
from promptmill.results import Status
from promptmill.store import ResultStore
from tests.support.providers import Held, answering, failing
from tests.support.workers import REQUEST, make_job
from worker import engine, events
from worker.engine import PacedWorker

SHORT = timedelta(milliseconds=300)
TERM = 15


async def test_a_submitted_job_is_answered(mill):
    async with mill.worker():
        await mill.submit(make_job())
        await mill.ends.of("job-1")
    assert (await mill.store.result("job-1")).text == "Hello."
    assert await mill.redis.zcard(keys.QUEUE) == 0


async def test_an_idle_worker_is_woken_by_new_work_without_ever_looking(mill):
    """It has no alarm: if nobody told it, it would sleep for ever."""
    async with mill.worker() as worker:
        worker.alarms = False
        worker.engine._wake.set()
        await worker.idle()
        for number in range(5):
            await mill.submit(make_job(f"job-{number}"))
            await mill.ends.of(f"job-{number}")
    assert len(mill.api.requests) == 5


async def test_one_job_wakes_one_of_many_idle_workers(mill):
    async with mill.worker() as first, mill.worker() as second, mill.worker() as third:
        workers = [first, second, third]
        for worker in workers:
            worker.alarms = False
            worker.engine._wake.set()
            await worker.idle()
        before = [worker.naps for worker in workers]
        await mill.submit(make_job())
        await mill.ends.of("job-1")
        woken = [worker.naps > naps for worker, naps in zip(workers, before, strict=True)]
    assert sum(woken) == 1


async def test_a_worker_with_every_slot_taken_claims_again_when_one_comes_free(mill):
    async with mill.worker(concurrency=2) as worker:
        worker.alarms = False
        await mill.submit(*(make_job(f"job-{number}") for number in range(7)))
        await mill.ends.of(*(f"job-{number}" for number in range(7)))


async def test_slots_that_come_free_while_a_claim_is_under_way_are_filled(mill):
    """The claim was for one slot and got it; nobody would wake a worker that believes it is full."""
    first, second = Held(), Held()
    mill.api.script = [first, second, answering()]
    async with mill.worker(concurrency=2) as worker:
        await mill.submit(make_job("first"))
        await mill.api.arrival(1)
        worker.alarms = False
        queue, claim = worker.engine._queue, worker.engine._queue.claim

        async def finish_the_first_meanwhile(**how):
            claims = await claim(**how)
            if [job.job_id for job in claims.jobs] == ["second"]:
                first.release()
                await asyncio.wait(worker.engine.tasks.values())
            return claims

        queue.claim = finish_the_first_meanwhile
        await mill.submit(make_job("second"), make_job("third"))
        await mill.ends.of("third")
        second.release()
        await mill.ends.of("second")


async def test_a_delayed_job_is_sent_when_it_is_due_and_not_before(mill):
    async with mill.worker() as worker:
        due = await _redis_time(mill) + timedelta(milliseconds=200)
        await mill.submit(make_job(not_before=due))
        await mill.ends.of("job-1")
        assert worker.engine.burst is False
    assert (await mill.store.result("job-1")).attempts[0].started_at >= due - timedelta(milliseconds=5)


async def _redis_time(mill):
    seconds, micros = await mill.redis.time()
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros)


async def test_a_worker_without_a_network_leaves_the_jobs_to_one_that_is_answered(mill):
    names = [f"job-{number}" for number in range(60)]
    soon = timedelta(milliseconds=200)
    async with mill.worker(concurrency=1) as good:
        await mill.submit(make_job("first"))
        await mill.ends.of("first")
        async with mill.worker(anthropic_base_url="http://127.0.0.1:1", probe_interval=soon):
            with capture_logs() as logs:
                await mill.submit(*map(make_job, names))
                await mill.ends.of(*names)
    assert [entry["event"] for entry in logs].count(events.WORKER_CUT_OFF) == 1
    results = [await mill.store.result(name) for name in names]
    assert {result.status for result in results} == {Status.SUCCEEDED}
    assert {result.worker for result in results} == {good.engine.name}
    assert len(mill.api.requests) == 61


async def test_a_burst_worker_ends_when_the_queue_is_empty(mill):
    mill.api.script = [failing(500, "api_error"), answering()]
    await mill.submit(*(make_job(f"job-{number}") for number in range(20)))
    async with mill.worker(burst=True, idle=False, backoff=timedelta(milliseconds=10)) as worker:
        await worker.ended()
    assert await mill.redis.zcard(keys.QUEUE) == 0
    assert len(mill.api.requests) == 21


@pytest.mark.parametrize("held", ["parked", "capped"])
async def test_a_burst_worker_says_once_why_it_waits_and_goes_on_when_it_may(mill, held):
    """As `promptmill run` does: whoever started it wants the answers, and may mend what holds them back."""
    caps = ()
    if held == "parked":
        mill.api.script = [failing(401, "authentication_error"), answering()]
    else:
        caps = (SpendCap(usd=Decimal("0.0000035"), per="day"),)
    with capture_logs() as logs:
        await mill.submit(make_job("a"), make_job("b"))
        async with mill.worker(burst=True, idle=False, caps=caps, concurrency=1) as worker:
            await worker.says(events.BURST_WAITS)
            await mill.redis.delete(keys.SPEND)
            await mill.queue.resume("haiku-5-5")
            await worker.ended()
    why = "haiku-5-5 is parked: bad_key (" if held == "parked" else "a spend cap is reached until "
    (said,) = [entry for entry in logs if entry["event"] == events.BURST_WAITS]
    assert said["why"].startswith(why)
    assert {(await mill.store.result(name)).status for name in ("a", "b")} == {Status.SUCCEEDED}


async def test_a_burst_worker_on_an_empty_queue_ends_at_once(mill):
    async with mill.worker(burst=True, idle=False) as worker:
        await worker.ended()


# stopping -----------------------------------------------------------------------------------------------------------


async def test_at_the_first_signal_running_calls_finish_and_nothing_new_is_claimed(mill):
    held = Held()
    mill.api.script = [held]
    async with mill.worker(concurrency=1) as worker:
        await mill.submit(make_job("runs"), make_job("waits"))
        await mill.api.arrival()
        worker.engine.handle_sig(TERM)
        held.release()
        await worker.ended()
    assert (await mill.store.result("runs")).ok
    assert mill.api.jobs == ["runs"]
    assert await mill.redis.zscore(keys.QUEUE, "waits") == 1, "ready for whoever comes next"


async def test_at_the_second_signal_running_jobs_are_handed_back_without_using_up_an_attempt(mill):
    mill.api.script = [Held(), answering()]
    async with mill.worker() as worker:
        await mill.submit(make_job(max_attempts=1))
        await mill.api.arrival()
        worker.engine.handle_sig(TERM)
        worker.engine.handle_sig(TERM)
        await worker.ended()
    assert await mill.redis.zscore(keys.QUEUE, "job-1") == 1, "at once, not when the lease runs out"
    async with mill.worker():
        await mill.ends.of("job-1")
    result = await mill.store.result("job-1")
    assert [attempt.outcome for attempt in result.attempts] == ["interrupted", "succeeded"]


async def test_when_the_grace_period_is_over_running_jobs_are_handed_back(mill):
    mill.api.script = [Held()]
    async with mill.worker(grace=timedelta(0)) as worker:
        await mill.submit(make_job())
        await mill.api.arrival()
        worker.engine.handle_sig(TERM)
        await worker.ended()
    assert await mill.redis.zscore(keys.QUEUE, "job-1") == 1


async def test_a_stopping_worker_takes_no_wake_up_from_the_others(mill):
    """It would be told of new work, claim none, and nobody else would be told."""
    held = Held()
    mill.api.script = [held, answering()]
    async with mill.worker() as stops:
        await mill.submit(make_job("long"))
        await mill.api.arrival()
        async with mill.worker() as stays:
            stays.alarms = False
            stays.engine._wake.set()
            await stays.idle()
            stops.engine.handle_sig(TERM)
            await stops.idle()
            await mill.submit(make_job("new"))
            await mill.ends.of("new")
            held.release()
            await stops.ended()


async def test_the_log_tells_the_life_of_a_worker(mill):
    with capture_logs() as logs:
        async with mill.worker() as worker:
            await mill.submit(make_job())
            await mill.ends.of("job-1")
            worker.engine.handle_sig(TERM)
            await worker.ended()
            name = worker.engine.name
    life = [entry for entry in logs if entry["event"].startswith("worker")]
    assert life == [
        {
            "event": "worker_started",
            "log_level": "info",
            "worker": name,
            "concurrency": 50,
            "model_classes": ["haiku-5-5"],
        },
        {"event": "worker_stopping", "log_level": "info", "worker": name, "running": 0, "grace_s": 30.0},
        {"event": "worker_stopped", "log_level": "info", "worker": name, "succeeded": 1, "failed": 0, "returned": 0},
    ]


async def test_a_worker_that_left_is_on_no_list(mill):
    async with mill.worker() as worker:
        name = worker.engine.name
        assert await mill.redis.zscore(keys.IDLE, name) is not None
        assert await mill.redis.hexists(keys.WORKERS, name)
    assert await mill.redis.zscore(keys.IDLE, name) is None
    assert not await mill.redis.hexists(keys.WORKERS, name)


# cancelling ---------------------------------------------------------------------------------------------------------


async def test_a_cancelled_job_stops_its_call_at_once(mill):
    mill.api.script = [Held()]
    async with mill.worker():
        await mill.submit(make_job())
        await mill.api.arrival()
        await mill.queue.cancel(["job-1"])
        await mill.ends.of("job-1")
    assert (await mill.store.result("job-1")).status is Status.CANCELLED


async def test_a_cancellation_that_nobody_heard_is_learnt_at_the_next_renewal(mill):
    mill.api.script = [Held()]
    async with mill.worker(lease=SHORT) as worker:
        worker.engine._hear = lambda *_: None
        await mill.submit(make_job())
        await mill.api.arrival()
        await mill.queue.cancel(["job-1"])
        await mill.ends.of("job-1")
    assert (await mill.store.result("job-1")).status is Status.CANCELLED


async def test_a_cancelled_job_that_waits_is_ended_without_a_request(mill):
    async with mill.worker():
        await mill.submit(make_job(not_before=await _redis_time(mill) + timedelta(hours=1)))
        await mill.queue.cancel(["job-1"])
        await mill.ends.of("job-1")
    assert mill.api.requests == []


# leases -------------------------------------------------------------------------------------------------------------


async def test_leases_are_renewed_while_a_call_takes_longer_than_one(mill):
    held = Held()
    mill.api.script = [held]
    async with mill.worker(lease=SHORT) as first, mill.worker(lease=SHORT) as second:
        await mill.submit(make_job())
        await mill.api.arrival()
        renewals = asyncio.Queue()
        for worker in (first, second):
            renew = worker.engine.leases._renew

            async def tell(leases, renew=renew):
                await renew(leases)
                renewals.put_nowait(len(leases))

            worker.engine.leases._renew = tell
        renewed = 0
        while renewed < 6:
            renewed += await renewals.get()
        held.release()
        await mill.ends.of("job-1")
    assert len(mill.api.requests) == 1


async def test_a_dead_workers_job_is_run_by_another_when_its_lease_has_run_out(mill):
    mill.api.script = [Held(), answering()]

    async def nothing():
        """A dead worker renews nothing."""

    async with mill.worker(lease=SHORT) as dies:
        await mill.submit(make_job())
        await mill.api.arrival()
        dies.engine.leases.renew = nothing
        dies.engine.claiming_paused = lambda: True
        async with mill.worker():  # its own lease must not run out, however slow the machine
            await mill.ends.of("job-1")
    result = await mill.store.result("job-1")
    assert [attempt.number for attempt in result.attempts] == [2]


async def test_a_worker_that_takes_over_its_own_job_makes_one_call_of_two(mill):
    """Redis was away for longer than a lease, or this process stood still."""
    mill.api.script = [Held(), answering()]
    async with mill.worker() as worker:
        await mill.submit(make_job())
        await mill.api.arrival()
        await mill.redis.zadd(keys.QUEUE, {"job-1": 2})  # its lease has run out; the next one must not, however slow
        worker.engine._wake.set()
        await mill.ends.of("job-1")
        await worker.finished()
    assert len(mill.api.requests) == 2
    assert [attempt.number for attempt in (await mill.store.result("job-1")).attempts] == [2]


async def test_a_worker_without_a_free_slot_says_that_redis_is_away(mill, monkeypatch):
    """It claims nothing, so that no claim of its own fails."""
    monkeypatch.setattr(engine, "BEAT", timedelta(0))
    held = Held()
    mill.api.script = [held]
    async with mill.worker(concurrency=1) as worker:
        await mill.submit(make_job())
        await mill.api.arrival()
        beat = worker.engine.heart_beat

        async def no_answer():
            raise ConnectionError

        worker.engine.heart_beat = no_answer
        await worker.says("redis_away")
        worker.engine.heart_beat = beat
        held.release()
        await mill.ends.of("job-1")
        await worker.says("redis_back")


async def test_a_redis_without_memory_is_not_away(mill, monkeypatch):
    """A round of canaries that finds no room is tried again at each beat: twice a second "away", and "back"."""
    monkeypatch.setattr(engine, "BEAT", timedelta(0))
    tried = asyncio.Queue()
    async with mill.worker() as worker:

        async def finds_no_room(_now):
            tried.put_nowait(True)
            raise OutOfMemoryError

        worker.engine._make_rounds = finds_no_room
        for number in range(3):
            await tried.get()
            await mill.submit(make_job(f"job-{number}"))
            await mill.ends.of(f"job-{number}")
        assert not worker._log.said["redis_away"].is_set()


async def test_a_worker_that_begins_drops_from_the_list_who_was_not_seen_for_a_day(mill, monkeypatch):
    """Killed ones strike nobody out, and would stay for ever."""
    now = datetime.now(UTC)
    said = {
        "killed": orjson.dumps({"seen_at": (now - timedelta(days=1, seconds=1)).isoformat()}),
        "stopped": orjson.dumps({"seen_at": (now - timedelta(hours=23)).isoformat()}),
        "strange": b"{",
        "stranger": b"[]",
        "of-tomorrow": b'{"seen_at": {}}',
    }
    await mill.redis.hset(keys.WORKERS, mapping=said)
    forgotten = asyncio.Event()
    forget = Queue.forget

    async def tell(queue, **how):
        await forget(queue, **how)
        forgotten.set()

    monkeypatch.setattr(Queue, "forget", tell)
    async with mill.worker():
        await forgotten.wait()
    left = {name.decode() for name in await mill.redis.hkeys(keys.WORKERS)}
    assert left == {"stopped", "strange", "stranger", "of-tomorrow"}


async def test_a_fault_in_the_pipeline_is_logged_without_content_and_the_job_is_tried_again(mill):
    prompt = {**REQUEST, "messages": [{"role": "user", "content": "PROMPTMARK"}]}
    with capture_logs() as logs:
        async with mill.worker(lease=SHORT) as worker:
            run_job = worker.engine.ctx["run_job"]

            async def crash_once(lease):
                worker.engine.ctx["run_job"] = run_job
                raise KeyError("PROMPTMARK")

            worker.engine.ctx["run_job"] = crash_once
            await mill.submit(make_job(request=prompt))
            await mill.ends.of("job-1")
    (crash,) = [entry for entry in logs if entry["event"] == "job_crashed"]
    assert crash.pop("where").startswith("test_engine.py:")
    assert crash == {"event": "job_crashed", "log_level": "error", "job": "job-1", "error": "KeyError"}
    assert "PROMPTMARK" not in repr(logs)
    assert (await mill.store.result("job-1")).ok


# things break ---------------------------------------------------------------------------------------------------------


async def test_a_redis_that_forgot_everything_is_told_the_limits_again(mill):
    """Otherwise the worker would ask for them for ever, as fast as it can."""
    async with mill.worker():
        await mill.submit(make_job("before"))
        await mill.ends.of("before")
        await mill.redis.flushall()
        await mill.submit(make_job("after"))
        await mill.ends.of("after")


async def test_a_crash_of_the_claim_loop_still_lets_running_calls_finish(mill):
    held = Held()
    mill.api.script = [held]

    async def crash(**_how):
        raise RuntimeError("a script that does not exist")

    async with mill.worker(dies=True) as worker:
        await mill.submit(make_job())
        await mill.api.arrival()
        worker.engine._queue.claim = crash
        worker.engine._wake.set()
        await worker.idle()
        held.release()
        with pytest.raises(RuntimeError, match="script"):
            await worker.ended()
    assert (await mill.store.result("job-1")).ok


async def test_a_helper_that_crashes_is_begun_again(mill):
    with capture_logs() as logs:
        async with mill.worker() as worker:
            beat = worker.engine.heart_beat
            beats = asyncio.Event()

            async def crash_once():
                async def go_on():
                    beats.set()
                    await beat()

                worker.engine.heart_beat = go_on
                raise ZeroDivisionError

            worker.engine.heart_beat = crash_once
            await beats.wait()
    (crash,) = [entry for entry in logs if entry["event"] == "helper_crashed"]
    assert crash["error"] == "ZeroDivisionError"
    assert crash["where"].startswith("test_engine.py:")


async def test_a_strangers_key_of_a_wrong_kind_stops_no_worker(mill):
    await mill.redis.set("arq:abort", "not a sorted set")
    with capture_logs() as logs:
        async with mill.worker() as worker:
            await worker.says("helper_crashed")
            await mill.submit(make_job())
            await mill.ends.of("job-1")
    assert {entry["event"] for entry in logs} >= {"helper_crashed", "job_ended"}


async def test_while_the_store_is_away_nothing_is_claimed(mill):
    away = True
    async with mill.worker() as worker:
        worker.engine.claiming_paused = lambda: away
        worker.engine._wake.set()
        await worker.idle()
        await mill.submit(make_job())
        await worker.idle()
        assert await mill.redis.zscore(keys.QUEUE, "job-1") == 1
        away = False
        await mill.ends.of("job-1")


async def test_a_worker_that_is_to_stop_at_once_waits_for_a_store_that_takes_its_time(mill, monkeypatch):
    """A lock is a failure after half a minute only: an answer given up before would be paid for again (I6)."""
    reached, goes_on, asked = asyncio.Event(), asyncio.Event(), asyncio.Queue()
    record = ResultStore.record

    async def take_time(store, entries):
        reached.set()
        await goes_on.wait()
        await record(store, entries)

    monkeypatch.setattr(ResultStore, "record", take_time)
    async with mill.worker(lease=SHORT, grace=timedelta(0)) as worker:
        holds_answers = worker.engine.holds_answers

        def tell():
            asked.put_nowait(holds_answers())
            return holds_answers()

        worker.engine.holds_answers = tell
        await mill.submit(make_job())
        await reached.wait()
        for _ in range(2):
            worker.engine.handle_sig(TERM)
        assert [await asked.get() for _ in range(2)] == [True, True]
        goes_on.set()
        await worker.ended()
    assert (await mill.store.result("job-1")).ok
    assert await mill.redis.zcard(keys.QUEUE) == 0
    assert len(mill.api.requests) == 1


async def test_a_worker_for_a_model_without_limits_refuses_to_begin(mill):
    async with mill.worker(dies=True, idle=False, model="claude-of-tomorrow") as worker:
        with pytest.raises(UnknownModel):
            await worker.ended()


def test_only_what_is_overridden_is_overridden():
    """arq calls these by name: one that it renamed would silently be its own again."""
    ours = {name for name in vars(PacedWorker) if not name.startswith("_") and hasattr(Worker, name)}
    assert ours == {"main", "close", "handle_sig", "handle_sig_wait_for_completion"}
