"""Limits, latency and counts as they meet in one request's way."""

from datetime import timedelta

import pytest

from promptmill.testing.simulator import Control, Latency
from promptmill.testing.simulator.clock import SECOND_NS
from promptmill.testing.simulator.replies import ErrorReply
from promptmill.testing.simulator.stats import KeyCount, Second


def status(plan) -> int:
    return plan.does.status if isinstance(plan.does, ErrorReply) else 200


def test_a_429_says_what_was_exceeded_and_when_to_come_back(desk_with):
    desk = desk_with(limits={"rpm": 6, "burst": 1})
    desk.ask()
    plan = desk.ask()
    assert (plan.does.status, plan.does.kind, plan.does.retry_after) == (429, "rate_limit_error", 10)
    assert "6 requests per minute (claude-haiku-5-5)" in plan.does.message
    assert dict(plan.headers)["anthropic-ratelimit-requests-remaining"] == "0"


def test_names_with_a_date_and_versions_of_one_class_share_a_budget(desk_with):
    desk = desk_with(limits={"rpm": 60, "burst": 1})
    assert status(desk.ask(model="claude-sonnet-5-5")) == 200
    assert status(desk.ask(model="claude-sonnet-5-20260401")) == 429
    assert status(desk.ask(model="claude-haiku-4-5")) == 200
    assert status(desk.ask(model="claude-haiku-4-5-20251001")) == 429


def test_answers_take_their_time_to_the_first_byte_and_then_for_each_token(desk_with):
    latency = Latency(first_byte=timedelta(seconds=2), per_token=timedelta(milliseconds=10))
    plan = desk_with(latency=latency).ask("Reply with exactly: " + "x" * 25)
    streamed = desk_with(latency=latency).ask("Reply with exactly: " + "x" * 25, stream=True)
    assert plan.due_ns == 2 * SECOND_NS + 10 * 10_000_000
    assert streamed.due_ns == 2 * SECOND_NS


def test_latency_can_be_scaled_away(desk_with):
    latency = Latency(first_byte=timedelta(seconds=2), per_token=timedelta(milliseconds=10), scale=0)
    assert desk_with(latency=latency).ask().due_ns == 0


def test_latency_is_lognormal_around_its_median(desk_with):
    desk = desk_with(latency=Latency(first_byte=timedelta(seconds=1), sigma=0.5))
    waits = sorted(desk.ask(f"Request {n}.").due_ns / SECOND_NS for n in range(1_000))
    assert waits[500] == pytest.approx(1, rel=0.1)
    assert waits[841] == pytest.approx(2.718**0.5, rel=0.15)


def test_a_429_is_answered_at_once(desk_with):
    desk = desk_with(limits={"rpm": 6, "burst": 1}, latency=Latency(first_byte=timedelta(seconds=2)))
    desk.ask()
    assert desk.ask().due_ns == 0


def test_a_slow_first_byte_comes_three_seconds_later(desk):
    assert desk.ask("Hello [[fault:slow_first_byte]]", stream=True).due_ns == 3 * SECOND_NS


def test_counting_tokens_has_a_limit_of_its_own(desk_with):
    desk = desk_with(limits={"rpm": 60, "burst": 1}, count_tokens_rpm=1)
    raw = b'{"model":"claude-haiku-5-5","messages":[{"role":"user","content":"Hello"}]}'
    told = [desk.provider.count(raw, authorization="Bearer key").does for _ in range(2)]
    assert told[0] == b'{"input_tokens":2}'
    assert told[1].status == 429
    assert desk.provider.snapshot().count_tokens == {200: 1, 429: 1}
    assert desk.provider.snapshot().requests == 0
    assert status(desk.ask()) == 200


def test_limits_change_while_it_runs_and_keep_what_was_used(desk_with):
    desk = desk_with(limits={"rpm": 60, "burst": 10})
    for _ in range(4):
        desk.ask()
    desk.provider.control(Control(limits={"rpm": 600}))
    assert dict(desk.ask().headers)["anthropic-ratelimit-requests-remaining"] == "5"
    assert desk.provider.config.limits.burst == 10  # merged: what was not named stays
    desk.provider.control(Control(refill=True))
    assert dict(desk.ask().headers)["anthropic-ratelimit-requests-remaining"] == "9"


