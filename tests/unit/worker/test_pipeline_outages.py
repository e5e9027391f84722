"""A worker while its provider answers nobody, or refuses the account: what it sends, what it says, what jobs pay."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from promptmill.queue import keys, prepare
from promptmill.results import Status
from tests.support.providers import answering, failing
from tests.support.workers import make_job, make_settings
from tests.unit.worker.tables import OTHER, outcomes

SECOND = timedelta(seconds=1)
PARKED = {
    "event": "budget_parked",
    "log_level": "error",
    "model_class": "haiku-5-5",
    "outcome": "bad_key",
    "says": "the API key was refused: set a valid ANTHROPIC_API_KEY",
    "probe_s": 30.0,
}
REFUSED = failing(401, "authentication_error", "invalid bearer token")


def of_budgets(logs):
    return [entry for entry in logs if entry["event"].startswith(("budget", "breaker"))]


async def everything_at_once(shop):
    leases = await shop.claim(50)
    await asyncio.gather(*map(shop.run, leases))
    return len(leases)


@pytest.fixture
async def parked(shop):
    """Five jobs met a key that was revoked, all at once."""
    shop.api.script = [REFUSED]
    await shop.submit(*(make_job(f"job-{n}") for n in range(5)))
    with capture_logs() as logs:
        assert await everything_at_once(shop) == 5
    return shop, logs


async def test_a_refused_account_is_said_loudly_once_and_keeps_its_jobs(parked):
    """Fifty calls under way meet a key that was revoked: one loud line, not fifty, and none more at each probe."""
    shop, logs = parked
    assert of_budgets(logs) == [PARKED]
    assert await shop.work() == 0
    assert await shop.redis.zcard(keys.QUEUE) == 5
    with capture_logs() as logs:
        for _ in range(10):
            shop.clock.advance(30 * SECOND)
            assert await everything_at_once(shop) == 1, "one request finds out, not all of them"
    assert of_budgets(logs) == []
    assert len(shop.api.requests) == 15


async def test_work_goes_on_by_itself_when_the_account_is_mended(parked):
    shop, _ = parked
    shop.api.script = [answering()]
    shop.clock.advance(30 * SECOND)
    with capture_logs() as logs:
        assert await everything_at_once(shop) == 1
    assert of_budgets(logs) == [{"event": "breaker_closed", "log_level": "info", "model_class": "haiku-5-5"}]
    await shop.run_to_end()
    results = [await shop.store.result(f"job-{n}") for n in range(5)]
    assert {result.status for result in results} == {Status.SUCCEEDED}


async def test_work_goes_on_at_once_when_its_owner_says_so(parked):
    shop, _ = parked
    shop.api.script = [answering()]
    await shop.queue.resume("haiku-5-5")
    assert await everything_at_once(shop) == 5


async def test_a_spend_limit_is_seldom_asked_and_not_forgotten_when_the_month_ends(shop):
    shop.api.script = [failing(429, "rate_limit_error", code="enforced_spend_limit_reached"), answering()]
    await shop.submit(make_job())
    with capture_logs() as logs:
        await shop.work()
    (entry,) = of_budgets(logs)
    assert (entry["outcome"], entry["probe_s"]) == ("spend_limit_reached", 900.0)
    until = float(await shop.redis.hget(f"{keys.BUDGET}haiku-5-5", "open_until"))
    end = shop.now() + timedelta(milliseconds=until - shop.clock.now)
    assert (end.day, end.hour, end.minute, end.second) == (1, 0, 0, 0)
    shop.clock.advance(timedelta(minutes=15))
    assert await shop.work() == 1


async def test_a_park_is_said_even_while_a_pause_lasts(shop):
    shop.api.script = [failing(429, "rate_limit_error", headers={"retry-after": "60"}), REFUSED]
    await shop.submit(make_job("a"), make_job("b"))
    with capture_logs() as logs:
        await shop.work()
    assert [entry["event"] for entry in of_budgets(logs)] == ["budget_paused", "budget_parked"]


async def test_what_some_jobs_alone_may_not_do_ends_those_jobs_and_parks_nobody(shop):
    """A permission that some requests need: the rest of the class is answered by the same key."""
    names = [f"{kind}-{number}" for number in range(10) for kind in ("odd", "fine")]

    async def refuses_the_odd_ones(request):
        return await (failing(403, "permission_error") if request.job.startswith("odd") else answering())(request)

    shop.api.script = [refuses_the_odd_ones]
    await shop.submit(*map(make_job, names))
    with capture_logs() as logs:
        await shop.work()
        for number in range(30):
            shop.clock.advance(4 * SECOND)
            await shop.submit(make_job(f"later-{number}"))
            await shop.work()
    assert of_budgets(logs) == []
    results = {name: await shop.store.result(name) for name in names}
    assert {result.error.name for name, result in results.items() if name.startswith("odd")} == {"not_permitted"}
    assert max(len(result.attempts) for result in results.values()) <= 6
    assert {result.status for name, result in results.items() if name.startswith("fine")} == {Status.SUCCEEDED}


async def test_what_a_proxy_refuses_of_one_job_alone_ends_that_job_however_many_workers_are_answered(shop):
    """To each of them it looks cut off by itself at first: the other one is answered all the time."""

    async def refuses_the_odd_one(request):
        return await (failing(404) if request.job == "odd" else answering())(request)

    shop.api.script = [refuses_the_odd_one]
    await shop.submit(make_job("odd"))
    for number in range(90):
        shop.name = f"worker-{number % 2}"
        await shop.submit(make_job(f"fine-{number}"))
        await shop.work()
        shop.clock.advance(SECOND)
    result = await shop.store.result("odd")
    assert (result.status, set(outcomes(result))) == (Status.FAILED, {"foreign_error"})
    assert len(result.attempts) <= 2 * shop.settings.max_attempts + 1


async def test_a_permission_that_the_whole_key_lacks_parks_its_class_once_enough_were_refused(shop):
    shop.api.script = [failing(403, "permission_error")]
    await shop.submit(*(make_job(f"job-{number}") for number in range(25)))
    with capture_logs() as logs:
        for _ in range(10):
            await shop.work()
            shop.clock.advance(2 * SECOND)
    assert [(entry["event"], entry["outcome"]) for entry in of_budgets(logs)] == [("budget_parked", "not_permitted")]
    assert await shop.redis.hget(f"{keys.BUDGET}haiku-5-5", "open_effect") == b"parks"
    assert await shop.redis.zcard(keys.QUEUE) == 25


async def go_out(shop, step, *jobs):
    """Let these jobs be tried in vain until their class is out."""
    shop.api.script = [step]
    await shop.submit(*jobs)
    with capture_logs() as logs:
        for _ in range(100):
            await shop.work()
            if said := [entry for entry in of_budgets(logs) if entry["event"] == "breaker_opened"]:
                return said
            shop.clock.advance(5 * SECOND)
    raise AssertionError("never out")


@pytest.mark.parametrize(
    ("step", "outcome"),
    [(failing(529), "overloaded"), (failing(500, "api_error"), "server_error"), (failing(504), "gateway_timeout")],
    ids=["529", "500", "504"],
)
async def test_an_outage_is_said_once_and_uses_up_no_attempts(shop, step, outcome):
    (said,) = await go_out(shop, step, *(make_job(f"job-{n}", max_attempts=1) for n in range(10)))
    assert (said["outcome"], said["log_level"], said["probe_s"]) == (outcome, "warning", 30.0)
    before = len(shop.api.requests)
    with capture_logs() as logs:
        for _ in range(20):
            shop.clock.advance(30 * SECOND)
            await shop.work()
    assert len(shop.api.requests) - before == 20
    assert of_budgets(logs) == []
    shop.api.script = [answering()]
    await shop.run_to_end(most=1_000)
    results = [await shop.store.result(f"job-{n}") for n in range(10)]
    assert {result.status for result in results} == {Status.SUCCEEDED}


async def test_a_job_that_always_fails_becomes_a_dead_letter_while_others_are_answered(shop):
    async def fails_one(request):
        return await (failing(500, "api_error") if request.job == "bad" else answering())(request)

    shop.api.script = [fails_one]
    await shop.submit(make_job("bad", max_attempts=3))
    for number in range(20):
        shop.clock.advance(10 * SECOND)
        await shop.work()
        shop.clock.advance(timedelta(milliseconds=1))
        await shop.submit(make_job(f"good-{number}"))
        await shop.work()
    result = await shop.store.result("bad")
    assert outcomes(result) == ["server_error"] * 4, "the first is nobody's fault yet"
    assert (await shop.store.dead_letter("bad")).attempts == 3


async def test_after_a_time_jobs_ask_their_fallback_without_trying_again(shop):
    names = [f"job-{n}" for n in range(10)]
    await go_out(shop, failing(529), *(make_job(name, fallbacks=(OTHER,) if name == "job-3" else ()) for name in names))
    shop.clock.advance(30 * SECOND)
    with capture_logs() as logs:
        assert await everything_at_once(shop) == 2, "the probe, and the one that may ask another model"
    assert [entry for entry in logs if entry["event"] == "job_rerouted"] == [
        {"event": "job_rerouted", "log_level": "info", "job": "job-3", "model": "claude-haiku-5-5", "next": OTHER}
    ]
    record = await shop.record_of("job-3")
    assert (record["route"], record["budget"], record["attempts"]) == (1, "sonnet-5", 0)
    shop.api.script = [answering(model=OTHER)]
    await shop.work()
    result = await shop.store.result("job-3")
    assert (result.status, result.model) == (Status.SUCCEEDED, OTHER)


async def test_a_fallback_whose_limits_this_worker_does_not_know_is_left_to_others(shop):
    await go_out(shop, failing(529), *(make_job(f"job-{n}") for n in range(10)))
    knows_more = make_settings(budgets={"new": {"models": ("claude-of-tomorrow",)}})
    job = make_job("new", fallbacks=("claude-of-tomorrow",), lane="overnight")
    await shop.queue.submit([prepare(job, knows_more, now=shop.now())])
    shop.clock.advance(30 * SECOND)
    await everything_at_once(shop)
    record = await shop.record_of("new")
    assert (record["state"], record["route"], record["budget"], record["claims"]) == ("w", 0, "haiku-5-5", 0)


async def test_a_stopped_fallback_is_passed_over_and_a_job_that_has_no_other_stays(shop):
    third = "claude-opus-5"
    await shop.queue.halt("fallback", OTHER, by="alarm 1")
    fallbacks = {"job-3": (OTHER,), "job-4": (OTHER, third)}
    names = [f"job-{n}" for n in range(10)]
    await go_out(shop, failing(529), *(make_job(name, fallbacks=fallbacks.get(name, ())) for name in names))
    claims = (await shop.record_of("job-3"))["claims"]
    shop.clock.advance(30 * SECOND)
    assert await everything_at_once(shop) == 3, "the probe, and those that may ask another model"
    stays, goes_on = await shop.record_of("job-3"), await shop.record_of("job-4")
    assert (stays["state"], stays["route"], stays["budget"], stays["claims"]) == ("r", 0, "haiku-5-5", claims)
    assert (goes_on["route"], goes_on["budget"]) == (2, "opus-5")
    shop.clock.advance(30 * SECOND)
    assert await everything_at_once(shop) == 2, "the probe, and the one that goes to its second fallback"
    await shop.queue.lift("fallback", OTHER, by="alarm 1")
    shop.clock.advance(30 * SECOND)
    await everything_at_once(shop)
    assert (await shop.record_of("job-3"))["route"] == 1


async def test_while_all_models_are_out_a_job_whose_last_fallback_is_stopped_goes_round_no_further(shop):
    third = "claude-opus-5"
    await shop.queue.halt("fallback", third, by="alarm 1")
    now = shop.clock.now
    out = {"open_since": now, "open_reason": "overloaded", "open_effect": "trips", "open_until": 0}
    for model_class in ("haiku-5-5", "sonnet-5"):
        soon = {"probe_at": now + 3_600_000, "probe_every": 30_000, "reroute_at": now}
        await shop.redis.hset(f"{keys.BUDGET}{model_class}", mapping={**out, **soon})
    await shop.submit(make_job("job", fallbacks=(OTHER, third)))
    handed_out = [await everything_at_once(shop) for _ in range(10)]
    assert sum(handed_out) == 2, "to the second model, and to find that there is no third one"
    record = await shop.record_of("job")
    assert (record["state"], record["route"], record["budget"]) == ("r", 1, "sonnet-5")
    await shop.queue.lift("fallback", third, by="alarm 1")
    shop.clock.advance(30 * SECOND)
    await everything_at_once(shop)
    assert (await shop.record_of("job"))["route"] == 2


async def test_a_job_that_waits_for_a_fallback_as_it_is_stopped_goes_home(shop):
    await go_out(shop, failing(529), *(make_job(f"job-{n}") for n in range(10)))
    await shop.submit(make_job("moved", fallbacks=(OTHER,), lane="overnight"))
    shop.clock.advance(30 * SECOND)
    await everything_at_once(shop)
    assert (await shop.record_of("moved"))["budget"] == "sonnet-5"
    await shop.queue.halt("fallback", OTHER, by="alarm 1")
    before = len(shop.api.requests)
    await shop.work()
    record = await shop.record_of("moved")
    assert (record["route"], record["budget"], record["attempts"]) == (0, "haiku-5-5", 0)
    assert len(shop.api.requests) == before


async def test_a_refusal_asks_no_fallback_that_was_stopped(shop):
    await shop.queue.halt("fallback", OTHER, by="alarm 1")
    shop.api.script = [answering(stop_reason="refusal")]
    await shop.submit(make_job(fallbacks=(OTHER,)))
    await shop.work()
    assert (await shop.store.dead_letter("job-1")).reason == "refused"
