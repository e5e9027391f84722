"""Orders that matter on every path of a job (I1, I6), and what the log tells of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from promptmill.pacing import Cost
from tests.support.providers import answering, failing, sending
from tests.support.workers import make_job
from tests.unit.worker.tables import ANSWERED, MOVED, OTHER

SECOND = timedelta(seconds=1)


PATHS = {
    "answered": [answering()],
    "dead letter": [failing(400, "invalid_request_error")],
    "retried": [failing(500, "api_error"), answering()],
    "rate limited": [failing(429, "rate_limit_error"), answering()],
    "parked": [failing(401), answering()],
    "outage": [failing(529), answering()],
    "empty body": [sending(200, b""), answering()],
    "attempts used up": [failing(409, "conflict_error")],
    "fallback": [answering(None, stop_reason="refusal"), answering()],
}


@pytest.mark.parametrize("path", PATHS)
async def test_on_every_path_the_row_is_committed_before_the_job_leaves_redis(shop, path):
    shop.api.script = list(PATHS[path])
    await shop.submit(make_job(fallbacks=(OTHER,)))
    await shop.run_to_end(most=3_000)
    taken = [step for step in shop.steps.taken if step not in {"block", "report"}]
    requests = [taken[n : n + 6] for n in range(0, len(taken), 6)]
    assert requests[-1] == ANSWERED
    assert all(request == MOVED for request in requests[:-1])
    assert len(shop.api.requests) == len(requests)


async def test_each_request_has_a_lease_and_a_number_of_its_own(shop):
    shop.api.script = [failing(500, "api_error"), failing(429), failing(529), answering()]
    await shop.submit(make_job())
    await shop.run_to_end(most=3_000)
    result = await shop.store.result("job-1")
    assert [attempt.number for attempt in result.attempts] == [1, 2, 3, 4]


async def test_a_claim_reserves_what_the_job_may_cost(shop):
    await shop.submit(make_job())
    lease = await shop.claim_one()
    assert lease.claim.reserved == Cost(1, 6, 100)


async def test_the_log_tells_how_a_job_ended(shop):
    await shop.submit(make_job(run="run-1"))
    with capture_logs() as logs:
        await shop.work()
    (entry,) = logs
    assert 0 < entry.pop("latency_s") < 60
    assert entry == {
        "event": "job_ended",
        "log_level": "info",
        "job": "job-1",
        "status": "succeeded",
        "outcome": "succeeded",
        "model": "claude-haiku-5-5",
        "lane": "standard",
        "run": "run-1",
        "attempt": 1,
        "queue_time_s": 0.0,
        "input_tokens": 10,
        "output_tokens": 5,
        "cost_usd": "0.000003500",
    }


async def test_the_log_tells_why_a_job_went_back(shop):
    shop.api.script = [failing(529, "overloaded_error", "Overloaded")]
    await shop.submit(make_job())
    with capture_logs() as logs:
        await shop.work()
    assert logs == [
        {
            "event": "job_went_back",
            "log_level": "info",
            "job": "job-1",
            "outcome": "overloaded",
            "blame": "provider",
            "message": "the API is overloaded: Overloaded",
            "model": "claude-haiku-5-5",
            "attempt": 1,
            "wait_s": 1.0,
            "uses_attempt": False,
            "request_id": "req_bad",
        }
    ]
