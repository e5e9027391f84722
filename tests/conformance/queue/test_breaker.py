"""A class that answers nobody, an account that is refused: one request at every interval finds out when it ends."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from promptmill.breaker import restart
from promptmill.errors import LeaseLost
from promptmill.jobs import Lane
from promptmill.pacing import DIMENSIONS, Budget, Cost, Pace, Ramp
from promptmill.queue import Claim, Disposition, Effect, Reply, Report, Settled, Settlement, Snooze, Standing
from promptmill.results import Status
from tests.support.queues import CLASS, LEASE, Bench, ids

INTERVAL = timedelta(seconds=30)
NOTHING = timedelta(0)
HOUR = timedelta(hours=1)
OTHER = "sonnet-5"
ENOUGH = 20
LONG_ENOUGH_MS = 10_000
"""So long nobody was answered where nobody knows how long answers take."""
RAMP = {"ramp_from": 0.0, "ramp_share": 1.0, "ramp_growth": 0.0}


async def report(bench: Bench, claim: Claim, **how) -> Standing:
    about = {
        "outcome": "overloaded",
        "effect": Effect.TRIPS,
        "retry_share": 1.0,
        "probe_every": INTERVAL,
        "outage_patience": timedelta(hours=6),
        "may_use_attempt": True,
    }
    return await bench.queue.report(Report(claim, **{**about, **how}))


async def fail(bench: Bench, claim: Claim, *, wait: timedelta = NOTHING, **how) -> Standing:
    """The request comes to nothing; the job goes back into its lane."""
    standing = await report(bench, claim, **how)
    await bench.queue.snooze(Snooze(claim, wait=wait))
    return standing


USED = Cost(1, 10, 20)


async def answer(bench: Bench, claim: Claim, *, used: Cost = USED) -> Settled:
    (settled,) = await bench.queue.settle([Settlement(claim, Status.SUCCEEDED, used=used)])
    assert settled is not Settled.LEASE_LOST
    return settled


async def dead_letter(bench: Bench, claim: Claim, reply: Reply) -> Settled:
    """The job ends without a result by what was replied."""
    (settled,) = await bench.queue.settle([Settlement(claim, Status.FAILED, used=Cost(1, 0, 0), failed_with=reply)])
    return settled


async def refuse(bench: Bench, claim: Claim, **how) -> Standing:
    return await fail(bench, claim, **{"outcome": "bad_key", "effect": Effect.PARKS, "may_use_attempt": False, **how})


async def go_out(bench: Bench, *job_ids: str, **how) -> None:
    """Let the class go out with these jobs in its standard lane, in this order."""
    await bench.configure()
    await bench.submit(*(job_ids or ("a", "b", "c")), **how.pop("fields", {}))
    (claim, *others) = (await bench.claim(most=50)).jobs
    for other in others:
        await bench.queue.snooze(Snooze(other, sent=False))
    await refuse(bench, claim, **how)


async def stored(bench: Bench, name: str) -> float | None:
    value = await bench.redis.hget(f"promptmill:budget:{CLASS}", name)
    return None if value is None else float(value)


async def is_open(bench: Bench) -> bool:
    return await stored(bench, "open_since") is not None


async def probe(bench: Bench) -> Claim:
    """Wait for the next probe, and let it go."""
    bench.clock.advance(INTERVAL)
    claim = await bench.claim_one(most=50)
    assert claim.probe
    return claim


# opening ------------------------------------------------------------------------------------------------------------


async def fail_in_a_row(bench: Bench, number: int, *, within_ms: float) -> list[Standing]:
    """As many requests of as many jobs come to nothing, evenly over a time."""
    await bench.configure()
    await bench.submit(*(f"j{n}" for n in range(number)))
    standings, began = [], bench.clock()
    for n, claim in enumerate((await bench.claim(most=number, lease=HOUR)).jobs):
        bench.clock.now = began + within_ms * n / (number - 1)
        standings.append(await fail(bench, claim))
    return standings


async def test_enough_failures_in_a_row_mean_that_the_class_is_out(bench):
    *before, last = await fail_in_a_row(bench, ENOUGH, within_ms=LONG_ENOUGH_MS)
    assert {(standing.is_out, standing.is_news) for standing in before} == {(False, False)}
    assert (last.is_out, last.is_news, last.to_blame) == (True, True, False)
    claims = await bench.claim(most=50)
    assert (claims.jobs, claims.wait) == ((), timedelta(seconds=1)), "nobody is sent, and somebody looks every second"


@pytest.mark.parametrize(
    ("failures", "within_ms"), [(ENOUGH - 1, LONG_ENOUGH_MS), (ENOUGH, LONG_ENOUGH_MS - 1), (200, LONG_ENOUGH_MS - 1)]
)
async def test_fewer_or_in_a_shorter_time_may_be_a_coincidence(bench, failures, within_ms):
    await fail_in_a_row(bench, failures, within_ms=within_ms)
    assert not await is_open(bench)


@pytest.mark.parametrize(("answers_take_ms", "long_enough_ms"), [(100, 2_000), (4_000, 8_000), (500_000, 60_000)])
async def test_long_enough_is_twice_as_long_as_answers_take(bench, answers_take_ms, long_enough_ms):
    await bench.configure()
    await bench.submit("answered")
    claim = await bench.claim_one(lease=HOUR)
    bench.clock.advance(answers_take_ms)
    await answer(bench, claim)
    bench.clock.advance(1)
    await fail_in_a_row(bench, ENOUGH, within_ms=long_enough_ms - 1)
    assert not await is_open(bench)
    bench.clock.advance(1)
    assert (await fail(bench, await bench.claim_one(most=1))).is_out


async def test_whoever_is_answered_meanwhile_shows_that_it_is_not_out(bench):
    await bench.configure()
    await bench.submit("answered", *(f"j{n}" for n in range(2 * ENOUGH)))
    straggler, *claims = (await bench.claim(most=100)).jobs
    for n, claim in enumerate(claims):
        bench.clock.advance(LONG_ENOUGH_MS / ENOUGH)
        await bench.queue.renew([straggler, *claims[n:]], LEASE)
        await fail(bench, claim)
        if n == ENOUGH - 2:
            await answer(bench, straggler)
    assert not await is_open(bench)


async def test_a_class_that_is_asked_once_a_minute_goes_out_as_well(bench):
    await bench.configure()
    for minute in range(ENOUGH):
        await bench.submit(f"j{minute}")
        standing = await fail(bench, await bench.claim_one(), wait=timedelta(days=1))
        bench.clock.advance(timedelta(minutes=1))
    assert standing.is_out


async def test_failures_of_another_day_do_not_count(bench):
    await fail_in_a_row(bench, ENOUGH - 1, within_ms=LONG_ENOUGH_MS)
    bench.clock.advance(timedelta(days=1))
    await bench.submit("today", lane=Lane.INTERACTIVE)
    assert not (await fail(bench, await bench.claim_one(most=1))).is_out


async def test_what_was_sent_before_a_request_that_was_answered_is_no_news(bench):
    """Requests that hung in an outage fail long after it."""
    await bench.configure()
    await bench.submit(*(f"hung{n}" for n in range(ENOUGH)))
    hung = (await bench.claim(most=ENOUGH, lease=HOUR)).jobs
    bench.clock.advance(1_000)
    await bench.submit("answered")
    await answer(bench, await bench.claim_one())
    for claim in hung:
        bench.clock.advance(LONG_ENOUGH_MS)
        await fail(bench, claim)
    assert await stored(bench, "failures") is None


async def test_failures_that_tell_nothing_of_the_provider_open_nothing(bench):
    await bench.configure()
    await bench.submit(*(f"j{n}" for n in range(2 * ENOUGH)))
    for claim in (await bench.claim(most=100, lease=HOUR)).jobs:
        bench.clock.advance(LONG_ENOUGH_MS)
        standing = await fail(bench, claim, outcome="conflict", effect=Effect.NONE)
        assert (standing.to_blame, standing.is_out) == (True, False)


async def test_a_class_is_out_by_itself(bench):
    await bench.configure(OTHER)
    await go_out(bench)
    await bench.submit("elsewhere", budget=OTHER)
    assert ids(await bench.claim()) == ["elsewhere"]


# probes -------------------------------------------------------------------------------------------------------------


async def test_one_request_goes_at_every_interval_whoever_asks(bench):
    await go_out(bench, *(f"j{n}" for n in range(9)))
    went = []
    for _ in range(100):
        bench.clock.advance(1_000)
        for worker in ("w1", "w2", "w3"):
            went += [(claim.probe, bench.clock()) for claim in (await bench.claim(worker=worker, lease=HOUR)).jobs]
    first = went[0][1]
    assert went == [(True, first + n * 30_000) for n in range(3)]


async def test_nobody_has_to_ask_before_the_next_probe(bench):
    await go_out(bench)
    bench.clock.advance(29_500)
    assert (await bench.claim()).wait == timedelta(milliseconds=500)


async def test_a_probe_that_is_answered_lets_all_go_on_at_half_the_rate_and_soon_at_all_of_it(bench):
    await go_out(bench)
    await answer(bench, await probe(bench))
    assert not await is_open(bench)
    assert len((await bench.claim(most=50)).jobs) == 2
    assert [await stored(bench, name) for name in ("ramp_from", "ramp_share", "ramp_growth")] == [bench.clock(), 0.5, 2]


async def test_a_ramp_that_was_gentler_stays_so(bench):
    await bench.configure(requests=Pace(rate=600, burst=1))
    await bench.queue.block(CLASS, timedelta(milliseconds=1), "ramp_limited")
    bench.clock.advance(1)
    await bench.submit("a", "b")
    await refuse(bench, await bench.claim_one())
    await answer(bench, await probe(bench))
    assert await stored(bench, "ramp_share") == 0.5
    assert await stored(bench, "ramp_growth") == pytest.approx(0.1)


MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("warm_up", "was_steep", "growth"),
    [
        (NOTHING, True, 2),
        (timedelta(seconds=5), False, 2),
        (3 * MINUTE, False, 0.25),
        (timedelta(seconds=5), True, 0.1),
    ],
)
async def test_a_class_that_is_back_rises_no_faster_than_after_a_rest(bench, warm_up, was_steep, growth):
    limits = {d: Pace(60_000, 1_000) for d in DIMENSIONS}
    await bench.queue.configure(CLASS, limits, warm_up=warm_up)
    if was_steep:
        await bench.queue.block(CLASS, timedelta(milliseconds=1), "ramp_limited")
    bench.clock.advance(HOUR)
    await bench.submit("earlier", "a", "b")
    await answer(bench, await bench.claim_one(most=1))
    bench.clock.advance(timedelta(seconds=50))
    await refuse(bench, await bench.claim_one(most=1))
    for _ in range(20):
        await refuse(bench, await probe(bench))
    claim = await probe(bench)
    budget = Budget(
        limits,
        ramp=Ramp(*[await stored(bench, name) or default for name, default in RAMP.items()]),
        warm_up=warm_up / timedelta(milliseconds=1),
        steep_at=await stored(bench, "steep_at"),
    )
    await answer(bench, claim)
    ramp = [await stored(bench, name) for name in RAMP]
    assert ramp == pytest.approx([bench.clock(), 0.5, growth])
    expected = restart(budget, bench.clock())
    assert ramp == pytest.approx([expected.begins, expected.share, expected.growth])


async def test_a_class_that_is_back_rises_when_the_pause_is_over_that_the_provider_asked_for(bench):
    await go_out(bench)
    bench.clock.advance(INTERVAL)
    one = await bench.claim_one(lease=HOUR)
    other = await probe(bench)
    await bench.queue.block(CLASS, MINUTE, "rate_limited", refused=one)
    await bench.queue.snooze(Snooze(one))
    bench.clock.advance(1_000)
    await answer(bench, other)
    assert [await stored(bench, name) for name in RAMP] == [bench.clock() + 59_000, 0.5, 1]
    expected = restart(Budget({}, blocked_until=bench.clock() + 59_000, ramp=Ramp(0, 0.5, 0)), bench.clock())
    assert expected.begins == bench.clock() + 59_000


async def test_whoever_waits_is_woken_when_a_probe_was_answered(bench):
    await go_out(bench)
    claim = await probe(bench)
    async with bench.redis.pubsub() as ears:
        await ears.subscribe("promptmill:wake:idle-one")
        await ears.get_message(timeout=5)
        await bench.claim(worker="idle-one")
        await answer(bench, claim)
        said = await ears.get_message(timeout=5)
    assert said["type"] == "message"


async def test_what_was_sent_before_it_went_out_does_not_bring_it_back(bench):
    await bench.configure()
    await bench.submit("long", "refused", "c")
    long, refused, _ = (await bench.claim(lease=HOUR)).jobs
    await refuse(bench, refused)
    await answer(bench, long)
    assert await is_open(bench)


async def test_a_probe_whose_answer_was_in_the_store_already_tells_nothing(bench):
    await go_out(bench)
    claim = await probe(bench)
    assert await bench.queue.settle([Settlement(claim, Status.SUCCEEDED, used=Cost(0, 0, 0))]) == [True]
    assert await is_open(bench)


async def test_a_probe_that_is_answered_without_usage_closes_it_as_well(bench):
    """Gateways tell what they like of tokens."""
    await go_out(bench)
    assert await answer(bench, await probe(bench), used=Cost(1, 0, 0)) is Settled.GOES_ON
    assert not await is_open(bench)


async def test_of_two_probes_that_are_answered_one_closes_it(bench):
    await go_out(bench)
    bench.clock.advance(INTERVAL)
    one = await bench.claim_one(lease=HOUR)
    other = await probe(bench)
    assert [await answer(bench, claim) for claim in (other, one)] == [Settled.GOES_ON, Settled.DONE]


async def test_a_model_that_refuses_has_answered(bench):
    await go_out(bench)
    assert await dead_letter(bench, await probe(bench), Reply.ANSWERED) is Settled.GOES_ON
    assert not await is_open(bench)


async def test_a_model_that_refuses_what_another_is_asked_next_has_answered(bench):
    await bench.configure(OTHER)
    await go_out(bench)
    elsewhere = Snooze(await probe(bench), route=1, budget=OTHER, reply=Reply.ANSWERED)
    assert await bench.queue.snooze(elsewhere) is Settled.GOES_ON
    assert not await is_open(bench)


async def test_a_model_that_refuses_is_not_out_whatever_fails_beside(bench):
    await bench.configure()
    await bench.submit(*(f"j{n}" for n in range(2 * ENOUGH)))
    claims = (await bench.claim(most=100, lease=HOUR)).jobs
    for n, claim in enumerate(claims):
        bench.clock.advance(LONG_ENOUGH_MS / ENOUGH)
        if n == ENOUGH - 2:
            assert await dead_letter(bench, claim, Reply.ANSWERED) is Settled.DONE, "it was not out"
        else:
            await fail(bench, claim)
    assert not await is_open(bench)


async def test_a_request_that_is_not_valid_shows_that_the_account_is_taken_again(bench):
    await go_out(bench)
    assert await dead_letter(bench, await probe(bench), Reply.TAKEN) is Settled.GOES_ON
    assert not await is_open(bench)


async def test_where_models_are_out_a_request_that_is_not_valid_lets_the_next_probe_go_at_once(bench):
    """What stands at the door goes on refusing while nobody behind it answers."""
    await go_out(bench, "bad", "good")
    await fail(bench, await probe(bench))
    bad = await probe(bench)
    assert (await bench.claim()).jobs == ()
    assert await dead_letter(bench, bad, Reply.TAKEN) is Settled.DONE
    assert await is_open(bench)
    assert (await bench.claim_one()).probe
    assert (await bench.claim()).jobs == (), "one, as ever"


async def test_what_the_api_said_to_a_request_from_before_the_outage_is_no_news(bench):
    await bench.configure()
    await bench.submit("bad", "odd", "refused", "d")
    bad, odd, refused, _ = (await bench.claim(lease=HOUR)).jobs
    await refuse(bench, refused)
    assert await dead_letter(bench, bad, Reply.TAKEN) is Settled.DONE
    assert await dead_letter(bench, odd, Reply.ANSWERED) is Settled.DONE
    assert await is_open(bench)


async def test_probes_that_failed_keep_their_places_in_the_lane(bench):
    await go_out(bench, *"abcdef")
    tried = []
    for _ in range(4):
        claim = await probe(bench)
        tried.append(claim.job_id)
        await refuse(bench, claim)
    await bench.queue.resume(CLASS)
    assert (tried, ids(await bench.claim())) == (list("abcd"), list("abcdef"))


async def test_however_lanes_change_no_job_is_the_only_one_that_is_tried(bench):
    await go_out(bench, *"abcd")
    tried = []
    for n in range(12):
        claim = await probe(bench)
        tried.append(claim.job_id)
        await refuse(bench, claim)
        if n % 3 == 0:
            await bench.queue.cancel([claim.job_id])
            await bench.submit(f"new{n}")
            for ended in (await bench.claim()).jobs:
                await bench.queue.settle([Settlement(ended, Status.CANCELLED)])
    assert all(one != next_one for one, next_one in itertools.pairwise(tried))


async def test_a_probe_from_the_middle_of_its_lane_sets_nobody_back_who_comes_anew(bench):
    """A newcomer starts level with those who are served; those behind whom others wait are not."""
    await bench.configure()
    await bench.submit(*(f"j{n}" for n in range(10)), tags={"tenant": "big"})
    await refuse(bench, await bench.claim_one(most=1))
    for _ in range(6):
        await refuse(bench, await probe(bench))
    await bench.submit("new", tags={"tenant": "small"})
    await bench.queue.resume(CLASS)
    assert ids(await bench.claim(most=50)).index("new") <= 2


async def test_a_probe_that_fails_keeps_it_out_and_another_job_is_tried_next(bench):
    await go_out(bench, "a", "b", "c")
    tried = []
    for _ in range(6):
        claim = await probe(bench)
        tried.append(claim.job_id)
        standing = await refuse(bench, claim)
        assert (standing.is_out, standing.is_news) == (True, False)
    assert tried == ["a", "b", "c", "a", "b", "c"]


async def test_a_probe_that_fails_goes_to_the_back_only_of_its_own_lane(bench):
    await go_out(bench, "interactive", fields={"lane": Lane.INTERACTIVE})
    await bench.submit("standard", "behind")
    await bench.submit("overnight", lane=Lane.OVERNIGHT)
    tried = []
    for _ in range(6):
        claim = await probe(bench)
        tried.append(claim.job_id)
        await refuse(bench, claim)
    assert tried == ["interactive", "standard", "overnight", "interactive", "behind", "overnight"]


@pytest.mark.parametrize("end", ["its worker died", "cancelled", "given back unsent", "dead letter", "still hangs"])
async def test_a_probe_that_tells_nothing_holds_up_nothing(bench, end):
    await go_out(bench, "a", "b")
    bench.clock.advance(INTERVAL)
    claim = await bench.claim_one(lease=HOUR if end == "still hangs" else LEASE)
    match end:
        case "cancelled":
            await bench.queue.cancel(["a"])
            await bench.queue.settle([Settlement(claim, Status.CANCELLED)])
        case "given back unsent":
            await bench.queue.snooze(Snooze(claim, sent=False))
        case "dead letter":
            await bench.queue.settle([Settlement(claim, Status.FAILED, used=Cost(1, 10, 0))])
    assert await is_open(bench)
    assert (await bench.claim()).jobs == ()
    assert (await probe(bench)).job_id == "b", "what was tried is not tried again before all others"


async def test_the_provider_says_how_long_everybody_is_to_wait(bench):
    await go_out(bench)
    await fail(bench, await probe(bench), retry_after=timedelta(minutes=2))
    bench.clock.advance(119_999)
    assert (await bench.claim()).jobs == ()
    bench.clock.advance(1)
    assert (await bench.claim_one()).probe


async def test_a_probe_waits_for_budget_like_any_request(bench):
    await go_out(bench)
    await bench.queue.block(CLASS, HOUR, "rate_limited")
    bench.clock.advance(INTERVAL)
    assert (await bench.claim()).jobs == ()
    bench.clock.advance(HOUR)
    assert len((await bench.claim()).jobs) == 1


async def test_what_is_cancelled_or_expires_ends_while_its_class_is_out(bench):
    await go_out(bench, "a", "b", fields={"deadline": bench.clock.time(5_000)})
    await bench.queue.cancel(["a"])
    assert [claim.disposition for claim in (await bench.claim()).jobs] == [Disposition.CANCELLED]
    bench.clock.advance(5_000)
    assert [claim.disposition for claim in (await bench.claim()).jobs] == [Disposition.EXPIRED]


# a worker that is cut off -------------------------------------------------------------------------------------------


async def find_no_connection(bench: Bench, claim: Claim, **how) -> Standing:
    return await fail(bench, claim, outcome="connection_failed", effect=Effect.UNREACHED, may_use_attempt=False, **how)


async def test_who_finds_no_connection_while_another_is_answered_is_cut_off_by_itself(bench):
    """It opens nothing, holds back no retry, and no job is the worse for it."""
    await bench.configure(requests=Pace(60, 1_000))
    await bench.submit("answered", "a", "b")
    good = await bench.claim_one(worker="good", most=1)
    bench.clock.advance(1_000)
    await answer(bench, good)
    for _ in range(3 * ENOUGH):
        claim = await bench.claim_one(worker="bad", most=1)
        standing = await find_no_connection(bench, claim)
        assert (standing.is_cut_off, standing.is_out, standing.to_blame) == (True, False, False)
        assert standing.wait == NOTHING
        bench.clock.advance(500 / ENOUGH)
    assert [await stored(bench, name) for name in ("failures", "retry_tat")] == [None, None]
    bench.clock.advance(1)
    assert not (await fail(bench, await bench.claim_one(worker="good", most=1))).to_blame, "its first own failure"


@pytest.mark.parametrize("answered", ["itself", "long ago", "nobody"])
async def test_where_nobody_else_is_answered_who_finds_no_connection_is_not_alone(bench, answered):
    await bench.configure()
    await bench.submit("first", *(f"j{n}" for n in range(ENOUGH)))
    first = await bench.claim_one(worker="bad" if answered == "itself" else "good", most=1)
    bench.clock.advance(4_000)
    if answered == "nobody":
        await bench.queue.snooze(Snooze(first, wait=HOUR, sent=False))
    else:
        await answer(bench, first)
    bench.clock.advance(8_001 if answered == "long ago" else 8_000)
    for claim in (await bench.claim(worker="bad", most=ENOUGH, lease=HOUR)).jobs:
        bench.clock.advance(LONG_ENOUGH_MS / (ENOUGH - 2))
        standing = await find_no_connection(bench, claim)
        assert not standing.is_cut_off
    assert standing.is_out


async def test_a_probe_of_a_worker_that_is_cut_off_does_not_undo_what_another_found_out(bench):
    await go_out(bench)
    bench.clock.advance(INTERVAL)
    one = await bench.claim_one(worker="good", lease=HOUR)
    other = await probe(bench)
    await answer(bench, one)
    standing = await find_no_connection(bench, other)
    assert (standing.is_cut_off, standing.is_out, await is_open(bench)) == (True, False, False)


# the account is refused ---------------------------------------------------------------------------------------------


async def test_one_refusal_of_the_account_is_enough_and_news_once(bench):
    await bench.configure()
    await bench.submit("a", "b", "c")
    first, *others = (await bench.claim()).jobs
    standing = await refuse(bench, first)
    assert (standing.is_out, standing.is_news) == (True, True)
    for claim in others:
        standing = await refuse(bench, claim)
        assert (standing.is_out, standing.is_news) == (True, False)
    assert (await bench.claim()).jobs == ()


async def test_an_outage_that_changes_its_face_is_no_news(bench):
    await go_out(bench)
    for outcome, is_news in (("overloaded", True), ("server_error", False), ("overloaded", False)):
        assert (await fail(bench, await probe(bench), outcome=outcome)).is_news == is_news
    assert await bench.redis.hget(f"promptmill:budget:{CLASS}", "open_reason") == b"overloaded"


async def test_another_reason_is_news_and_asked_at_its_own_interval(bench):
    await go_out(bench)
    standing = await refuse(bench, await probe(bench), outcome="spend_limit_reached", probe_every=HOUR)
    assert standing.is_news
    bench.clock.advance(HOUR - timedelta(milliseconds=1))
    assert (await bench.claim()).jobs == ()
    bench.clock.advance(1)
    claim = await bench.claim_one()
    assert (await fail(bench, claim)).is_news, "the limit was raised, but now the provider is overloaded"
    assert (await probe(bench)).probe


async def test_a_limit_that_ends_at_a_known_time_is_asked_then(bench):
    end = bench.clock.time(40 * 60_000)
    await go_out(bench, "a", "b", "c", "d", probe_every=timedelta(minutes=15), ends_at=end)
    asked = []
    for _ in range(70):
        bench.clock.advance(timedelta(minutes=1))
        asked += [
            minute
            for minute in [round((bench.clock.time() - end).total_seconds() / 60) + 40]
            for _ in (await bench.claim(lease=timedelta(days=1))).jobs
        ]
    assert asked == [15, 30, 40, 55]


async def test_a_refusal_of_what_was_sent_before_a_request_that_was_answered_parks_nothing(bench):
    await bench.configure()
    await bench.submit("old", "new")
    old = await bench.claim_one(most=1)
    bench.clock.advance(1)
    await answer(bench, await bench.claim_one())
    assert not (await refuse(bench, old)).is_out


async def test_a_refusal_that_parks_nothing_takes_no_place_among_the_retries(bench):
    await bench.configure(requests=Pace(60, 1_000))
    await bench.submit("old", "new")
    old = await bench.claim_one(most=1)
    bench.clock.advance(1)
    await answer(bench, await bench.claim_one())
    assert (await refuse(bench, old)).wait == NOTHING
    assert await stored(bench, "retry_tat") is None


async def test_a_key_that_is_refused_a_second_time_is_nobodys_fault(bench):
    await bench.configure()
    await bench.submit("a", "b")
    a, b = (await bench.claim()).jobs
    await refuse(bench, b)
    await bench.queue.snooze(Snooze(a, sent=False))
    await answer(bench, await probe(bench))
    bench.clock.advance(1)
    standing = await refuse(bench, await bench.claim_one())
    assert (standing.to_blame, standing.is_out, standing.is_news) == (False, True, True)


async def test_resume_lets_all_go_on_at_once_and_at_the_whole_rate(bench):
    await go_out(bench, "a", "b", "c")
    await bench.queue.resume(CLASS)
    claims = await bench.claim()
    assert (len(claims.jobs), {claim.probe for claim in claims.jobs}) == (3, {False})
    assert await stored(bench, "ramp_share") is None


# whose fault it is --------------------------------------------------------------------------------------------------


async def test_the_first_failure_of_a_job_is_nobodys_fault_yet(bench):
    await bench.configure()
    await bench.submit("a")
    assert not (await fail(bench, await bench.claim_one())).to_blame


async def test_in_an_outage_no_failure_is_the_jobs_fault(bench):
    await bench.configure()
    await bench.submit("a")
    for _ in range(100):
        assert not (await fail(bench, await bench.claim_one())).to_blame
        bench.clock.advance(INTERVAL)


async def others_are_answered(bench: Bench) -> None:
    bench.clock.advance(1)
    await bench.submit("good")
    for claim in (await bench.claim()).jobs:
        if claim.job_id == "good":
            await answer(bench, claim)
        else:
            await bench.queue.snooze(Snooze(claim, sent=False))


async def test_a_job_that_fails_again_while_others_are_answered_is_to_blame(bench):
    await bench.configure()
    await bench.submit("a")
    await fail(bench, await bench.claim_one())
    await others_are_answered(bench)
    for _ in range(2 * ENOUGH):  # and stays so, and is no news of the provider
        bench.clock.advance(INTERVAL)
        standing = await fail(bench, await bench.claim_one())
        assert (standing.to_blame, standing.is_out) == (True, False)


async def test_what_was_answered_before_a_job_failed_says_nothing_of_its_failure(bench):
    """Requests that were under way when the outage began end well for a while."""
    await bench.configure()
    await bench.submit("straggler", "a")
    straggler, a = (await bench.claim(lease=HOUR)).jobs
    bench.clock.advance(1)
    await fail(bench, a)
    await answer(bench, straggler)
    bench.clock.advance(1)
    assert not (await fail(bench, await bench.claim_one())).to_blame


async def test_a_probe_that_hung_past_the_end_of_the_outage_is_nobodys_fault(bench):
    """As it was sent nobody was answered; that others were meanwhile says nothing of it."""
    await go_out(bench, "hangs", "b")
    await fail(bench, await probe(bench), outcome="timed_out")
    await fail(bench, await probe(bench), outcome="timed_out")
    bench.clock.advance(INTERVAL)
    hangs = await bench.claim_one(lease=HOUR)
    await answer(bench, await probe(bench))
    assert not (await fail(bench, hangs, outcome="timed_out")).to_blame


async def test_while_its_class_is_out_no_job_is_to_blame(bench):
    await go_out(bench, "bad")
    await bench.queue.resume(CLASS)
    await fail(bench, await bench.claim_one())
    await others_are_answered(bench)
    assert (await fail(bench, await bench.claim_one())).to_blame
    bench.clock.advance(1)
    await bench.submit("refused")
    bad, refused = (await bench.claim()).jobs
    await refuse(bench, refused, wait=timedelta(days=1))
    await bench.queue.snooze(Snooze(bad, sent=False))
    assert not (await fail(bench, await probe(bench))).to_blame


async def test_what_always_fails_ends_even_where_nothing_shows_that_the_provider_works(bench):
    patience = timedelta(hours=6)
    await bench.configure()
    await bench.submit("a")
    began = bench.clock()
    while True:
        standing = await fail(bench, await bench.claim_one(), outage_patience=patience)
        if standing.to_blame:
            break
        bench.clock.advance(timedelta(minutes=1))
    assert bench.clock() - began == pytest.approx(patience.total_seconds() * 1_000, abs=120_000)
    assert standing.is_out, "and the class is still asked by one request at every interval"


async def test_another_model_judges_a_job_anew(bench):
    await bench.configure()
    await bench.configure(OTHER)
    await bench.submit("a")
    await fail(bench, await bench.claim_one())
    await others_are_answered(bench)
    claim = await bench.claim_one()
    await report(bench, claim)
    await bench.queue.snooze(Snooze(claim, route=1, budget=OTHER))
    assert not (await fail(bench, await bench.claim_one())).to_blame


async def test_who_lost_the_lease_tells_nothing(bench):
    await bench.configure()
    await bench.submit("a")
    claim = await bench.claim_one()
    bench.clock.advance(LEASE)
    await bench.claim_one(worker="other")
    before = await bench.dump()
    with pytest.raises(LeaseLost):
        await report(bench, claim, effect=Effect.PARKS)
    assert await bench.dump() == before


# retries ------------------------------------------------------------------------------------------------------------


async def waits_of(bench: Bench, number: int, **fields) -> list[float]:
    """How long (s) that many jobs that fail at once have to wait at a rate of one request a second."""
    await bench.configure(requests=Pace(rate=60, burst=1_000))
    await bench.submit(*(f"j{n}" for n in range(number)), **fields)
    claims = (await bench.claim(most=number)).jobs
    return [(await fail(bench, claim, retry_share=0.2)).wait.total_seconds() for claim in claims]


async def test_retries_take_at_most_a_share_of_the_rate_beyond_a_few(bench):
    assert await waits_of(bench, 14) == [0] * 10 + [5, 10, 15, 20]


async def test_whoever_waits_at_a_screen_does_not_wait_for_other_retries(bench):
    assert await waits_of(bench, 14, lane=Lane.INTERACTIVE) == [0] * 14


async def test_a_retry_that_is_answered_gives_its_place_back(bench):
    await waits_of(bench, 14)
    for claim in (await bench.claim(most=4)).jobs:
        await answer(bench, claim)
    failing = (await bench.claim(most=1)).jobs[0]
    assert (await fail(bench, failing, retry_share=0.2)).wait == timedelta(seconds=5)


async def test_what_was_retried_long_ago_does_not_count(bench):
    await waits_of(bench, 14)
    bench.clock.advance(HOUR)
    await bench.submit("later")
    claim = await bench.claim_one(most=1)
    assert (await fail(bench, claim, retry_share=0.2)).wait == NOTHING


# other models -------------------------------------------------------------------------------------------------------


async def out_for_half_a_minute(bench: Bench, *submissions: tuple[str, tuple[str, ...]], **how) -> None:
    await bench.configure()
    for name, fallbacks in submissions:
        await bench.submit(name, fallbacks=fallbacks)
    (claim, *others) = (await bench.claim(most=500)).jobs
    for other in others:
        await bench.queue.snooze(Snooze(other, sent=False))
    await refuse(bench, claim, **{"fallback_after": timedelta(seconds=20), "probe_every": HOUR, **how})
    bench.clock.advance(timedelta(seconds=30))


MODEL = "claude-sonnet-5-5"


async def test_after_a_time_jobs_that_may_ask_another_model_are_handed_out_to_do_so(bench):
    await out_for_half_a_minute(bench, ("a", ()), ("b", (MODEL,)), ("c", ()), ("d", (MODEL,)))
    claims = (await bench.claim()).jobs
    assert [(claim.job_id, claim.disposition) for claim in claims] == [
        ("b", Disposition.REROUTE),
        ("d", Disposition.REROUTE),
    ]
    assert {claim.reserved.input for claim in claims} == {0}, "no request is sent for it"
    await bench.configure(OTHER)
    for claim in claims:
        await bench.queue.snooze(Snooze(claim, sent=False, route=1, budget=OTHER))
    claims = (await bench.claim()).jobs
    assert [(claim.job_id, claim.disposition, claim.route, claim.number) for claim in claims] == [
        ("b", Disposition.RUN, 1, 1),
        ("d", Disposition.RUN, 1, 1),
    ]


@pytest.mark.parametrize("how", [{"fallback_after": None}, {"fallback_after": timedelta(seconds=31)}])
async def test_nobody_asks_another_model_before_its_time_or_where_that_could_not_help(bench, how):
    await out_for_half_a_minute(bench, ("a", (MODEL,)), **how)
    assert (await bench.claim()).jobs == ()


async def test_where_all_may_ask_another_model_one_still_finds_out_whether_this_one_is_back(bench):
    await out_for_half_a_minute(bench, ("a", (MODEL,)), ("b", (MODEL,)), probe_every=timedelta(seconds=25))
    claims = (await bench.claim()).jobs
    assert {(claim.job_id, claim.disposition, claim.probe) for claim in claims} == {
        ("a", Disposition.RUN, True),
        ("b", Disposition.REROUTE, False),
    }
    await bench.submit("c", fallbacks=(MODEL,))
    assert (await bench.claim_one()).disposition is Disposition.REROUTE, "the next probe is not due yet"
    await answer(bench, next(claim for claim in claims if claim.probe))
    bench.clock.advance(1_000)
    await bench.submit("d", fallbacks=(MODEL,))
    assert (await bench.claim_one()).disposition is Disposition.RUN


async def test_who_asks_the_last_model_that_it_may_waits_for_it(bench):
    await out_for_half_a_minute(bench, ("a", ()), ("b", (MODEL,)))
    claim = await bench.claim_one()
    await bench.queue.snooze(Snooze(claim, sent=False, route=1))
    bench.clock.advance(timedelta(seconds=1))
    assert (await bench.claim()).jobs == ()


async def test_who_comes_in_before_what_was_looked_at_is_found_in_the_next_round(bench):
    """A tenant that comes anew stands near the head of the lane. Probes may be hours apart: rounds are not."""
    names = [(f"j{n}", ()) for n in range(20)]
    await out_for_half_a_minute(bench, *names)
    await bench.submit(*(f"k{n}" for n in range(20)))
    assert (await bench.claim()).jobs == ()
    await bench.submit("newcomer", fallbacks=(MODEL,), tags={"tenant": "another"})
    assert await bench.redis.zrank(f"promptmill:lane:{CLASS}:2", "newcomer") < 2 * len(names), "not at the end"
    bench.clock.advance(29_000)
    assert (await bench.claim()).jobs == (), "not a lane of thousands at every call"
    bench.clock.advance(1_000)
    assert ids(await bench.claim()) == ["newcomer"]


async def test_a_long_lane_is_looked_through_a_part_at_a_time_once_in_a_round(bench):
    names = [f"j{n:03}" for n in range(300)]
    rerouted = {"j000", "j150", "j299"}
    await out_for_half_a_minute(bench, *((name, (MODEL,) if name in rerouted else ()) for name in names))
    found = []
    for _ in range(5):
        claims = await bench.claim(most=2, lease=HOUR)
        found += ids(claims)
        if claims.wait:
            break
    assert set(found) == rerouted
    await bench.submit("newcomer", fallbacks=(MODEL,))
    assert ids(await bench.claim()) == ["newcomer"]


async def test_when_the_class_is_back_nobody_asks_another_model(bench):
    await out_for_half_a_minute(bench, ("a", ()), probe_every=timedelta(seconds=25))
    await answer(bench, await bench.claim_one())
    await bench.submit("b", fallbacks=(MODEL,))
    bench.clock.advance(1_000)
    assert (await bench.claim_one()).disposition is Disposition.RUN


# the provider's status page -------------------------------------------------------------------------------------------


async def out_by_failures(bench: Bench) -> None:
    await fail_in_a_row(bench, ENOUGH, within_ms=LONG_ENOUGH_MS)
    assert await is_open(bench)


async def test_when_the_page_says_that_it_is_over_the_next_probe_goes_at_once_and_the_one_behind_it_in_its_time(bench):
    await out_by_failures(bench)
    assert await bench.queue.hasten(CLASS)
    assert (await bench.claim_one(lease=HOUR)).probe
    assert await is_open(bench), "a word of the provider closes nothing"
    bench.clock.advance(INTERVAL - timedelta(milliseconds=1))
    assert (await bench.claim()).jobs == ()


async def test_a_page_hastens_nothing_that_it_knows_nothing_of(bench):
    await bench.configure()
    assert not await bench.queue.hasten(CLASS), "it is not out"
    await out_by_failures(bench)
    await fail(bench, await probe(bench), retry_after=timedelta(minutes=2))
    assert not await bench.queue.hasten(CLASS), "the provider itself asked for a wait"
    await bench.queue.resume(CLASS)
    await refuse(bench, await bench.claim_one(most=1))
    assert not await bench.queue.hasten(CLASS), "the account is refused"
    assert not await bench.queue.hasten("unknown")


# what somebody may have changed by hand -----------------------------------------------------------------------------


async def test_after_a_breaker_was_deleted_by_hand_lanes_go_in_their_order_again(bench):
    await go_out(bench, "a", "b", fields={"lane": Lane.INTERACTIVE})
    await refuse(bench, await probe(bench))
    await bench.submit("owed", "later", lane=Lane.OVERNIGHT)
    await bench.redis.hdel(f"promptmill:budget:{CLASS}", "open_since")
    bench.clock.advance(INTERVAL)
    assert ids(await bench.claim(most=4)) == ["owed", "a", "b", "later"]


@pytest.mark.parametrize("how", ["deleted", "no number"])
async def test_whatever_field_somebody_damages_claims_and_reports_go_on(bench, how):
    await go_out(bench, *(f"j{n}" for n in range(60)), fallback_after=NOTHING)
    for name in ("answered", "answer_ms", "failures", "failing_since", "failed_at", "retry_tat", "retry_step"):
        await bench.redis.hset(f"promptmill:budget:{CLASS}", name, "1000")
    key = f"promptmill:budget:{CLASS}"
    fields = await bench.redis.hgetall(key)
    assert {b"open_since", b"open_until", b"probe_at", b"probe_every", b"reroute_at"} < fields.keys()
    for name in fields:
        if name.partition(b"_")[0] in {b"requests", b"input", b"output"}:
            continue  # limits are other tests' concern
        await bench.redis.delete(key)
        await bench.redis.hset(key, mapping=fields)
        bench.clock.advance(INTERVAL)
        claim, *others = (await bench.claim(most=3, lease=HOUR)).jobs
        for other in others:
            await bench.queue.snooze(Snooze(other, sent=False))
        if how == "deleted":
            await bench.redis.hdel(key, name)
        else:
            await bench.redis.hset(key, name, "whatever")
        await bench.queue.renew([claim], HOUR)
        await fail(bench, claim)
        bench.clock.advance(INTERVAL)
        claim, *others = (await bench.claim(most=3, lease=HOUR)).jobs
        for other in others:
            await bench.queue.snooze(Snooze(other, sent=False))
        await answer(bench, claim)
