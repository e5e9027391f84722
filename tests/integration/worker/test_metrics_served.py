"""Prometheus scrapes one address for all processes of a worker."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import urllib.request
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from prometheus_client.parser import text_string_to_metric_families

from promptmill.alarms import Alarm, SeriesKey
from promptmill.caps import SpendCap
from promptmill.jobs import Lane
from promptmill.queue import Queue, connect, keys, prepare
from promptmill.store import ResultStore
from promptmill.store.watching import Findings
from tests.integration.worker.test_processes import ARQ, MODULE, environment_of, pid_of, running
from tests.support.processes import valkey
from tests.support.workers import make_job
from worker.telemetry.fleet import FleetCollector


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


async def test_queue_and_budgets_are_reported_and_redis_away_is_a_figure_too(mill, tmp_path):
    with valkey(tmp_path / "valkey") as (url, server):
        environment = environment_of(mill, PROMPTMILL_METRICS_ADDRESS="127.0.0.1:0", PROMPTMILL_REDIS_URL=url)
        redis = connect(url)
        queue = Queue(redis)
        await queue.submit([prepare(make_job(f"job-{n}"), mill.settings) for n in range(3)])
        await queue.block("haiku-5-5", timedelta(hours=1), "bad_key")
        await redis.aclose()
        async with running(MODULE, environment) as worker:
            address = (await worker.says("metrics_served"))["address"]
            await worker.says("worker_started")
            found = await scrape(address)
            await asyncio.to_thread(server.stop)
            away = await scrape(address)
            worker.signal(signal.SIGTERM)
            assert await worker.ends() == 0, worker.log
    assert (found["promptmill_queue_jobs"], found["promptmill_budget_blocked"]) == (3, 1)
    assert found["promptmill_oldest_job_seconds"] > 0
    assert found["promptmill_budget_per_minute"] > 0
    assert (found["promptmill_redis_up"], found["promptmill_dead_letters"]) == (1, 0)
    assert (away["promptmill_redis_up"], away["promptmill_dead_letters"]) == (0, 0)
    assert "promptmill_queue_jobs" not in away


async def test_caps_outages_pauses_and_alarms_are_gauges(mill, tmp_path):
    caps = (
        SpendCap(usd=Decimal(2), per="hour", lane=Lane.OVERNIGHT, model_class="haiku-5-5"),
        SpendCap(usd=Decimal(50), per="day", action="warn"),
    )
    settings = mill.settings.model_copy(update={"caps": caps})
    await mill.queue.submit([prepare(make_job("job"), settings)])
    await mill.queue.block("haiku-5-5", timedelta(hours=1), "rate_limited")
    now = datetime.now(UTC)
    await mill.queue.redis.hset(keys.BUDGET + "haiku-5-5", "open_since", str(now.timestamp() * 1000 - 90_000))
    hour, day = int(now.timestamp()) // 3_600, int(now.timestamp()) // 86_400
    spent = {"hour:3:haiku-5-5": f"{hour} 500000000", "day:3:haiku-5-5": f"{day} 1500000000"}
    await mill.queue.redis.hset(keys.SPEND, mapping=spent)
    async with await ResultStore.open(settings.store) as store:
        await store.watching.take_turn("worker", now=now, until=now)
        series = SeriesKey("claude-opus-5-5", "claude-haiku-5-5", "", "standard")
        worse = [
            Alarm(series._replace(lane=lane), "code_block", "lower", "all clearly", now, now, 40, 10**6)
            for lane in ("standard", "overnight")
        ]
        await store.watching.record(Findings(before=0, seq=1, states={}, raised=worse))

    def collect() -> dict[tuple[str, ...], float]:
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in FleetCollector(settings).collect()
            for sample in family.samples
        }

    found = await asyncio.to_thread(collect)
    assert found["promptmill_held_jobs",] == 1
    assert 90 <= found["promptmill_breaker_open_seconds", "haiku-5-5"] < 200
    assert 3_000 < found["promptmill_pause_seconds", "haiku-5-5"] <= 3_600
    assert found["promptmill_cap_usd", "hour", "overnight", "haiku-5-5", "park"] == 2
    assert found["promptmill_cap_spent_usd", "hour", "overnight", "haiku-5-5", "park"] == 0.5
    assert found["promptmill_cap_spent_usd", "day", "all", "all", "warn"] == 1.5
    assert found["promptmill_alarms", "claude-haiku-5-5", "code_block", "open"] == 2
    assert (found["promptmill_redis_up",], found["promptmill_store_up",]) == (1, 1)


async def test_a_port_that_is_taken_is_named(mill):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with running(MODULE, environment_of(mill, PROMPTMILL_METRICS_ADDRESS=f"127.0.0.1:{port}")) as worker:
            assert await worker.ends() == 2
    assert f"metrics_address: cannot listen on 127.0.0.1:{port}: Address already in use" in "".join(worker.log)
