"""Several processes on one store, and one that is killed."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from promptmill.results import Status
from promptmill.store import ResultStore
from tests.conformance.store.samples import collect

ROOT = Path(__file__).parents[3]
WRITERS = 3


async def start_writer(url: str, writer: int, results: int) -> Process:
    arguments = ("-m", "tests.conformance.store.writer_process", url, str(writer), str(results))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def test_processes_that_start_together_make_one_schema_and_lose_no_result(store_url: str) -> None:
    writers = await asyncio.gather(*(start_writer(store_url, number, 40) for number in range(WRITERS)))

    written = await asyncio.gather(*(writer.communicate(b"go\n") for writer in writers))

    assert [writer.returncode for writer in writers] == [0] * WRITERS
    kept = [job_id for out, _ in written for job_id in out.decode().split()]
    assert len(kept) == 40 * WRITERS
    async with await ResultStore.open(store_url) as store:
        results = {result.job_id: result for result in await collect(store.results())}
    shared = {job_id: result for job_id, result in results.items() if job_id.startswith("shared-")}
    assert results.keys() - shared.keys() == set(kept)
    assert {job_id: (result.status, result.worker) for job_id, result in shared.items()} == {
        f"shared-{number}": (Status.SUCCEEDED, str(number % WRITERS)) for number in range(40)
    }


async def test_what_was_recorded_survives_a_process_that_is_killed(store_url: str) -> None:
    writer = await start_writer(store_url, 0, 100_000)
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write(b"go\n")
    kept = [(await writer.stdout.readline()).decode().strip() for _ in range(25)]

    writer.kill()
    rest = (await writer.stdout.read()).decode()
    await writer.wait()

    kept += rest.split("\n")[:-1]  # the last piece is empty, or was cut off
    async with await ResultStore.open(store_url) as store:
        assert (await store.finished(kept)).keys() == set(kept)
        totals = await store.run_totals("nightly")
    assert totals.counts[Status.SUCCEEDED] >= len(kept)
