"""Random schedules, on each server. `make soak` runs twenty times as many."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakeredis import FakeServer
from fakeredis.aioredis import FakeRedis
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from redis.asyncio import Redis

from tests.conformance.queue.schedules import Schedules
from tests.support.effort import cases


def schedules_on(connect: Callable[[], Redis]) -> type[Schedules]:
    return type("SchedulesHere", (Schedules,), {"connect": staticmethod(connect)})


@pytest.mark.hypothesis
def test_the_invariants_hold_on_fakeredis_whatever_happens():
    machine = schedules_on(lambda: FakeRedis(server=FakeServer()))
    run_state_machine_as_test(machine, settings=settings(max_examples=cases(20), stateful_step_count=40))


@pytest.mark.hypothesis
@pytest.mark.parametrize("kind", ["valkey", "redis62"])
def test_the_invariants_hold_on_a_real_server_whatever_happens(url_of, kind):
    machine = schedules_on(lambda: Redis.from_url(url_of(kind)))
    run_state_machine_as_test(machine, settings=settings(max_examples=cases(40), stateful_step_count=40))
