"""Hosts' clocks disagree: nothing that is decided about a budget is decided by them."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from promptmill.pacing import Pace, Reading
from promptmill.queue import Queue
from tests.support.queues import CLASS, LEASE, PLENTY, make_submission

HOUR_S = 3_600
ONE_A_MINUTE = {**PLENTY, "requests": Pace(1, 1)}


@pytest.fixture(params=["valkey", "redis62"])
def server(request):
    """Those with a clock of their own."""
    return request.param


@pytest.fixture
def on_a_host(monkeypatch):
    """Makes every clock of this process wrong, as on another host."""

    def move(by_s):
        for name in ("time", "monotonic"):
            real = getattr(time, name)
            monkeypatch.setattr(time, name, lambda real=real: real() + by_s)

    return move


@pytest.mark.parametrize("wrong_s", [HOUR_S, -HOUR_S])
async def test_a_host_that_is_an_hour_off_is_granted_no_more_and_no_less(redis, on_a_host, wrong_s):
    queue = Queue(redis)
    await queue.configure(CLASS, ONE_A_MINUTE)
    await redis.hset(f"promptmill:budget:{CLASS}", "requests_tat", 0)  # rested
    await queue.submit([make_submission(), make_submission(), make_submission()])
    first = await queue.claim(worker="here", lease=LEASE, most=10, token_prefix="here.1")
    on_a_host(wrong_s)
    second = await queue.claim(worker="there", lease=LEASE, most=10, token_prefix="there.1")
    assert (len(first.jobs), len(second.jobs)) == (1, 0)


@pytest.mark.parametrize("wrong_s", [HOUR_S, -HOUR_S])
async def test_what_such_a_host_heard_of_the_provider_counts_by_when_the_budget_was_charged(redis, on_a_host, wrong_s):
    queue = Queue(redis)
    await queue.configure(CLASS, PLENTY)
    await queue.submit([make_submission(), make_submission()])
    while not (older := (await queue.claim(worker="w", lease=LEASE, most=1, token_prefix="w.1")).jobs):
        await redis.hset(f"promptmill:budget:{CLASS}", mapping=dict.fromkeys((f"{d}_tat" for d in PLENTY), 0))
    newer = (await queue.claim(worker="w", lease=timedelta(hours=1), most=1, token_prefix="w.2")).jobs
    on_a_host(wrong_s)
    await queue.observe(CLASS, newer[0].charge, {"requests": Reading(600, 300)})
    await queue.observe(CLASS, older[0].charge, {"requests": Reading(50, 1)})
    assert float(await redis.hget(f"promptmill:budget:{CLASS}", "requests_limit")) == 600
