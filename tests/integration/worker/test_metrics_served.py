"""Prometheus scrapes one address for all processes of a worker."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.worker.test_processes import ARQ, MODULE, environment_of, pid_of, running
from tests.support.workers import make_job


async def scrape(address: str) -> dict[str, float]:
    """The counted jobs and requests, by name, over all labels."""

    def read() -> str:
        with urllib.request.urlopen(address) as answer:
            return answer.read().decode()

    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(await asyncio.to_thread(read)):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0) + sample.value
    return totals


async def work_off(mill, *names):
    await mill.submit(*map(make_job, names))
    for name in names:
        await mill.ends.of(name)


async def test_several_processes_report_once_and_a_dead_ones_counts_stay(mill):
    environment = environment_of(mill, PROMPTMILL_METRICS_ADDRESS="127.0.0.1:0")
    async with running([*MODULE, "--processes", "2"], environment) as fleet:
        address = (await fleet.says("metrics_served"))["address"]
        first = pid_of(await fleet.says("worker_started"))
        await fleet.says("worker_started")
        await work_off(mill, *(f"job-{number}" for number in range(20)))
        for _ in range(20):
            await fleet.says("job_ended")  # counted before it is said
        before = await scrape(address)
        os.kill(first, signal.SIGKILL)
        await fleet.says("worker_started")  # another took its place
        after = await scrape(address)
        fleet.signal(signal.SIGTERM)
        assert await fleet.ends() == 0, fleet.log
    assert before["promptmill_jobs_total"] == before["promptmill_attempts_total"] == 20
    assert {name: total for name, total in after.items() if name.endswith("_total")} == {
        name: total for name, total in before.items() if name.endswith("_total")
    }


async def test_a_worker_that_arq_started_reports_as_well(mill):
    async with running(ARQ, environment_of(mill, PROMPTMILL_METRICS_ADDRESS="127.0.0.1:0")) as worker:
        address = (await worker.says("metrics_served"))["address"]
        await work_off(mill, "job")
        await worker.says("job_ended")
        assert (await scrape(address))["promptmill_jobs_total"] == 1
        worker.signal(signal.SIGTERM)
        assert await worker.ends() == 0, worker.log


async def test_a_port_that_is_taken_is_named(mill):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with running(MODULE, environment_of(mill, PROMPTMILL_METRICS_ADDRESS=f"127.0.0.1:{port}")) as worker:
            assert await worker.ends() == 2
    assert f"metrics_address: cannot listen on 127.0.0.1:{port}: Address already in use" in "".join(worker.log)
