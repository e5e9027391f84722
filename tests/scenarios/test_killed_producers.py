"""SIGKILL of whoever puts jobs in, at moments spread at random over its work, and the same command again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import pytest

from promptmill.embedded import EmbeddedValkey
from promptmill.settings import Settings
from tests.support.fleets import balance, environment_of, fleet
from tests.support.processes import simulator

RUN = "script"

SCRIPT = f"""
import asyncio, sys
from producers import Client

async def main():
    async with Client() as client:
        for number in range(int(sys.argv[1])):
            await client.submit(f"What is {{number}}?", id=f"{RUN}/{{number}}", run="{RUN}", max_tokens=50)
            print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.scenario
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("lines", "kills"), [pytest.param(500, 2, id="short"), pytest.param(8_000, 20, id="whole", marks=pytest.mark.soak)]
)
async def test_a_file_run_killed_at_random_moments_sends_each_line_once(tmp_path: Path, lines: int, kills: int) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    prompts.write_text("".join(f'{{"id":"q{n}","prompt":"What is {n}?"}}\n' for n in range(lines)))
    chance = random.Random(20_261_122)
    moments = sorted(chance.sample(range(lines), kills))
    with (
        simulator("--tier", "none", "--latency", "0.1", "--per-token", "0", "--track") as api,
        EmbeddedValkey(tmp_path) as valkey,
    ):
        environment = environment_of(valkey.url, tmp_path, api, concurrency=20)
        command = ("-m", "producers.cli", "run", "--no-workers", str(prompts), "--out", str(out))
        async with fleet(2, environment) as workers:
            killed = 0
            for ended in moments:
                run = await _python(environment, *command)
                # Where it finds all lines sent by the life before, it may come to its end before the moment does.
                await _first(workers.until(lambda ended=ended: workers.said["job_ended"] >= ended), run.wait())
                killed += await _kill(run)
            run = await _python(environment, *command)
            await run.communicate()
        told = await balance(api, Settings.load(environ={}, redis_url=valkey.url, data_dir=tmp_path))

    print(f"\n{lines} lines, {killed} runs killed; {told.requests.total()} requests arrived")
    told.assert_whole({result.job_id for result in told.results})
    assert run.returncode == 0
    assert [json.loads(line)["id"] for line in out.read_bytes().splitlines()] == [f"q{n}" for n in range(lines)]
    assert told.requests.total() == lines
    assert killed >= kills // 2


@pytest.mark.scenario
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("jobs", "kills"), [pytest.param(500, 3, id="short"), pytest.param(5_000, 20, id="whole", marks=pytest.mark.soak)]
)
async def test_a_script_killed_while_it_submits_and_begun_again_asks_for_each_job_once(
    tmp_path: Path, jobs: int, kills: int
) -> None:
    """Its ids are its own: what is queued already, running or ended and kept is not queued again."""
    chance = random.Random(20_261_122)
    moments = sorted(chance.sample(range(jobs), kills))
    with (
        simulator("--tier", "none", "--latency", "0.1", "--per-token", "0", "--track") as api,
        EmbeddedValkey(tmp_path) as valkey,
    ):
        environment = environment_of(valkey.url, tmp_path, api, concurrency=20)
        settings = Settings.load(environ={}, redis_url=valkey.url, data_dir=tmp_path)
        async with fleet(2, environment) as workers:
            await workers.until(lambda: len(workers.pids) == 2)
            for said in moments:
                script = await _python(environment, "-c", SCRIPT, str(jobs))
                await _has_said(script, said)
                assert await _kill(script)
            script = await _python(environment, "-c", SCRIPT, str(jobs))
            await script.communicate()
            await workers.until(lambda: workers.said["job_ended"] >= jobs)
        told = await balance(api, settings)

    print(f"\n{jobs} jobs, {kills} scripts killed; {told.requests.total()} requests arrived")
    told.assert_whole(f"{RUN}/{number}" for number in range(jobs))
    assert script.returncode == 0
    assert told.requests.total() == jobs


async def _python(environment: dict[str, str], *command: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, *command), env={**os.environ, **environment}, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL
    )


async def _has_said(script: Process, number: int) -> None:
    assert script.stdout is not None
    while int(await script.stdout.readline()) < number:
        pass


async def _first(*things) -> None:
    """Return when one of these has come about."""
    tasks = [asyncio.ensure_future(thing) for thing in things]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _kill(process: Process) -> bool:
    """Kill a process that has perhaps ended by itself; whether it had not."""
    if process.returncode is not None:
        return False
    process.kill()
    await process.communicate()
    return process.returncode is not None and process.returncode < 0