def test_new_limits_reach_a_class_with_limits_of_its_own_too(desk_with):
    desk = desk_with(class_limits={"haiku-5-5": {"rpm": 600, "itpm": 1_000_000}})
    desk.provider.control(Control(limits={"rpm": 60, "burst": 1}))
    assert status(desk.ask()) == 200
    assert status(desk.ask()) == 429
    assert desk.provider.config.limits_by_class()["haiku-5-5"].itpm == 1_000_000
    desk.provider.control(Control(limits={"rpm": 60}, class_limits={}))
    assert desk.provider.config.limits_by_class()["haiku-5-5"].itpm is None


def test_a_control_that_says_nothing_changes_nothing(desk_with):
    desk = desk_with(limits={"rpm": 60}, faults=[{"fault": "overloaded_error", "requests": [2]}])
    desk.ask()
    desk.provider.control(Control())
    assert status(desk.ask()) == 529  # the rule's counts were not restarted either


def test_a_limit_can_be_taken_away(desk_with):
    desk = desk_with(limits={"rpm": 60, "burst": 1})
    desk.ask()
    desk.provider.control(Control(limits={"rpm": None, "burst": None}))
    assert status(desk.ask()) == 200


def test_a_mistyped_control_is_refused():
    with pytest.raises(ValueError, match="latancy"):
        Control(latancy={"scale": 0})


def test_it_counts_what_arrived(desk_with):
    desk = desk_with(limits={"rpm": 60, "burst": 2, "itpm": 1_000_000}, track=True)
    desk.ask("One.", job="a")
    desk.ask("One.", job="a")
    desk.ask("Two.", job="b")
    desk.ask("Three. [[fault:permission_error]]")
    desk.ask("Four.", temperature=1)
    stats = desk.provider.snapshot(keys=True)
    assert stats.requests == 5
    assert stats.by_status == {200: 2, 429: 1, 403: 1, 400: 1}
    assert stats.by_model == {"claude-haiku-5-5": 4}
    assert stats.by_fault == {"permission_error": 1}
    assert stats.rate_limited == {"requests": 1}
    assert (stats.billed, stats.input_tokens_granted, stats.input_tokens_refused) == (2, 4, 2)
    assert stats.jobs == {"a": KeyCount(requests=2, billed=2), "b": KeyCount(requests=1, billed=0)}
    assert sorted(count.requests for count in stats.contents.values()) == [1, 1, 2]


def test_it_tells_what_each_request_of_a_job_met(desk_with):
    desk = desk_with(limits={"rpm": 60, "burst": 2}, track=True)
    for _ in range(3):
        desk.ask("One. [[fault:api_error*1]]", job="a")
    desk.ask("Two.", temperature=1, job="b")
    desk.ask("Three. [[fault:permission_error]]")
    met = desk.provider.snapshot(keys=True).met
    assert met == {"a": ("api_error", "200", "429"), "b": ("400",)}
    desk.provider.control(Control(reset_stats=True))
    assert desk.provider.snapshot(keys=True).met == {}


def test_keys_are_counted_only_when_tracking(desk):
    desk.ask(job="a")
    assert desk.provider.snapshot(keys=True).jobs == {}


def test_use_is_the_share_of_what_was_permitted_until_the_latest_request(desk_with):
    desk = desk_with(limits={"rpm": 60, "burst": 10})
    for _ in range(5):
        desk.ask()
        desk.clock.advance(timedelta(seconds=10))
    desk.clock.advance(timedelta(hours=1))
    use = desk.provider.snapshot().use["haiku-5-5"]["requests"]
    assert (use.granted, use.permitted, use.share) == (5, 50, 0.1)


def test_arrivals_are_told_by_spacing_and_by_second(desk_with):
    desk = desk_with(limits={"rpm": 60, "burst": 2})
    for gap in (0, 100, 100, 100, 2_700):
        desk.clock.advance(timedelta(milliseconds=gap))
        desk.ask()
    desk.clock.advance(timedelta(seconds=1))
    stats = desk.provider.snapshot()
    assert stats.seconds == 4.0
    assert stats.arrival_spacing_ms["p50"] == 100
    assert stats.arrival_spacing_ms["p100"] == 2_700
    assert stats.timeline == (Second(at=0, granted=2, refused=2), Second(at=3, granted=1, refused=0))


def test_counts_can_begin_anew(desk_with):
    desk = desk_with(limits={"rpm": 60, "burst": 2}, track=True)
    desk.ask(job="a")
    desk.provider.control(Control(reset_stats=True))
    stats = desk.provider.snapshot(keys=True)
    assert (stats.requests, stats.by_status, stats.jobs, stats.use, stats.timeline) == (0, {}, {}, {}, ())
