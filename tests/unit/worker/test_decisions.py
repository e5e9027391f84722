"""What follows from an outcome: the whole table, and the numbers at its edges."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from promptmill.jobs import Lane
from promptmill.pacing import Cost
from promptmill.queue import Claim, Disposition, Effect, Reply, Standing
from tests.support.workers import make_job, make_settings
from worker.decisions import GoBack, Settle, backoff, decide, reply_of, report_on, wait_for_newer_worker
from worker.outcomes import POLICIES, Blame, Verdict

NOTHING = timedelta(0)
SECOND = timedelta(seconds=1)
OTHER = "claude-sonnet-5-5"
BLAMED = Standing(to_blame=True)
UNCLEAR = Standing(to_blame=False)
OUT = Standing(to_blame=False, is_out=True)


def claim(**fields) -> Claim:
    about = {
        "job_id": "job-1",
        "disposition": Disposition.RUN,
        "token": "t",
        "number": 1,
        "attempts": 0,
        "lost": 0,
        "route": 0,
        "lane": Lane.STANDARD,
        "budget": "haiku-5-5",
        "reserved": Cost(),
        "payload": b"{}",
    }
    return Claim(**{**about, **fields})


def after(
    outcome: str, *, fallbacks=(), retry_after=None, chance=0.5, job=None, settings=None, standing=BLAMED, **of_claim
):
    return decide(
        POLICIES[outcome],
        retry_after=retry_after,
        standing=standing,
        claim=claim(**of_claim),
        job=make_job(fallbacks=fallbacks, **(job or {})),
        settings=make_settings(**(settings or {})),
        chance=lambda: chance,
    )


FIRST_TIME = {
    # outcome: wait, whether an attempt is used up, pause; None: the job ends
    "succeeded": None,
    "cut_at_max_tokens": None,
    "context_full": None,
    "turn_paused": None,
    "unfit_tool_input": None,
    "rate_limited": (NOTHING, False, 5 * SECOND),
    "ramp_limited": (NOTHING, False, 15 * SECOND),
    "spend_limit_reached": (NOTHING, False, None),
    "bad_key": (NOTHING, False, None),
    "billing_problem": (NOTHING, False, None),
    "not_permitted": None,
    "invalid_request": None,
    "not_found": None,
    "too_large": None,
    "request_timeout": (SECOND, True, None),
    "conflict": (SECOND, True, None),
    "server_error": (SECOND, True, None),
    "unavailable": (SECOND, False, None),
    "gateway_timeout": (SECOND, True, None),
    "overloaded": (SECOND, False, None),
    "connection_failed": (SECOND, False, None),
    "redirected": (SECOND, False, None),
    "tls_failed": (SECOND, False, None),
    "no_first_byte": (SECOND, True, None),
    "stalled": (SECOND, True, None),
    "timed_out": (SECOND, True, None),
    "cut_off": (SECOND, True, None),
    "interrupted": (SECOND, False, None),
    "foreign_error": (SECOND, True, None),
    "empty_body": (SECOND, True, None),
    "not_json": (SECOND, True, None),
    "not_a_message": (SECOND, True, None),
    "incomplete_message": (SECOND, True, None),
    "empty_answer": None,
    "refused": None,
    "payload_missing": None,
    "unreadable_payload": None,
    "unknown_function": None,
    "bad_job": None,
    "lost_too_often": None,
    "unrecognised": (SECOND, True, None),
    "internal_error": (SECOND, True, None),
}


def test_the_table_is_complete():
    assert set(FIRST_TIME) == set(POLICIES)


@pytest.mark.parametrize("outcome", FIRST_TIME)
def test_after_the_first_attempt(outcome):
    expected = FIRST_TIME[outcome]
    decision = after(outcome)
    if expected is None:
        assert decision == Settle()
    else:
        wait, uses_attempt, pause = expected
        assert decision == GoBack(wait, uses_attempt=uses_attempt, route=0, pause=pause)


RETRIED = [name for name, policy in POLICIES.items() if policy.verdict is Verdict.RETRY]
WAITING = [name for name, policy in POLICIES.items() if policy.verdict is Verdict.WAIT]
PARKED = [name for name, policy in POLICIES.items() if policy.verdict is Verdict.PARK]
PAUSED = [name for name, policy in POLICIES.items() if policy.verdict is Verdict.PAUSE]
ELSEWHERE = [name for name, policy in POLICIES.items() if policy.fallback and name not in PAUSED]
TRIPPING = [name for name, policy in POLICIES.items() if policy.trips]
UNREACHED = ["connection_failed", "tls_failed", "redirected", "foreign_error"]


@pytest.mark.parametrize("outcome", RETRIED)
def test_a_job_ends_with_the_last_attempt_that_it_may_use(outcome):
    assert isinstance(after(outcome, attempts=4), GoBack)
    assert after(outcome, attempts=5) == Settle()


@pytest.mark.parametrize("outcome", RETRIED)
def test_a_job_may_have_its_own_number_of_attempts(outcome):
    assert after(outcome, attempts=0, job={"max_attempts": 1}) == Settle()
    assert isinstance(after(outcome, attempts=6, job={"max_attempts": 8}), GoBack)


@pytest.mark.parametrize("outcome", WAITING + PAUSED + PARKED)
def test_waiting_never_ends_and_uses_up_nothing(outcome):
    decision = after(outcome, number=1_000_000, attempts=5, standing=UNCLEAR)
    assert isinstance(decision, GoBack)
    assert not decision.uses_attempt


@pytest.mark.parametrize("outcome", ELSEWHERE)
def test_another_model_is_asked_once_the_first_has_had_its_share(outcome):
    decision = after(outcome, fallbacks=(OTHER,), attempts=5, number=6)
    assert decision == GoBack(NOTHING, uses_attempt=POLICIES[outcome].verdict is not Verdict.WAIT, route=1)


@pytest.mark.parametrize("outcome", [name for name in ELSEWHERE if POLICIES[name].verdict is Verdict.FINAL])
def test_what_this_model_will_never_answer_goes_to_the_next_at_once(outcome):
    assert after(outcome, fallbacks=(OTHER,)) == GoBack(NOTHING, uses_attempt=True, route=1)


@pytest.mark.parametrize("outcome", [name for name in ELSEWHERE if POLICIES[name].verdict is Verdict.WAIT])
def test_an_outage_of_one_model_sends_its_jobs_to_the_next_after_some_tries(outcome):
    assert after(outcome, fallbacks=(OTHER,), number=5).route == 0
    assert after(outcome, fallbacks=(OTHER,), number=6).route == 1
    assert after(outcome, fallbacks=(OTHER,), number=7, route=1).route == 1


@pytest.mark.parametrize("outcome", sorted(set(POLICIES) - set(ELSEWHERE) - set(PAUSED)))
def test_another_model_is_not_asked_where_it_could_not_help(outcome):
    decision = after(outcome, fallbacks=(OTHER,), attempts=5, number=6)
    assert decision == Settle() or decision.route == 0


def test_a_fallback_has_attempts_of_its_own():
    assert after("timed_out", fallbacks=(OTHER,), route=1, attempts=6).route == 1
    assert after("timed_out", fallbacks=(OTHER,), route=1, attempts=11) == Settle()


def test_after_the_last_fallback_the_job_ends():
    assert after("refused", fallbacks=(OTHER, "claude-opus-5-5"), route=1).route == 2
    assert after("refused", fallbacks=(OTHER, "claude-opus-5-5"), route=2, attempts=2) == Settle()


def test_a_fallback_whose_limits_this_worker_does_not_know_is_passed_over():
    """The producer's settings declared it; sending unpaced would break I4, crashing would pay for the job again."""
    assert after("refused", fallbacks=("claude-of-tomorrow", OTHER)).route == 2
    assert after("refused", fallbacks=("claude-of-tomorrow",)) == Settle()


