"""What was spent, and lanes that rest because of it."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from promptmill.caps import NANO, CapReached, SpendCap
from promptmill.jobs import Lane
from promptmill.queue import Claim, Claims, Settlement, Snooze, keys
from promptmill.results import Status
from tests.support.queues import CLASS, LEASE, Bench, ids

OTHER = "opus-5"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
ALL = SpendCap(usd=Decimal(1), per="hour")


@pytest.fixture
async def open_bench(bench: Bench) -> Bench:
    """Limits that bind nobody; the clock stands at the beginning of a day."""
    bench.clock.now -= bench.clock.now % DAY_MS
    await bench.configure()
    await bench.configure(OTHER)
    return bench


async def claim(bench: Bench, *caps: SpendCap, most: int = 10, worker: str = "w") -> Claims:
    number = next(bench._claims)
    return await bench.queue.claim(worker=worker, lease=LEASE, most=most, token_prefix=f"{worker}.{number}", caps=caps)


async def settle(bench: Bench, claims: Claims | list[Claim], usd: str) -> list[bool]:
    jobs = claims.jobs if isinstance(claims, Claims) else claims
    spent = int(Decimal(usd) * NANO)
    return await bench.queue.settle([Settlement(job, Status.SUCCEEDED, spent_nano_usd=spent) for job in jobs])


async def spend(bench: Bench, usd: str, **fields: Any) -> None:
    """Let a job of its own cost so much."""
    await bench.submit("spender", **fields)
    assert await settle(bench, await claim(bench), usd) == [True]


async def test_an_answer_counts_in_the_hour_and_the_day_of_its_lane_and_class(open_bench):
    await spend(open_bench, "0.25")
    await spend(open_bench, "0.5", lane="overnight")
    await spend(open_bench, "0.000000001", budget=OTHER)
    hour, day = int(open_bench.clock.now) // HOUR_MS, int(open_bench.clock.now) // DAY_MS
    assert await open_bench.redis.hgetall(keys.SPEND) == {
        f"{per}:{scope}".encode(): f"{number} {nano}".encode()
        for per, number in (("hour", hour), ("day", day))
        for scope, nano in ((f"2:{CLASS}", 250_000_000), (f"3:{CLASS}", 500_000_000), (f"2:{OTHER}", 1))
    }


async def test_what_cost_nothing_or_nobody_knows_writes_nothing(open_bench):
    await spend(open_bench, "0")
    assert await open_bench.redis.exists(keys.SPEND) == 0


async def test_a_job_that_goes_back_counts_what_its_request_cost(open_bench):
    await open_bench.submit("a", "b")
    first, _second = (await claim(open_bench)).jobs
    await open_bench.queue.snooze(Snooze(first, wait=timedelta(hours=2), spent_nano_usd=NANO))
    await open_bench.submit("c")
    assert ids(await claim(open_bench, ALL)) == []


async def test_who_does_not_hold_the_lease_counts_nothing(open_bench):
    await open_bench.submit("a")
    lost = await claim(open_bench)
    open_bench.clock.advance(LEASE)
    again = await claim(open_bench)
    assert await settle(open_bench, lost, "5") == [False]
    assert ids(await claim(open_bench, ALL)) == []
    assert await settle(open_bench, again, "0.5") == [True]
    await open_bench.submit("b")
    assert ids(await claim(open_bench, ALL)) == ["b"]


@pytest.mark.parametrize(("usd", "goes"), [("0.999999999", True), ("1", False), ("1.000000001", False)])
async def test_a_cap_is_reached_at_its_last_nano_dollar(open_bench, usd, goes):
    await spend(open_bench, usd)
    await open_bench.submit("a")
    assert ids(await claim(open_bench, ALL)) == (["a"] if goes else [])


@pytest.mark.parametrize(("per", "length"), [("hour", HOUR_MS), ("day", DAY_MS)])
async def test_a_parked_lane_goes_on_when_the_hour_or_the_day_is_over(open_bench, per, length):
    cap = SpendCap(usd=Decimal(1), per=per)
    await spend(open_bench, "2")
    await open_bench.submit("a")
    open_bench.clock.advance(length - 1)
    assert ids(await claim(open_bench, cap)) == []
    open_bench.clock.advance(1)
    assert ids(await claim(open_bench, cap)) == ["a"]


async def test_what_was_spent_in_the_hour_before_does_not_count_in_the_next(open_bench):
    for _ in range(3):
        await spend(open_bench, "0.5")
        open_bench.clock.advance(HOUR_MS)
    await spend(open_bench, "0.4")
    await open_bench.submit("a")
    assert ids(await claim(open_bench, SpendCap(usd=Decimal("1.91"), per="day"), ALL)) == ["a"]
    await open_bench.submit("b")
    assert ids(await claim(open_bench, SpendCap(usd=Decimal("1.9"), per="day"))) == []


async def test_a_parked_worker_looks_again_within_a_second(open_bench):
    await spend(open_bench, "1")
    await open_bench.submit("a")
    assert (await claim(open_bench, ALL)).wait <= timedelta(seconds=1)


@pytest.mark.parametrize(
    ("scope", "left"),
    [
        ({}, []),
        ({"lane": Lane.STANDARD}, ["c/overnight", "o/overnight"]),
        ({"model_class": CLASS}, ["o/overnight", "o/standard"]),
        ({"lane": Lane.STANDARD, "model_class": CLASS}, ["c/overnight", "o/overnight", "o/standard"]),
        ({"lane": Lane.INTERACTIVE}, ["c/overnight", "c/standard", "o/overnight", "o/standard"]),
    ],
)
async def test_a_cap_parks_what_it_is_for_and_nothing_else(open_bench, scope, left):
    await spend(open_bench, "1")
    for name, budget in (("c", CLASS), ("o", OTHER)):
        for lane in ("standard", "overnight"):
            await open_bench.submit(f"{name}/{lane}", budget=budget, lane=lane)
    assert sorted(ids(await claim(open_bench, SpendCap(usd=Decimal(1), per="hour", **scope)))) == left


async def test_a_cap_over_several_lanes_adds_them_up(open_bench):
    await spend(open_bench, "0.5", lane="interactive")
    await spend(open_bench, "0.5", lane="overnight", budget=OTHER)
    await open_bench.submit("a")
    assert ids(await claim(open_bench, SpendCap(usd=Decimal(1), per="hour", model_class=CLASS))) == ["a"]
    await open_bench.submit("b")
    assert ids(await claim(open_bench, ALL)) == []


async def test_a_lane_that_is_owed_its_share_is_parked_all_the_same(open_bench):
    await spend(open_bench, "1", lane="overnight")
    await open_bench.submit("top", lane="interactive")
    await settle(open_bench, await claim(open_bench), "0")
    open_bench.clock.advance(60_000)
    await open_bench.submit("low", lane="overnight")
    assert ids(await claim(open_bench, SpendCap(usd=Decimal(1), per="hour", lane=Lane.OVERNIGHT))) == []
    assert ids(await claim(open_bench)) == ["low"]


async def test_jobs_that_only_have_to_be_ended_are_not_held_back(open_bench):
    await spend(open_bench, "1")
    await open_bench.submit("a")
    await open_bench.queue.cancel(["a"])
    assert [job.disposition for job in (await claim(open_bench, ALL)).jobs] == ["cancelled"]


async def test_a_worker_without_the_cap_is_not_bound_and_a_raised_cap_frees_at_once(open_bench):
    await spend(open_bench, "1")
    await open_bench.submit("a", "b")
    assert ids(await claim(open_bench, ALL)) == []
    assert ids(await claim(open_bench, SpendCap(usd=Decimal("1.01"), per="hour"), most=1)) == ["a"]
    assert ids(await claim(open_bench, most=1)) == ["b"]


# being told ----------------------------------------------------------------------------------------------------------


async def test_a_cap_that_only_warns_parks_nothing(open_bench):
    warning = SpendCap(usd=Decimal(1), per="hour", action="warn")
    await spend(open_bench, "1.5")
    await open_bench.submit("a")
    claims = await claim(open_bench, warning)
    assert (ids(claims), claims.reached) == (["a"], (CapReached(warning, Decimal("1.5")),))


async def test_one_worker_is_told_once_in_each_hour(open_bench):
    await spend(open_bench, "1")
    told = [(await claim(open_bench, ALL, worker=worker)).reached for worker in ("a", "b", "a")]
    assert told == [(CapReached(ALL, Decimal(1)),), (), ()]
    open_bench.clock.advance(HOUR_MS)
    assert (await claim(open_bench, ALL)).reached == ()
    await spend(open_bench, "3")
    assert [(await claim(open_bench, ALL)).reached for _ in range(2)] == [(CapReached(ALL, Decimal(3)),), ()]


async def test_each_of_several_caps_is_told_of(open_bench):
    caps = [SpendCap(usd=Decimal(usd), per=per, action=action) for usd, per, action in
            (("1", "hour", "warn"), ("9", "hour", "park"), ("2", "day", "park"))]  # fmt: skip
    await spend(open_bench, "2")
    reached = (await claim(open_bench, *caps)).reached
    assert [of.cap for of in reached] == [caps[0], caps[2]]
    await spend(open_bench, "7")
    assert [of.cap for of in (await claim(open_bench, *caps)).reached] == [caps[1]]


async def test_python_reads_from_redis_what_the_script_tells(open_bench):
    caps = [
        SpendCap(usd=Decimal("0.000000001"), per=per, lane=lane, model_class=model_class)
        for per in ("hour", "day")
        for lane in (None, Lane.INTERACTIVE, Lane.OVERNIGHT)
        for model_class in (None, CLASS, OTHER)
    ]
    for usd, lane, budget in (("1", "interactive", CLASS), ("2", "overnight", CLASS), ("4", "overnight", OTHER)):
        await spend(open_bench, usd, lane=lane, budget=budget)
    open_bench.clock.advance(HOUR_MS)
    await spend(open_bench, "8.000000001", lane="overnight", budget=OTHER)
    await open_bench.redis.hset(keys.SPEND, mapping={"": "", "hour:3:x": "nonsense", "day:3:opus-5x": "1 9"})
    told = {of.cap: of.spent_usd for of in (await claim(open_bench, *caps)).reached}
    stored = await open_bench.redis.hgetall(keys.SPEND)
    entries = {name.decode(): entry.decode() for name, entry in stored.items()}
    now = open_bench.clock.time()
    assert {cap: cap.spent(entries, now) for cap in caps if cap.spent(entries, now)} == told
    assert len(told) > len(caps) // 2


@pytest.mark.parametrize(
    ("per", "now", "end"),
    [
        ("hour", "2026-11-22T09:00:00Z", "2026-11-22T10:00:00Z"),
        ("hour", "2026-11-22T23:59:59.999999Z", "2026-11-23T00:00:00Z"),
        ("day", "2026-11-22T09:30:00Z", "2026-11-23T00:00:00Z"),
    ],
)
def test_an_hour_and_a_day_end_on_the_hour_and_at_midnight(per, now, end):
    cap = SpendCap(usd=Decimal(1), per=per)
    assert cap.ends_at(datetime.fromisoformat(now)) == datetime.fromisoformat(end)


# damage --------------------------------------------------------------------------------------------------------------


async def test_entries_that_a_stranger_wrote_count_nothing(open_bench):
    hour = int(open_bench.clock.now) // HOUR_MS
    strange = {
        f"hour:2:{CLASS}": "nonsense",
        f"hour:3:{CLASS}": f"{hour} -5000000000",
        f"hour:x:{CLASS}": f"{hour} 5000000000",
        f"week:2:{CLASS}": f"{hour} 5000000000",
        "": "",
    }
    await open_bench.redis.hset(keys.SPEND, mapping=strange)
    await open_bench.submit("a")
    assert ids(await claim(open_bench, ALL)) == ["a"]


async def test_a_large_sum_loses_nothing(open_bench):
    await spend(open_bench, "1000000")
    await spend(open_bench, "0.000000001")
    hour = int(open_bench.clock.now) // HOUR_MS
    assert await open_bench.redis.hget(keys.SPEND, f"hour:2:{CLASS}") == f"{hour} 1000000000000001".encode()


# the bill ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
async def test_a_fleet_goes_beyond_its_cap_by_no_more_than_was_in_flight(open_bench, seed):
    """Workers claim, answers come in any order and cost anything; once the cap is reached nothing more is sent."""
    chance, cap = random.Random(seed), SpendCap(usd=Decimal(2), per="hour", lane=Lane.STANDARD)
    await open_bench.submit(*(f"job-{number}" for number in range(120)))
    await open_bench.submit("elsewhere", lane="overnight")
    running: list[Claim] = []
    spent, in_flight_at_cap = Decimal(0), None
    for _ in range(400):
        if chance.random() < 0.5:
            claims = await claim(open_bench, cap, most=chance.randint(1, 8), worker=f"w{chance.randint(1, 4)}")
            running += [job for job in claims.jobs if job.lane is Lane.STANDARD]
            assert in_flight_at_cap is None or not any(job.lane is Lane.STANDARD for job in claims.jobs)
        elif running:
            job = running.pop(chance.randrange(len(running)))
            cost = Decimal(chance.randint(1, 100_000_000)) / NANO
            spent += cost
            if chance.random() < 0.1:
                back = Snooze(job, wait=timedelta(seconds=chance.randint(0, 1)), spent_nano_usd=int(cost * NANO))
                await open_bench.queue.snooze(back)
            else:
                assert await settle(open_bench, [job], str(cost)) == [True]
            if in_flight_at_cap is None and spent >= cap.usd:
                in_flight_at_cap = len(running)
        open_bench.clock.advance(chance.randint(0, 20))
    assert in_flight_at_cap is not None
    assert not running
    assert cap.usd <= spent <= cap.usd + (in_flight_at_cap + 1) * Decimal("0.1")
    assert await open_bench.redis.zcard(f"{keys.LANE}{CLASS}:2") > 0
