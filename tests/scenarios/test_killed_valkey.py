"""SIGKILL of the embedded Valkey, again and again, under workers, a file run and a client that submits and waits."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from producers import Client, Handle
from promptmill.embedded import EmbeddedValkey
from promptmill.errors import QueueUnavailable
from promptmill.jobs import Job
from promptmill.queue import keys
from promptmill.results import Status
from promptmill.settings import Settings
from tests.support.fleets import balance, environment_of, fleet, short_job
from tests.support.processes import simulator

RUN = "app"
LOT = 20
"""Jobs that the client submits at a time."""


@pytest.mark.scenario
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("lines", "kills"), [pytest.param(600, 3, id="short"), pytest.param(6_000, 20, id="whole", marks=pytest.mark.soak)]
)
async def test_what_valkey_said_yes_to_survives_its_death_and_everybody_goes_on(
    tmp_path: Path, lines: int, kills: int
) -> None:
    """It is killed the moment it has taken jobs in; the file run or the app brings it back, whichever notices first."""
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    prompts.write_text("".join(f'{{"id":"q{n}","prompt":"What is {n}?"}}\n' for n in range(lines)))
    chance = random.Random(20_261_122)
    moments = sorted(chance.sample(range(lines // 20, lines - lines // 5), kills))
    with (
        simulator("--tier", "none", "--latency", "0.1", "--per-token", "0", "--track") as api,
        EmbeddedValkey(tmp_path) as valkey,
    ):
        environment = environment_of(valkey.url, tmp_path, api, concurrency=20, lease=4)
        settings = Settings.load(environ={}, redis_url=valkey.url, data_dir=tmp_path)
        async with fleet(4, environment) as workers, Client(settings) as client:
            await workers.until(lambda: len(workers.pids) == 4)
            run = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "producers.cli", "run", "--no-workers", str(prompts), "--out", str(out)),
                env={**os.environ, **environment, "PROMPTMILL_REDIS_URL": ""},  # it finds the embedded one
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
            )
            app = App(client, valkey)
            for number, ended in enumerate(moments):
                await workers.until(lambda ended=ended: workers.said["job_ended"] >= ended)
                pid = int((await client.queue.redis.info("server"))["process_id"])
                await app.submit([_job(f"{RUN}/{number}/{n}") for n in range(LOT)])
                os.kill(pid, signal.SIGKILL)
                await app.submit([_job(f"{RUN}/{number}/late/{n}") for n in range(LOT)])
            said = await run.communicate()
            await app.has_every_result()
            left = await client.queue.redis.zcard(keys.QUEUE), await client.queue.redis.hlen(keys.JOBS)
        told = await balance(api, settings)

    lost = workers.jobs["lease_lost"]
    ids = [result.job_id for result in told.results]
    print(
        f"\n{lines} lines and {len(app.handles)} jobs of a client; Valkey killed {kills} times, {app.refused} submits "
        f"refused and made again; {told.requests.total()} requests arrived, {told.beyond.total()} more than attempts "
        f"recorded; {lost.total()} leases lost"
    )
    assert run.returncode == 0, said
    assert [json.loads(line)["id"] for line in out.read_bytes().splitlines()] == [f"q{n}" for n in range(lines)]
    assert len(ids) == lines + len(app.handles)
    assert {job_id for job_id in ids if job_id.startswith(f"{RUN}/")} == app.handles.keys()
    told.assert_whole(ids)
    assert left == (0, 0)
    assert told.beyond <= lost, "sent twice although its lease stood"


class App:
    """A web app's part: submits, waits for each result from the moment on, and submits again what was refused."""

    def __init__(self, client: Client, valkey: EmbeddedValkey) -> None:
        self.handles: dict[str, Handle] = {}
        self.refused = 0
        self._client = client
        self._valkey = valkey
        self._waiting: list[asyncio.Task[Status]] = []

    async def submit(self, jobs: Sequence[Job]) -> None:
        """Return when all of these jobs are taken in."""
        while True:
            try:
                handles = await self._client.submit_many(jobs)
                break
            except QueueUnavailable:
                self.refused += 1
                await asyncio.to_thread(self._valkey.ensure)
        self.handles |= {handle.job_id: handle for handle in handles}
        self._waiting += [asyncio.create_task(_status(handle)) for handle in handles]

    async def has_every_result(self) -> None:
        """Each wait that began before Valkey died has come to its end."""
        assert Counter(await asyncio.gather(*self._waiting)) == {Status.SUCCEEDED: len(self.handles)}


async def _status(handle: Handle) -> Status:
    return (await handle.result()).status


def _job(job_id: str) -> Job:
    return short_job(job_id, RUN, keep_result=600)