@pytest.mark.parametrize("outcome", ["rate_limited", "ramp_limited"])
def test_a_pause_is_as_long_as_the_provider_says(outcome):
    assert after(outcome, retry_after=timedelta(minutes=3)).pause == timedelta(minutes=3)


@pytest.mark.parametrize("outcome", RETRIED + WAITING)
def test_nobody_comes_back_before_the_provider_wants_it(outcome):
    assert after(outcome, retry_after=timedelta(seconds=40), chance=0.999).wait == timedelta(seconds=40)
    assert after(outcome, retry_after=timedelta(milliseconds=1), chance=0.5).wait == SECOND


def test_backoff_doubles_up_to_its_limit():
    settings = make_settings(backoff=SECOND, max_backoff=timedelta(seconds=60))
    means = [backoff(failures, settings, lambda: 0.5).total_seconds() for failures in (0, 1, 2, 3, 5, 6, 7, 99)]
    assert means == [1, 2, 4, 8, 32, 60, 60, 60]


@pytest.mark.parametrize("failures", [0, 3, 10_000])
def test_backoff_is_spread_from_nothing_to_twice_its_mean(failures):
    settings = make_settings()
    mean = backoff(failures, settings, lambda: 0.5)
    assert backoff(failures, settings, lambda: 0.0) == NOTHING
    assert 1.99 * mean < backoff(failures, settings, lambda: 0.999) < 2 * mean


