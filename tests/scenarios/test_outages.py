"""Four workers and an API that goes away in the middle: four hours, scaled to twelve seconds."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from promptmill import Job
from promptmill.queue import Queue, connect, keys, prepare
from promptmill.results import Status
from promptmill.settings import Settings
from promptmill.store import ResultStore
from tests.support.processes import SimulatorProcess, simulator, valkey, workers

JOBS = 2_500
RUN = "outage"
RPM = 6_000
BEFORE = 500
"""Jobs that are answered before the API goes away."""
OUTAGE = timedelta(seconds=12)
INTERVAL = timedelta(seconds=0.5)
LAG = timedelta(seconds=2)
"""What was claimed before the breaker opened may be sent so long after, on a machine that has much else to do."""

OUTAGES: dict[str, dict[str, Any]] = {
    "529": {"faults": [{"fault": "overloaded_error", "lasting": OUTAGE.total_seconds()}]},
    "502 with HTML": {"faults": [{"fault": "bad_gateway_html", "lasting": OUTAGE.total_seconds()}]},
    "connections refused": {"refuse_connections": OUTAGE.total_seconds()},
    "hangs": {"faults": [{"fault": "hang", "lasting": OUTAGE.total_seconds()}]},
}


@pytest.mark.scenario
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", OUTAGES)
async def test_an_outage_loses_nothing_uses_up_nothing_and_is_asked_once_an_interval(tmp_path: Path, name: str) -> None:
    log = tmp_path / "workers.log"
    with (
        simulator(
            "--rpm", str(RPM), "--itpm", "0", "--otpm", "0", "--depth", "2", "--latency", "0.05", "--per-token", "0"
        ) as api,
        valkey(tmp_path / "valkey") as (url, _),
    ):
        environment = {
            "PROMPTMILL_REDIS_URL": url,
            "PROMPTMILL_DATA_DIR": str(tmp_path),
            "PROMPTMILL_RPM": str(RPM),
            "PROMPTMILL_ITPM": "10000000000",
            "PROMPTMILL_OTPM": "10000000000",
            "PROMPTMILL_PROBE_INTERVAL": str(INTERVAL.total_seconds()),
            "PROMPTMILL_ATTEMPT_TIMEOUT": "1",
            # A job that used up a single attempt would be a dead letter.
            "PROMPTMILL_MAX_ATTEMPTS": "1",
            "ANTHROPIC_API_KEY": "any",
            "ANTHROPIC_BASE_URL": api.base_url,
        }
        settings = Settings.load(environ={}, redis_url=url, data_dir=tmp_path)
        queue = Queue(connect(url, reply_timeout=None))
        await queue.submit([prepare(_job(f"{RUN}/{number}"), settings) for number in range(JOBS)])
        with workers(4, environment, log):
            went_away = await _go_away_in_the_middle(queue, api, OUTAGES[name])
        refused = api.stats()["rate_limited"]
        async with await ResultStore.open(settings.store) as store:
            results = [result async for result in store.results(run=RUN)]
        left = await queue.redis.zcard(keys.QUEUE), await queue.redis.hlen(keys.JOBS)
        await queue.redis.aclose()

    entries = [orjson.loads(line) for line in log.read_bytes().splitlines() if line.startswith(b"{")]
    opened = [datetime.fromisoformat(entry["timestamp"]) for entry in entries if entry["event"] == "breaker_opened"]
    closed = [datetime.fromisoformat(entry["timestamp"]) for entry in entries if entry["event"] == "breaker_closed"]
    attempts = sorted((one for result in results for one in result.attempts), key=lambda one: one.started_at)
    in_vain = [attempt for attempt in attempts if attempt.failure]
    probes = [attempt for attempt in in_vain if opened[0] + LAG < attempt.started_at < closed[0]]
    print(
        f"\n{name}: {JOBS} jobs, {len(results)} results; out after {(opened[0] - went_away).total_seconds():.1f} s and "
        f"{len(in_vain) - len(probes)} requests, then {len(probes)} probes; "
        f"back {(closed[-1] - went_away - OUTAGE).total_seconds():.2f} s after its end; "
        f"{len(attempts) - JOBS} requests beyond one a job, {sum(refused.values())} 429s"
    )
    assert {result.status for result in results} == {Status.SUCCEEDED}
    assert len(results) == JOBS
    assert left == (0, 0)
    assert len(attempts) - JOBS == len(in_vain)
    assert len(opened) == 1
    assert len(closed) in {1, 2}, "two, where a probe was still under way as the next one was answered"
    assert len(probes) <= (closed[0] - opened[0]) / INTERVAL + 1
    assert refused == {}


def _job(job_id: str) -> Job:
    request = {
        "model": "claude-haiku-5-5",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": f"Say in at most ten words what {job_id} is."}],
    }
    return Job(id=job_id, request=request, run=RUN, keep_result=0)


async def _go_away_in_the_middle(queue: Queue, api: SimulatorProcess, outage: dict[str, Any]) -> datetime:
    """Begin the outage once some jobs have ended, and return when all have; when it began."""
    ended, went_away = 0, None
    async with queue.redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.RUN_CHANNEL + RUN)
        async for message in pubsub.listen():
            ended += message["type"] == "message"
            if ended == BEFORE and went_away is None:
                api.control(**outage)
                went_away = datetime.fromtimestamp(time.time()).astimezone()
            if ended >= JOBS:
                break
    assert went_away is not None
    return went_away
