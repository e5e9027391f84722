"""Every fault that the simulator knows, through the SDK and the HTTP client that workers use."""

from __future__ import annotations

from datetime import timedelta

import pytest

from promptmill.testing.simulator import FAULTS, Answers, FaultRule, Simulator, SimulatorConfig
from tests.support.faults import LIMITS, OUTCOMES
from tests.support.workers import LONG, REQUEST, make_settings
from worker.outcomes import classify
from worker.provider import Provider

LONG_TIME = timedelta(seconds=60)
PATIENT = {"attempt_timeout": LONG_TIME, "first_byte_timeout": LONG_TIME, "read_timeout": LONG_TIME}
LIMIT_OF = {"timed_out": "attempt_timeout", "no_first_byte": "first_byte_timeout", "stalled": "read_timeout"}


def test_every_fault_has_its_row():
    assert set(OUTCOMES) == set(FAULTS)
    assert set(LIMIT_OF) == LIMITS


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", OUTCOMES)
async def test_a_fault_has_this_outcome(fault, streamed):
    expected = OUTCOMES[fault][streamed]
    limits = {**PATIENT, LIMIT_OF[expected]: timedelta(milliseconds=100)} if expected in LIMITS else PATIENT
    short = Answers(mean_tokens=10, sigma=0)  # else some are cut at max_tokens
    config = SimulatorConfig(faults=(FaultRule(fault=fault),), answers=short)
    async with Simulator(config) as simulator:
        async with Provider(make_settings(anthropic_base_url=simulator.base_url, **limits)) as provider:
            exchange = await provider.send(LONG if streamed else REQUEST, job_id="job-1")
        assert classify(exchange.sighting).name == expected
        assert simulator.stats().requests <= 1, "nobody but the queue sends a request again"
