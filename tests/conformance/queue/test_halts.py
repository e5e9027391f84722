"""Lanes that are paused, and models that no job falls back to, until somebody lets them go on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from promptmill.foresight import lane_left
from promptmill.halts import OWNER, Halt
from promptmill.jobs import Lane
from promptmill.queue import Disposition, Effect, Report, Snooze, keys
from promptmill.queue.held import why_held
from tests.support.queues import CLASS, LEASE, MODEL, Bench, ids

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture
async def open_bench(bench: Bench) -> Bench:
    """Limits that bind nobody."""
    await bench.configure()
    return bench


async def pause(bench: Bench, lane: str = "standard", **how) -> None:
    await bench.queue.halt("lane", lane, **{"by": OWNER, "why": "to see", **how})


async def test_nothing_is_claimed_from_a_paused_lane_and_the_others_go_on(open_bench):
    await open_bench.submit("a")
    await open_bench.submit("b", lane="overnight")
    await open_bench.submit("c", lane="interactive")
    await pause(open_bench)
    assert ids(await open_bench.claim()) == ["c", "b"]


async def test_what_runs_in_a_lane_that_is_paused_ends_as_ever(open_bench):
    await open_bench.submit("a")
    claim = await open_bench.claim_one()
    await pause(open_bench)
    await open_bench.queue.snooze(Snooze(claim, sent=False))
    assert ids(await open_bench.claim()) == []


async def test_resumed_jobs_go_in_their_order_and_have_used_up_nothing(open_bench):
    await open_bench.submit("a", "b", "c")
    await pause(open_bench)
    for _ in range(3):
        await open_bench.claim()
        open_bench.clock.advance(HOUR)
    assert await open_bench.queue.lift("lane", "standard", by=OWNER)
    jobs = (await open_bench.claim()).jobs
    assert [(job.job_id, job.number, job.attempts) for job in jobs] == [("a", 1, 0), ("b", 1, 0), ("c", 1, 0)]


async def test_a_job_of_a_paused_lane_can_be_cancelled_and_expires(open_bench):
    await open_bench.submit("a", "b")
    await open_bench.submit("c", deadline=open_bench.clock.time(10_000))
    await pause(open_bench)
    assert await open_bench.queue.cancel(["a"]) == {"a": "CANCELLED"}
    assert [job.disposition for job in (await open_bench.claim()).jobs] == [Disposition.CANCELLED]
    open_bench.clock.advance(10_000)
    (expired,) = (await open_bench.claim()).jobs
    assert (expired.job_id, expired.disposition) == ("c", Disposition.EXPIRED)


async def test_a_pause_with_an_end_is_over_then(open_bench):
    await open_bench.submit("a")
    await pause(open_bench, lasting=HOUR)
    open_bench.clock.advance(HOUR - timedelta(milliseconds=1))
    assert ids(await open_bench.claim()) == []
    open_bench.clock.advance(1)
    claims = await open_bench.claim()
    assert (ids(claims), claims.halts.all) == (["a"], ())
    assert set(await open_bench.redis.hkeys(keys.HALTS)) == {b"version"}


async def test_whoever_waits_for_a_paused_lane_looks_once_a_second_and_no_oftener(open_bench):
    await open_bench.submit(*(f"j{n}" for n in range(500)))
    await pause(open_bench)
    assert (await open_bench.claim()).wait == timedelta(seconds=1)
    open_bench.clock.advance(timedelta(seconds=1))
    assert (await open_bench.claim()).wait == timedelta(seconds=1)


async def test_a_worker_that_sleeps_is_woken_when_a_lane_goes_on(open_bench):
    await open_bench.submit("a")
    await pause(open_bench)
    await open_bench.claim(worker="sleeper")
    async with open_bench.redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.WAKE_CHANNEL + "sleeper")
        await pubsub.get_message(timeout=5)
        await open_bench.queue.lift("lane", "standard", by=OWNER)
        assert (await pubsub.get_message(timeout=5))["type"] == "message"


async def test_what_two_hold_back_goes_on_when_both_have_let_it_go(open_bench):
    await open_bench.submit("a")
    await pause(open_bench)
    await pause(open_bench, by="alarm 3", why="worse answers")
    assert await open_bench.queue.lift("lane", "standard", by=OWNER)
    assert ids(await open_bench.claim()) == []
    assert await open_bench.queue.lift("lane", "standard", by="alarm 3")
    assert not await open_bench.queue.lift("lane", "standard", by="alarm 3")
    assert ids(await open_bench.claim()) == ["a"]


async def test_everybody_learns_who_paused_what_since_when_until_when_and_why(open_bench):
    await pause(open_bench, lane="overnight", why="a new\nprompt: v2", lasting=HOUR)
    since = open_bench.clock.time()
    open_bench.clock.advance(MINUTE)
    await pause(open_bench, lane="overnight", why="later", lasting=HOUR)
    await open_bench.queue.halt("fallback", "our:model", by="alarm 3")
    told = [
        Halt("fallback", "our:model", "alarm 3", open_bench.clock.time(), None, ""),
        Halt("lane", "overnight", OWNER, since, open_bench.clock.time(3_600_000), "later"),
    ]
    claims = await open_bench.claim()
    assert list(claims.halts.all) == told
    assert claims.halts.lanes == {Lane.OVERNIGHT}
    assert claims.halts.fallbacks == {"our:model"}
    assert list((await open_bench.queue.halts(open_bench.clock())).all) == told
    assert (await open_bench.queue.halts(open_bench.clock() + 3_600_000)).lanes == frozenset()


async def test_whatever_a_terminal_hands_over_is_a_reason(open_bench):
    await pause(open_bench, why="caf\udce9 \x00 100%")
    (halt,) = (await open_bench.claim()).halts.all
    assert halt.why == "caf? \x00 100%"


async def test_nobody_knows_how_long_a_paused_lane_takes(open_bench):
    await open_bench.submit("a")
    await open_bench.claim()
    await open_bench.submit("b")
    await pause(open_bench)
    backlog = await open_bench.queue.backlog(CLASS)
    assert lane_left(backlog, Lane.STANDARD) is None
    assert lane_left(backlog, Lane.OVERNIGHT) is not None


async def test_a_run_says_which_of_its_lanes_is_paused(open_bench):
    await pause(open_bench, why="nina@host (new prompt)")
    await pause(open_bench, lane="overnight")
    held = await why_held(open_bench.redis, [CLASS], lanes={Lane.STANDARD})
    assert held == ("lane standard is paused by owner: nina@host (new prompt)",)


async def test_alarms_that_hold_back_the_same_are_one_entry_in_the_order_of_their_numbers(open_bench):
    for number in (10, 9, 2):
        await pause(open_bench, by=f"alarm {number}", why=f"metric {number} is worse")
    await pause(open_bench, by="alarm 9", lane="overnight", why="metric 9 is worse")
    assert await why_held(open_bench.redis, [CLASS], lanes={Lane.STANDARD}) == (
        "lane standard is paused by alarms 2, 9, 10: metric 2 is worse, and 2 more",
    )
    assert len(await why_held(open_bench.redis, [CLASS])) == 2


async def test_what_somebody_else_wrote_there_holds_back_nothing_and_stops_nobody(open_bench):
    await open_bench.submit("a")
    for field in ("lane:owner:2x", "lane:2", "fallback", "", "lane:owner:9", "odd:owner:2", "\udcff"):
        for entry in ("", "1 0", "x y z", f"1 {10**30} far", "-5 0 q"):
            await open_bench.redis.hset(keys.HALTS, field.encode("utf-8", "surrogateescape"), entry)
            claims = await open_bench.claim()
            assert claims.halts.lanes == frozenset()
            for claim in claims.jobs:
                await open_bench.queue.snooze(Snooze(claim, sent=False))


async def test_the_probe_of_a_class_that_is_out_is_none_of_a_paused_lane(open_bench):
    await open_bench.submit("a")
    claim = await open_bench.claim_one()
    await open_bench.queue.report(Report(claim, "bad_key", Effect.PARKS, 0.2, LEASE, LEASE))
    await open_bench.queue.snooze(Snooze(claim))
    await pause(open_bench)
    open_bench.clock.advance(MINUTE)
    assert ids(await open_bench.claim()) == []
    await open_bench.submit("b", lane="overnight")
    (probe,) = (await open_bench.claim()).jobs
    assert (probe.job_id, probe.probe) == ("b", True)


async def out_with_fallbacks(bench: Bench, *job_ids: str) -> None:
    """The class is out for so long that jobs ask their fallbacks, and the probe of this interval is under way."""
    await bench.submit(*job_ids, fallbacks=(MODEL,))
    claim = await bench.claim_one(most=1)
    report = Report(claim, "overloaded", Effect.PARKS, 0.2, HOUR, HOUR, fallback_after=timedelta(0))
    await bench.queue.report(report)
    await bench.queue.snooze(Snooze(claim))


async def test_a_job_without_a_fallback_left_is_handed_out_for_one_again_only_after_a_change(open_bench):
    await open_bench.queue.halt("fallback", MODEL, by="alarm 3")
    await out_with_fallbacks(open_bench, "a", "b")
    claims = await open_bench.claim()
    assert {job.disposition for job in claims.jobs} == {Disposition.REROUTE}
    for claim in claims.jobs:
        await open_bench.queue.snooze(Snooze(claim, sent=False, halted=claims.halts.version))
    for _ in range(3):
        open_bench.clock.advance(timedelta(minutes=20))
        again = await open_bench.claim()
        assert [job.disposition for job in again.jobs if not job.probe] == []
        for probe in again.jobs:
            await open_bench.queue.snooze(Snooze(probe, halted=claims.halts.version))
    await open_bench.queue.lift("fallback", MODEL, by="alarm 3")
    open_bench.clock.advance(HOUR)
    rerouted = [job.job_id for job in (await open_bench.claim()).jobs if job.disposition is Disposition.REROUTE]
    assert len(rerouted) == 1, "the other one is the probe"
