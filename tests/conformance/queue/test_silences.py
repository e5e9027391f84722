"""After Redis was away: who lives gets the time to renew before others take over what it runs (I6)."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from promptmill.queue import Disposition, Renewal
from tests.support.queues import LEASE, ids

TICK = 1
LEASE_MS = LEASE / timedelta(milliseconds=1)
SPARED_MS = LEASE_MS / 2


@pytest.fixture
async def claim(bench):
    """Job `a`, leased by the worker `first`, which has just renewed."""
    await bench.configure()
    await bench.submit("a")
    claim = await bench.claim_one(worker="first")
    await bench.queue.renew([claim], LEASE)
    return claim


async def test_after_a_silence_a_lease_that_ran_out_is_not_taken_over_at_once(bench, claim):
    bench.clock.advance(LEASE_MS * 5)
    assert ids(await bench.claim(worker="second")) == []
    bench.clock.advance(SPARED_MS - TICK)
    assert ids(await bench.claim(worker="second")) == []
    assert await bench.queue.renew([claim], LEASE) == [Renewal.OK]
    await bench.others_live_on(LEASE_MS - TICK)
    assert ids(await bench.claim(worker="second")) == [], "from then on it is held as any other"


async def test_it_makes_no_difference_who_is_heard_from_first(bench, claim):
    bench.clock.advance(LEASE_MS * 5)
    await bench.queue.renew([], LEASE)  # of a worker that holds nothing
    assert ids(await bench.claim(worker="second")) == []
    assert await bench.queue.renew([claim], LEASE) == [Renewal.OK]


async def test_a_lease_that_runs_out_shortly_after_a_silence_is_spared_as_well(bench, claim):
    bench.clock.advance(LEASE_MS - 3 * TICK)
    await bench.claim(worker="second")
    bench.clock.advance(3 * TICK)
    assert ids(await bench.claim(worker="second")) == []
    assert await bench.queue.renew([claim], LEASE) == [Renewal.OK]


async def test_what_the_dead_held_goes_on_half_a_lease_after_a_silence(bench, claim):
    """Whether Redis was away or everybody died, nobody can know who comes first; others do not wait for it."""
    await bench.submit("b")
    bench.clock.advance(LEASE_MS * 5)
    assert ids(await bench.claim(worker="second")) == ["b"]
    await bench.others_live_on(SPARED_MS - TICK)
    assert ids(await bench.claim(worker="second")) == []
    bench.clock.advance(TICK)
    again = await bench.claim_one(worker="second", most=1)
    assert (again.job_id, again.number, again.lost) == ("a", 2, 1)


async def test_a_silence_counts_once_also_where_nobody_renews(bench, claim):
    """Beside workers of 0.1.0, which renew without a word: jobs of the dead are not put off for ever."""
    bench.clock.advance(LEASE_MS * 5)
    assert ids(await bench.claim(worker="second")) == []
    bench.clock.advance(LEASE_MS)  # as long as another silence
    assert ids(await bench.claim(worker="second")) == ["a"]


async def test_the_only_worker_is_replaced_within_a_lease_also_where_that_takes_half_of_one(bench, claim):
    """It was killed a third after its newest renewal."""
    bench.clock.advance(LEASE_MS / 3 + LEASE_MS / 2)
    assert ids(await bench.claim(worker="second")) == []
    bench.clock.advance(LEASE_MS / 2)
    assert ids(await bench.claim(worker="second")) == ["a"]


async def test_a_worker_that_dies_among_others_is_replaced_as_soon_as_its_lease_ends(bench, claim):
    await bench.others_live_on(LEASE_MS)
    assert ids(await bench.claim(worker="second")) == ["a"]


async def test_half_a_lease_without_a_word_is_no_silence(bench, claim):
    bench.clock.advance(LEASE_MS / 2)
    await bench.others_live_on(LEASE_MS / 2)
    assert ids(await bench.claim(worker="second")) == ["a"]


async def test_as_soon_as_a_living_workers_lease_can_have_run_out_it_is_a_silence(bench):
    """It renewed a third of a lease before Redis went away; somebody else did at the last moment."""
    await bench.configure()
    await bench.submit("a")
    claim = await bench.claim_one(worker="first")
    await bench.others_live_on(LEASE_MS / 3)
    await bench.queue.renew([], LEASE)
    bench.clock.advance(LEASE_MS * 2 / 3)
    assert ids(await bench.claim(worker="second")) == []
    assert await bench.queue.renew([claim], LEASE) == [Renewal.OK]


async def test_a_second_silence_after_a_renewal_is_one_more(bench, claim):
    for _ in range(3):
        bench.clock.advance(LEASE_MS * 2)
        assert ids(await bench.claim(worker="second")) == []
        assert await bench.queue.renew([claim], LEASE) == [Renewal.OK]


async def test_strangers_and_cancelled_jobs_are_spared_as_others_are(bench, claim):
    await bench.redis.set("arq:job:s", b"whatever")
    await bench.redis.zadd("promptmill:queue", {"s": bench.clock()})
    (stranger,) = (await bench.claim(worker="first")).jobs
    assert stranger.disposition is Disposition.FOREIGN
    await bench.queue.cancel(["a"])
    bench.clock.advance(LEASE_MS * 2)
    assert ids(await bench.claim(worker="second")) == []
    assert await bench.queue.renew([stranger, claim], LEASE) == [Renewal.OK, Renewal.CANCELLED]


async def test_more_leases_than_one_call_looks_at_are_all_spared(bench):
    names = [f"j{n}" for n in range(250)]
    await bench.configure()
    await bench.submit(*names)
    held = (await bench.claim(worker="first", most=250)).jobs
    await bench.queue.renew(held, LEASE)
    bench.clock.advance(LEASE_MS * 2)
    waits = []
    while not waits or waits[-1] == timedelta(0):
        claims = await bench.claim(worker="second", most=10)
        assert claims.jobs == ()
        waits.append(claims.wait)
    assert len(waits) == math.ceil(250 / 110)
    assert await bench.queue.renew(held, LEASE) == [Renewal.OK] * 250