def test_a_job_that_is_not_to_blame_waits_no_longer_than_the_next_probe_would():
    """Also one that was handed on again and again by workers that were cut off."""
    often = after("overloaded", standing=Standing(), number=21, chance=0.9)
    assert often == GoBack(make_settings().probe_interval, uses_attempt=False, route=0)
    assert after("overloaded", standing=Standing(), number=2, chance=0.9).wait < often.wait


def test_backoff_of_days_does_not_overflow():
    settings = make_settings(backoff=timedelta(days=1), max_backoff=timedelta(days=30))
    assert backoff(1_000, settings, lambda: 0.5) == timedelta(days=30)


def test_retries_back_off_by_attempts_used_and_outages_by_requests_sent():
    assert after("server_error", attempts=3, number=9).wait == timedelta(seconds=8)
    assert after("server_error", attempts=0, number=4, standing=UNCLEAR).wait == timedelta(seconds=8)
    assert after("overloaded", attempts=0, number=4).wait == timedelta(seconds=8)


# what the fleet knows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", TRIPPING)
def test_a_failure_for_which_the_job_is_not_to_blame_uses_up_nothing_and_ends_nothing(outcome):
    decision = after(outcome, attempts=5, number=1_000_000, standing=UNCLEAR)
    assert isinstance(decision, GoBack)
    assert not decision.uses_attempt


@pytest.mark.parametrize("outcome", TRIPPING)
def test_while_the_class_is_out_a_job_waits_in_its_lane_not_by_itself(outcome):
    """Whoever may go next is the breaker's to say: a wait of its own would go on after the outage."""
    assert after(outcome, number=9, retry_after=40 * SECOND, standing=OUT) == GoBack(
        NOTHING, uses_attempt=False, route=0
    )


@pytest.mark.parametrize("outcome", RETRIED + WAITING)
def test_a_retry_waits_for_its_place_among_the_retries_of_its_class(outcome):
    standing = Standing(to_blame=True, wait=timedelta(minutes=5))
    assert after(outcome, standing=standing).wait == timedelta(minutes=5)
    assert after(outcome, standing=Standing(to_blame=False, wait=timedelta(minutes=5))).wait == timedelta(minutes=5)


@pytest.mark.parametrize("outcome", ["server_error", "overloaded", "unavailable"])
@pytest.mark.parametrize("standing", [BLAMED, UNCLEAR], ids=["to blame", "unclear"])
def test_who_is_asked_to_wait_for_long_asks_another_model_instead(outcome, standing):
    assert after(outcome, retry_after=30 * SECOND, fallbacks=(OTHER,), standing=standing).route == 0
    decision = after(outcome, retry_after=31 * SECOND, fallbacks=(OTHER,), standing=standing)
    assert (decision.route, decision.wait) == (1, NOTHING)
    assert after(outcome, retry_after=31 * SECOND, standing=standing).route == 0


@pytest.mark.parametrize("outcome", PAUSED)
def test_a_long_pause_of_one_budget_sends_the_refused_job_to_another(outcome):
    assert after(outcome, retry_after=30 * SECOND, fallbacks=(OTHER,)).route == 0
    decision = after(outcome, retry_after=31 * SECOND, fallbacks=(OTHER,))
    assert (decision.route, decision.pause) == (1, 31 * SECOND)


def test_what_one_job_alone_may_not_do_ends_it():
    assert after("not_permitted", standing=BLAMED) == Settle()


def test_what_perhaps_nobody_may_do_is_tried_again_after_a_while_and_at_once_by_a_probe():
    assert after("not_permitted", standing=UNCLEAR) == GoBack(SECOND, uses_attempt=False, route=0)
    assert after("not_permitted", standing=replace(UNCLEAR, wait=9 * SECOND)).wait == 9 * SECOND
    assert after("not_permitted", standing=OUT) == GoBack(NOTHING, uses_attempt=False, route=0)


