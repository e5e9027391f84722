"""Jobs that their owner stops, in whatever state they are."""

from __future__ import annotations

from datetime import timedelta

from promptmill.pacing import Pace
from promptmill.queue import Disposition, Renewal, Settlement, Snooze, Submitted
from promptmill.results import Status
from tests.support.queues import LEASE, ids, make_submission


async def test_a_ready_job_is_handed_out_to_be_ended_without_any_budget(bench):
    await bench.configure(requests=Pace(rate=1, burst=1))
    await bench.submit("spent", "a")
    await bench.claim_one()
    before = await bench.tats()
    assert await bench.queue.cancel(["a"]) == {"a": "CANCELLED"}
    claim = await bench.claim_one()
    assert (claim.job_id, claim.disposition) == ("a", Disposition.CANCELLED)
    assert await bench.tats() == before


async def test_a_waiting_job_is_handed_out_at_once(bench):
    await bench.configure()
    await bench.submit("a", not_before=bench.clock.time(3_600_000))
    assert await bench.queue.cancel(["a"]) == {"a": "CANCELLED"}
    assert (await bench.claim_one()).disposition is Disposition.CANCELLED


async def test_a_running_job_is_stopped_by_its_worker_which_learns_of_it_when_it_renews(bench):
    await bench.configure()
    await bench.submit("a")
    claim = await bench.claim_one()
    assert await bench.queue.cancel(["a"]) == {"a": "STOPPING"}
    assert ids(await bench.claim()) == []
    assert await bench.queue.renew([claim], LEASE) == [Renewal.CANCELLED]
    assert await bench.queue.settle([Settlement(claim, Status.CANCELLED)]) == [True]


async def test_a_job_that_was_answered_before_its_worker_heard_is_settled_as_answered(bench):
    await bench.configure()
    await bench.submit("a")
    claim = await bench.claim_one()
    await bench.queue.cancel(["a"])
    assert await bench.queue.settle([Settlement(claim, Status.SUCCEEDED)]) == [True]


async def test_a_job_cancelled_while_it_ran_and_then_given_back_is_only_ended(bench):
    await bench.configure()
    await bench.submit("a")
    claim = await bench.claim_one()
    await bench.queue.cancel(["a"])
    await bench.queue.snooze(Snooze(claim, wait=timedelta(hours=1)))
    assert (await bench.claim_one()).disposition is Disposition.CANCELLED


async def test_a_job_cancelled_while_it_ran_on_a_worker_that_then_died_is_only_ended(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.claim_one()
    await bench.queue.cancel(["a"])
    bench.clock.advance(LEASE)
    assert (await bench.claim_one()).disposition is Disposition.CANCELLED


async def test_a_job_handed_out_to_be_ended_comes_back_to_be_ended_if_its_worker_dies(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.queue.cancel(["a"])
    await bench.claim_one()
    bench.clock.advance(LEASE)
    claim = await bench.claim_one()
    assert (claim.disposition, claim.number) == (Disposition.CANCELLED, 2)


async def test_an_expired_job_that_is_cancelled_too_ends_as_cancelled(bench):
    await bench.configure()
    await bench.submit("a", "b", deadline=bench.clock.time(1_000))
    bench.clock.advance(1_000)
    expired = await bench.claim_one(most=1)
    assert await bench.queue.cancel(["a", "b"]) == {"a": "STOPPING", "b": "CANCELLED"}
    assert (await bench.claim_one()).disposition is Disposition.CANCELLED
    assert await bench.queue.settle([Settlement(expired, Status.EXPIRED)]) == [True]


async def test_cancelling_twice_says_the_same_and_changes_nothing(bench):
    await bench.configure()
    await bench.submit("queued", "runs")
    await bench.claim_one(most=1)
    first = await bench.queue.cancel(["queued", "runs"])
    before = await bench.dump()
    assert await bench.queue.cancel(["queued", "runs"]) == first
    assert await bench.dump() == before


async def test_a_job_that_nobody_knows_is_unknown_and_stays_so(bench):
    await bench.configure()
    await bench.submit("ended")
    await bench.queue.settle([Settlement(await bench.claim_one(), Status.SUCCEEDED, b"{}", timedelta(hours=1))])
    before = await bench.dump()
    unknown = ["ended", "never", "", "half \ud800 a pair", "no utf-8 \udcff"]
    assert await bench.queue.cancel(unknown) == dict.fromkeys(unknown, "UNKNOWN")
    assert await bench.dump() == before


async def test_cancelling_nothing_asks_nobody(bench):
    assert await bench.queue.cancel([]) == {}


async def test_a_cancelled_job_leaves_its_lane_to_those_behind_it(bench):
    await bench.configure()
    await bench.submit("a", "b")
    await bench.queue.cancel(["a"])
    claims = (await bench.claim()).jobs
    assert [(claim.job_id, claim.disposition) for claim in claims] == [
        ("a", Disposition.CANCELLED),
        ("b", Disposition.RUN),
    ]


async def test_a_cancelled_job_is_there_already_until_it_was_ended(bench):
    await bench.configure()
    await bench.submit("a")
    await bench.queue.cancel(["a"])
    assert await bench.queue.submit([make_submission("a")]) == [Submitted.THERE_ALREADY]
    assert (await bench.claim_one()).disposition is Disposition.CANCELLED
