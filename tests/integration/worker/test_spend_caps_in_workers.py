"""Whole workers under a cap on spending."""

from __future__ import annotations

from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from promptmill.caps import SpendCap
from promptmill.jobs import Lane
from tests.support.workers import make_job
from worker import events

AN_ANSWER = Decimal("0.0000035")


def cap(action: str = "park") -> SpendCap:
    return SpendCap(usd=AN_ANSWER, per="day", lane=Lane.STANDARD, model_class="haiku-5-5", action=action)


async def test_a_lane_rests_when_its_cap_is_reached_and_the_others_go_on(mill):
    async with mill.worker(caps=(cap(),)) as worker:
        with capture_logs() as logs:
            await mill.submit(make_job("dear"))
            await worker.says(events.SPEND_CAP_REACHED)
            await mill.submit(make_job("parked"), make_job("other", lane="interactive"))
            await mill.ends.of("dear", "other")
            await worker.idle()
    assert mill.api.jobs == ["dear", "other"]
    assert [entry for entry in logs if entry["event"] == events.SPEND_CAP_REACHED] == [
        {
            "event": "spend_cap_reached",
            "log_level": "error",
            "cap": "0.0000035 USD a day for haiku-5-5 standard",
            "action": "park",
            "spent_usd": "0.0000035",
            "lane": "standard",
            "model_class": "haiku-5-5",
        }
    ]


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_cap_that_warns_is_said_once_by_the_whole_fleet_and_holds_nothing_back(mill, workers):
    with capture_logs() as logs:
        async with mill.worker(caps=(cap("warn"),)) as first:
            for number in range(workers):
                async with mill.worker(caps=(cap("warn"),)):
                    await mill.submit(make_job(f"a-{number}"), make_job(f"b-{number}"))
                    await mill.ends.of(f"a-{number}", f"b-{number}")
                    await first.idle()
    told = [entry for entry in logs if entry["event"] == events.SPEND_CAP_REACHED]
    assert [(entry["log_level"], entry["action"]) for entry in told] == [("warning", "warn")]
    assert len(mill.api.requests) == 2 * workers