# what the fleet is told ---------------------------------------------------------------------------------------------


def told(outcome: str, *, retry_after=None, now=datetime(2026, 11, 22, 20, tzinfo=UTC), number=1, **settings):
    made = make_settings(**settings)
    return report_on(POLICIES[outcome], claim(number=number), retry_after=retry_after, settings=made, now=now)


@pytest.mark.parametrize("outcome", POLICIES)
def test_the_fleet_is_told_of_failures_that_others_share(outcome):
    report, policy = told(outcome), POLICIES[outcome]
    if policy.verdict in {Verdict.ANSWERED, Verdict.FINAL, Verdict.PAUSE}:
        assert report is None
    else:
        assert (report.claim, report.outcome) == (claim(), outcome)
        trips = Effect.UNREACHED if outcome in UNREACHED else Effect.TRIPS
        parks = Effect.MAY_PARK if policy.personal else Effect.PARKS
        assert report.effect is (parks if outcome in PARKED else trips if policy.trips else Effect.NONE)
        assert (report.fallback_after is not None) == policy.fallback


@pytest.mark.parametrize("outcome", UNREACHED)
def test_only_what_waits_anyhow_is_laid_to_a_cut_off_worker_for_ever(outcome):
    many = make_settings().max_attempts
    assert told(outcome, number=many).effect is Effect.UNREACHED
    judged = POLICIES[outcome].verdict is Verdict.RETRY
    assert told(outcome, number=many + 1).effect is (Effect.TRIPS if judged else Effect.UNREACHED)


@pytest.mark.parametrize("outcome", POLICIES)
def test_what_is_dealt_with_shows_that_the_provider_works_even_without_a_result(outcome):
    taken = {"invalid_request", "not_found", "too_large"}
    shown = Reply.ANSWERED if outcome in {"empty_answer", "refused"} else Reply.TAKEN
    final = POLICIES[outcome].verdict is Verdict.FINAL
    assert reply_of(POLICIES[outcome]) is (shown if final else Reply.NONE)
    assert {name for name in taken if reply_of(POLICIES[name]) is not Reply.TAKEN} == set()


def test_a_job_whose_worker_is_cut_off_goes_back_at_once_to_whoever_gets_through():
    standing = Standing(to_blame=False, is_cut_off=True)
    assert after("connection_failed", standing=standing) == GoBack(NOTHING, uses_attempt=False, route=0)


def test_nothing_that_is_our_fault_trips_the_breaker():
    assert {POLICIES[name].blame for name in TRIPPING} <= {Blame.PROVIDER, Blame.NETWORK, Blame.UNKNOWN}


@pytest.mark.parametrize(
    ("now", "ends_at"),
    [
        (datetime(2026, 11, 22, 20, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        (datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=2))), datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_a_spend_limit_ends_with_the_month_in_utc_and_is_seldom_asked(now, ends_at):
    report = told("spend_limit_reached", now=now)
    assert (report.ends_at, report.probe_every) == (ends_at, timedelta(minutes=15))
    assert told("bad_key", now=now).ends_at is None


def test_the_report_says_what_the_settings_say():
    report = told(
        "overloaded",
        retry_after=7 * SECOND,
        probe_interval=9 * SECOND,
        fallback_after=8 * SECOND,
        outage_patience=timedelta(hours=1),
        retry_share=0.5,
    )
    assert (report.probe_every, report.fallback_after, report.retry_after) == (9 * SECOND, 8 * SECOND, 7 * SECOND)
    assert (report.outage_patience, report.retry_share, report.may_use_attempt) == (timedelta(hours=1), 0.5, False)
    assert told("server_error").may_use_attempt


@pytest.mark.parametrize(
    ("age", "wait"),
    [
        (timedelta(hours=-1), timedelta(seconds=1)),
        (timedelta(0), timedelta(seconds=1)),
        (timedelta(seconds=40), timedelta(seconds=40)),
        (timedelta(days=2), timedelta(minutes=10)),
    ],
)
def test_a_job_for_newer_workers_is_left_alone_for_as_long_as_it_has_waited(age, wait):
    assert wait_for_newer_worker(age) == wait
