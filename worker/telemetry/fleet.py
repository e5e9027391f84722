"""What all workers share, read when Prometheus scrapes: queue, budgets, dead letters. Every worker reports the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.asyncio import Redis

from promptmill.errors import PromptmillError
from promptmill.foresight import Backlog, lane_left
from promptmill.jobs import Lane
from promptmill.pacing import DIMENSIONS
from promptmill.queue import Queue, connect, keys
from promptmill.queue.connection import redis_errors
from promptmill.settings import Settings
from promptmill.store import ResultStore

PATIENCE: Final = timedelta(seconds=5)
"""A scrape does not wait longer for what is away: what it has not got is left out."""

_ENQUEUED: Final = re.compile(rb'"et":(\d+)')
_END: Final = 64
"""Bytes of a payload's end in which its envelope says when it was enqueued."""


@dataclass(slots=True)
class _ModelClass:
    fields: dict[str, str]
    backlog: Backlog
    ready: dict[Lane, int]
    oldest_s: dict[Lane, float]


@dataclass(slots=True)
class _Fleet:
    classes: dict[str, _ModelClass] = field(default_factory=dict)
    dead_letters: int | None = None
    redis_is_up: bool = False


class FleetCollector(Collector):
    """Reads Redis and the result store at each scrape, on connections of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; called by the thread that answers the scrape."""
        fleet = asyncio.run(_read(self._settings))
        yield GaugeMetricFamily("promptmill_redis_up", "Whether Redis answers.", value=float(fleet.redis_is_up))
        if fleet.dead_letters is not None:
            yield GaugeMetricFamily("promptmill_dead_letters", "Open dead letters.", value=fleet.dead_letters)
        by_lane, by_dimension = ["model_class", "lane"], ["model_class", "dimension"]
        jobs = GaugeMetricFamily("promptmill_queue_jobs", "Jobs ready in their lane.", labels=by_lane)
        oldest = GaugeMetricFamily("promptmill_oldest_job_seconds", "Age of the lane's first job.", labels=by_lane)
        left = GaugeMetricFamily(
            "promptmill_time_left_seconds", "Until what is queued is answered; absent where unknown.", labels=by_lane
        )
        rates = GaugeMetricFamily("promptmill_budget_per_minute", "What may be spent.", labels=by_dimension)
        others = GaugeMetricFamily(
            "promptmill_budget_others", "Share of the limit that others of the account take.", labels=by_dimension
        )
        blocked = GaugeMetricFamily(
            "promptmill_budget_blocked", "1 while nothing is sent, with the reason.", labels=["model_class", "reason"]
        )
        for name, found in fleet.classes.items():
            for lane in Lane:
                jobs.add_metric([name, lane.value], found.ready[lane])
                if lane in found.oldest_s:
                    oldest.add_metric([name, lane.value], found.oldest_s[lane])
                if (time := lane_left(found.backlog, lane)) is not None:
                    left.add_metric([name, lane.value], time.total_seconds())
            for d in DIMENSIONS:
                for family, of in ((rates, f"{d}_rate"), (others, f"{d}_others")):
                    if of in found.fields:
                        family.add_metric([name, d], float(found.fields[of]))
            reason = _why_blocked(found)
            blocked.add_metric([name, reason or "none"], float(reason is not None))
        yield from (jobs, oldest, left, rates, others, blocked)


def _why_blocked(found: _ModelClass) -> str | None:
    if found.backlog.is_out:
        return found.fields.get("open_reason", "out")
    if float(found.fields.get("blocked_until", 0)) > found.backlog.now:
        return found.fields.get("reason", "blocked")
    return None


async def _read(settings: Settings) -> _Fleet:
    fleet = _Fleet()
    redis = connect(settings.redis_url or "")
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            with redis_errors():
                for raw in await redis.smembers(keys.BUDGETS):  # type: ignore[misc]
                    name = raw.decode("utf-8", "replace")
                    fleet.classes[name] = await _read_class(redis, name, settings)
            fleet.redis_is_up = True
    except (PromptmillError, TimeoutError):
        fleet.classes.clear()
    finally:
        await redis.aclose()
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            async with await ResultStore.open(settings.store, migrate=False) as store:
                fleet.dead_letters = await store.count_dead_letters()
    except (PromptmillError, TimeoutError):
        pass
    return fleet


async def _read_class(redis: Redis, name: str, settings: Settings) -> _ModelClass:
    backlog = await Queue(redis).backlog(name, caps=settings.caps)
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(keys.BUDGET + name)
        for number in range(1, len(Lane) + 1):
            pipeline.zcard(f"{keys.LANE}{name}:{number}")
            pipeline.zrange(f"{keys.LANE}{name}:{number}", 0, 0)
        stored, *lanes = await pipeline.execute()
    found = _ModelClass(
        {key.decode(): value.decode("utf-8", "replace") for key, value in stored.items()}, backlog, {}, {}
    )
    for lane, count, first in zip(Lane, lanes[::2], lanes[1::2], strict=True):
        found.ready[lane] = count
        if first and (at := _ENQUEUED.search(await redis.getrange(keys.PAYLOAD + first[0].decode(), -_END, -1))):
            found.oldest_s[lane] = max(0.0, (backlog.now - int(at[1])) / 1000)
    return found
