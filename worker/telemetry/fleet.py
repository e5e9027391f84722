"""What all workers share, read when Prometheus scrapes: queue, budgets, caps, alarms, dead letters."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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
from worker.telemetry import names

PATIENCE: Final = timedelta(seconds=5)
"""A scrape does not wait longer for what is away: what it has not got is left out."""

_ENQUEUED: Final = re.compile(rb'"et":(\d+)')
_END: Final = 64
"""Bytes of a payload's end in which its envelope says when it was enqueued."""
_ALARMS_READ: Final = 1_000
_ALL: Final = "all"


@dataclass(slots=True)
class _ModelClass:
    fields: dict[str, str]
    backlog: Backlog
    ready: dict[Lane, int]
    oldest_s: dict[Lane, float]


@dataclass(slots=True)
class _InRedis:
    classes: dict[str, _ModelClass] = field(default_factory=dict)
    held: int = 0
    spend: Mapping[str, str] = field(default_factory=dict)
    now: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class _InStore:
    dead_letters: int
    alarms: Counter[tuple[str, str, str]]


class FleetCollector(Collector):
    """Reads Redis and the result store at each scrape, on connections of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; called by the thread that answers the scrape."""
        in_redis, in_store = asyncio.run(_read(self._settings))
        families = {name: GaugeMetricFamily(name, it.says, labels=it.labels) for name, it in names.SHARED.items()}
        families[names.REDIS_UP].add_metric([], float(in_redis is not None))
        families[names.STORE_UP].add_metric([], float(in_store is not None))
        if in_redis is not None:
            families[names.HELD].add_metric([], in_redis.held)
            for name, found in in_redis.classes.items():
                _tell_lanes(families, name, found)
                _tell_budget(families, name, found)
            self._tell_caps(families, in_redis)
        if in_store is not None:
            families[names.DEAD_LETTERS].add_metric([], in_store.dead_letters)
            for labels, count in in_store.alarms.items():
                families[names.ALARMS].add_metric(labels, count)
        yield from families.values()

    def _tell_caps(self, families: Mapping[str, GaugeMetricFamily], found: _InRedis) -> None:
        for cap in self._settings.caps:
            labels = [cap.per, cap.lane.value if cap.lane else _ALL, cap.model_class or _ALL, cap.action]
            families[names.CAP].add_metric(labels, float(cap.usd))
            families[names.CAP_SPENT].add_metric(labels, float(cap.spent(found.spend, found.now)))


def _tell_lanes(families: Mapping[str, GaugeMetricFamily], name: str, found: _ModelClass) -> None:
    for lane in Lane:
        families[names.QUEUED].add_metric([name, lane.value], found.ready[lane])
        if lane in found.oldest_s:
            families[names.OLDEST].add_metric([name, lane.value], found.oldest_s[lane])
        if (time := lane_left(found.backlog, lane)) is not None:
            families[names.TIME_LEFT].add_metric([name, lane.value], time.total_seconds())


def _tell_budget(families: Mapping[str, GaugeMetricFamily], name: str, found: _ModelClass) -> None:
    fields, now_ms = found.fields, found.backlog.now
    for d in DIMENSIONS:
        for family, of in ((names.BUDGET, f"{d}_rate"), (names.OTHERS, f"{d}_others")):
            if of in fields:
                families[family].add_metric([name, d], float(fields[of]))
    reason = _why_blocked(found)
    families[names.BLOCKED].add_metric([name, reason or "none"], float(reason is not None))
    open_ms = now_ms - float(fields["open_since"]) if "open_since" in fields else 0.0
    families[names.BREAKER].add_metric([name], max(0.0, open_ms / 1000))
    families[names.PAUSE].add_metric([name], max(0.0, (float(fields.get("blocked_until", 0)) - now_ms) / 1000))


def _why_blocked(found: _ModelClass) -> str | None:
    if found.backlog.is_out:
        return found.fields.get("open_reason", "out")
    if float(found.fields.get("blocked_until", 0)) > found.backlog.now:
        return found.fields.get("reason", "blocked")
    return None


async def _read(settings: Settings) -> tuple[_InRedis | None, _InStore | None]:
    in_redis, in_store = None, None
    redis = connect(settings.redis_url or "")
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            in_redis = await _read_redis(redis, settings)
    except (PromptmillError, TimeoutError):
        pass
    finally:
        await redis.aclose()
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            in_store = await _read_store(settings)
    except (PromptmillError, TimeoutError):
        pass
    return in_redis, in_store


async def _read_redis(redis: Redis, settings: Settings) -> _InRedis:
    with redis_errors():
        seconds, microseconds = await redis.time()
        found = _InRedis(
            held=await redis.zcard(keys.QUEUE),
            spend=await Queue(redis).spend(),
            now=datetime.fromtimestamp(seconds + microseconds / 1e6, UTC),
        )
        for raw in await redis.smembers(keys.BUDGETS):  # type: ignore[misc]
            name = raw.decode("utf-8", "replace")
            found.classes[name] = await _read_class(redis, name, settings)
    return found


async def _read_store(settings: Settings) -> _InStore:
    async with await ResultStore.open(settings.store, migrate=False) as store:
        alarms = await store.watching.alarms(limit=_ALARMS_READ)
        return _InStore(
            dead_letters=await store.count_dead_letters(),
            alarms=Counter((alarm.series.model, alarm.metric, alarm.state.value) for alarm in alarms),
        )


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
