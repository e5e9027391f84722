"""One system in one case: what the simulator counted between two moments of its own clock."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from promptmill.queue import connect
from tests.bench.pacing.baselines import BASELINES, BaselineSystem
from tests.bench.pacing.cases import Case, Prompts
from tests.bench.pacing.light_workers import LightWorkers
from tests.bench.pacing.ours import Ours
from tests.bench.pacing.prompts import simulator_options
from tests.bench.pacing.systems import MakeSystem, Tally, entered, to_the_end
from tests.bench.rows import percentile
from tests.support.processes import SimulatorProcess, simulator

OURS = "promptmill"
START_TIMEOUT_S = 120
LATEST_ASKED_S = 5
"""An interactive job asked so late before the end is not judged: it may be under way."""


def systems(case: Case) -> Mapping[str, MakeSystem]:
    """Return who is compared in a case, by name; ours first."""
    ours: MakeSystem = LightWorkers if case.connections else Ours
    return {OURS: ours, **{name: partial(BaselineSystem, name) for name in BASELINES}}


@dataclass(frozen=True)
class Figures:
    """What one system made of one case. What is None was not measured, or does not apply."""

    use: float
    """Of what the account may, between the end of the warm-up and the end."""
    early_use: float
    """The same from the first request on."""
    granted: int
    refused: int
    """429s, from the first request on."""
    lost: int | None = None
    waits: tuple[float, float] | None = None
    """P50 and P99 of what interactive jobs waited, in slots."""
    calls: float | None = None
    """Claims for each grant; of a baseline, calls of its script."""
    cores: float | None = None
    """Of Redis."""
    starved: int | None = None
    """Jobs that were passed over."""
    contention: float | None = None
    """Share of the time in which something on this machine waited for a core."""


@dataclass(frozen=True)
class Sample:
    """Counts at one moment."""

    seconds: float
    """Since the first request, on the simulator's clock."""
    used: int
    """Units of the dimension that is measured: ours and, where they are there, the others'."""
    granted: int
    refused: int
    in_flight: int
    calls: int | None
    cpu: float | None
    taken_at: float
    waited_for_cpu: float | None


async def measure(case: Case, name: str, folder: Path) -> Figures:
    """Run one system in one case."""
    with contextlib.ExitStack() as stack:
        try:
            api = await entered(stack, simulator(*simulator_options(case)))
            system = systems(case)[name](case, api.base_url, folder, stack)
            await system.start()
            first = await _first_request(api)
            async with asyncio.TaskGroup() as group:
                if case.change is not None:
                    group.create_task(_change(case, api, first))
                await asyncio.sleep(first + case.warm_up.total_seconds() - time.monotonic())
                before = await _sample(case, name, api, system.redis_url)
                await asyncio.sleep(case.window.total_seconds())
                after = await _sample(case, name, api, system.redis_url)
            tally = await system.finish()
        finally:
            await to_the_end(stack.close)
    return _figures(case, before, after, tally)


async def _first_request(api: SimulatorProcess) -> float:
    """Return when the first request arrived (monotonic). Raises TimeoutError where none does: nobody has started."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            seconds: float = (await asyncio.to_thread(api.stats))["seconds"]
            if seconds:
                return time.monotonic() - seconds
            await asyncio.sleep(0.1)


async def _change(case: Case, api: SimulatorProcess, first: float) -> None:
    assert case.change is not None
    await asyncio.sleep(first + case.change.at.total_seconds() - time.monotonic())
    limits = case.change.limits.model_dump(mode="json", exclude_unset=True)
    await asyncio.to_thread(partial(api.control, limits=limits))


async def _sample(case: Case, name: str, api: SimulatorProcess, redis_url: str | None) -> Sample:
    calls, cpu = (None, None) if redis_url is None else await _ask_redis(redis_url, ours=name == OURS)
    stats: dict[str, Any] = await asyncio.to_thread(api.stats)
    use = stats["use"]["haiku-5-5"]
    measured = use[case.bound_by.value]
    return Sample(
        seconds=stats["seconds"],
        used=measured["granted"] + (measured["by_others"] if case.others else 0),
        granted=stats["by_status"].get("200", 0),
        refused=stats["by_status"].get("429", 0),
        in_flight=stats["in_flight"],
        calls=calls,
        cpu=cpu,
        taken_at=time.monotonic(),
        waited_for_cpu=_waited_for_cpu(),
    )


async def _ask_redis(url: str, *, ours: bool) -> tuple[int, float]:
    """Return how often the pacer's script was called, and the CPU seconds of the server."""
    async with connect(url) as redis:
        commands = await redis.info("commandstats")
        cpu = await redis.info("cpu")
    # Of our scripts only claim asks who may be sent; it alone reads the set of budgets, once.
    counted = commands.get("cmdstat_smembers" if ours else "cmdstat_evalsha", {"calls": 0})
    return int(counted["calls"]), float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def _waited_for_cpu() -> float | None:
    """Return for how many seconds something has waited for a core since this machine started; only Linux tells."""
    try:
        return int(Path("/proc/pressure/cpu").read_text(encoding="ascii").split()[4].removeprefix("total=")) / 1e6
    except OSError:
        return None


def _figures(case: Case, before: Sample, after: Sample, tally: Tally) -> Figures:
    per_second = case.judged_per_minute / 60
    span, granted = after.seconds - before.seconds, after.granted - before.granted
    waits = [
        (after.taken_at - asked if wait is None else wait) / case.slot.total_seconds()
        for asked, wait in tally.waits
        if before.taken_at <= asked <= after.taken_at - LATEST_ASKED_S
    ]
    starved = None
    if tally.passed_over is not None and case.prompts is Prompts.ANY_SIZE:
        starved = max(0, tally.passed_over - after.in_flight)
    return Figures(
        use=(after.used - before.used) / (per_second * span),
        early_use=after.used / (per_second * after.seconds),
        granted=after.granted,
        refused=after.refused,
        lost=tally.lost,
        waits=(percentile(waits, 0.5), percentile(waits, 0.99)) if len(waits) > 1 else None,
        calls=_per(before.calls, after.calls, max(granted, 1)),
        cores=_per(before.cpu, after.cpu, span),
        starved=starved,
        contention=_per(before.waited_for_cpu, after.waited_for_cpu, span),
    )


def _per(before: float | None, after: float | None, unit: float) -> float | None:
    return None if before is None or after is None else (after - before) / unit
