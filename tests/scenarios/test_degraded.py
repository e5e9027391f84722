"""Two workers and a model that gets worse in the middle of a run: alarm, evidence, webhook, pause, and the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
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
from tests.support.webhooks import Webhook, webhook

JOBS = 2_400
RUN = "degraded"
RPM = 12_000
"""So slow that the run lasts longer than it takes until somebody looks at the answers (10 s)."""
BEFORE = 700
"""Jobs that are answered well before the model gets worse."""
MODEL = "claude-haiku-5-5"
LAG = timedelta(seconds=2)
"""What was claimed before the lane was paused may be sent so long after, on a machine that has much else to do."""


@pytest.mark.scenario
@pytest.mark.timeout(300)
async def test_a_model_that_gets_worse_pauses_its_lane_and_the_run_is_finished_when_it_is_mended(
    tmp_path: Path,
) -> None:
    log = tmp_path / "workers.log"
    with (
        simulator("--tier", "none", "--latency", "0.02", "--per-token", "0") as api,
        valkey(tmp_path / "valkey") as (url, _),
    ):
        async with webhook() as hook:
            environment = {
                "PROMPTMILL_REDIS_URL": url,
                "PROMPTMILL_DATA_DIR": str(tmp_path),
                "PROMPTMILL_RPM": str(RPM),
                "PROMPTMILL_ITPM": "10000000000",
                "PROMPTMILL_OTPM": "10000000000",
                "PROMPTMILL_ALARM_ACTIONS": json.dumps(actions(hook)),
                "ANTHROPIC_API_KEY": "any",
                "ANTHROPIC_BASE_URL": api.base_url,
            }
            settings = Settings.load(environ={}, redis_url=url, data_dir=tmp_path)
            queue = Queue(connect(url, reply_timeout=None))
            await queue.submit([prepare(job(number), settings) for number in range(JOBS)])
            started = time.monotonic()
            with workers(2, environment, log):
                worse_at = await degrade_after(queue, api, BEFORE)
                told = (await hook.received(1))[0]["promptmill"]["alarms"][0]
                paused_at = datetime.now(UTC)
                shown = command(environment, "status", "--json")
                api.control(faults=[])
                resumed_at = datetime.now(UTC)
                assert "lane standard goes on" in command(environment, "resume", "standard")
                await finished(queue)
            seconds = time.monotonic() - started
            alarm = json.loads(command(environment, "alarms", "show", str(told["id"])))
        async with await ResultStore.open(settings.store) as store:
            results = {result.job_id: result async for result in store.results(run=RUN)}
            alarms = await store.watching.alarms(resolved=True)
        left = await queue.redis.zcard(keys.QUEUE), await queue.redis.hlen(keys.JOBS)
        await queue.redis.aclose()

    sent_at = [attempt.started_at for result in results.values() for attempt in result.attempts]
    examples = {
        side: {results[job_id].quality["code_block"] for job_id in alarm["evidence"]["examples"][side]}
        for side in ("before", "after")
    }
    since = datetime.fromisoformat(alarm["since"])
    worse = sum(worse_at < at < paused_at for at in sent_at)
    print(
        f"\n{JOBS} jobs in {seconds:.0f} s; {worse} were sent while the model was worse; {len(alarms)} alarms, the one "
        f"that paused needed {alarm['answers']} answers and was told {(paused_at - worse_at).total_seconds():.1f} s "
        f"after the change; `since` {(since - worse_at).total_seconds():+.2f} s from the truth; "
        f"{len(sent_at) - JOBS} requests beyond one a job"
    )
    assert {result.status for result in results.values()} == {Status.SUCCEEDED}
    assert (len(results), len(sent_at), left) == (JOBS, JOBS, (0, 0))
    assert (alarm["metric"], alarm["series"]["kind"], alarm["direction"]) == ("code_block", "code", "lower")
    assert alarm["evidence"]["metric"]["before"]["mean"] > 0.95
    after = alarm["evidence"]["metric"]["after"]
    assert round(after["mean"] * after["answers"]) <= 1, "when it began is an estimate: one of before may be among them"
    assert abs(since - worse_at) < LAG
    assert examples == {"before": {True}, "after": {False}}
    states = {action["action"].split()[0]: action["state"] for action in alarm["actions"]}
    assert states.pop("notify") == "done"
    # The good answers after the pause may have ended the alarm, and what it held back with it.
    assert states.keys() == {"pause_lane", "stop_fallback"}
    assert set(states.values()) <= {"held", "lifted"}
    assert held_back(shown) == {("lane", "standard"), ("fallback", MODEL)}
    assert [alarm["id"] for body in hook.bodies for alarm in body["promptmill"]["alarms"]] == [told["id"]]
    assert [at for at in sent_at if paused_at + LAG < at < resumed_at] == []
    said = [orjson.loads(line)["event"] for line in log.read_bytes().splitlines() if line.startswith(b"{")]
    assert 1 <= said.count("lanes_paused") == said.count("lanes_resumed") <= 2, "each worker that hears of it says so"


def actions(hook: Webhook) -> list[dict[str, Any]]:
    """All for one metric: a model that gets worse does so in many, and each has an alarm of its own."""
    of_code = {"metric": "code_block"}
    return [
        {"do": "notify", "url": hook.url, **of_code},
        {"do": "pause_lane", **of_code},
        {"do": "stop_fallback", **of_code},
    ]


def job(number: int) -> Job:
    request = {
        "model": MODEL,
        "max_tokens": 300,
        "messages": [
            {"role": "user", "content": f"Write a Python function that sorts the letters of customer {number}."}
        ],
    }
    return Job(id=f"{RUN}/{number}", request=request, run=RUN, tags={"kind": "code"}, keep_result=0)


async def degrade_after(queue: Queue, api: SimulatorProcess, answers: int) -> datetime:
    """Make every answer worse once so many jobs have ended; when that was."""
    ended = 0
    async with queue.redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.RUN_CHANNEL + RUN)
        async for message in pubsub.listen():
            ended += message["type"] == "message"
            if ended == answers:
                break
    at = datetime.now(UTC)
    api.control(faults=[{"fault": "worse_model"}])
    return at


async def finished(queue: Queue) -> None:
    """Return when no job is left."""
    async with queue.redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.RUN_CHANNEL + RUN)
        async for _ in pubsub.listen():
            if await queue.redis.zcard(keys.QUEUE) == 0:
                return


def command(environment: dict[str, str], *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "producers.cli", *args],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def held_back(status: str) -> set[tuple[str, str]]:
    return {(halt["what"], halt["name"]) for halt in json.loads(status)["halts"]}
