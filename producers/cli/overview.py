"""What the queue looks like just now, read from Redis without disturbing anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from producers.finish import run_time_left
from promptmill.caps import SpendCap
from promptmill.foresight import lane_left
from promptmill.halts import Halts
from promptmill.jobs import Lane
from promptmill.pacing import DIMENSIONS, MS_PER_MINUTE
from promptmill.queue import Queue, keys
from promptmill.queue.connection import redis_errors
from promptmill.queue.status_page import PageSays, page_says

GONE_AFTER: Final = timedelta(seconds=15)
"""A worker reports every few seconds; one silent for this long is dead or cut off, and its leases have run out."""

HEARD_WITHIN: Final = timedelta(minutes=2)
"""Of what was heard of the provider longer ago, nothing is said."""

RECORDS_READ: Final = 10_000
"""Jobs outside their lanes whose records are looked at. Leases end soonest, so they come first among these."""

_SAMPLE: Final = 1_000
"""Records read to reckon the time left: somebody waits for this, and seldom."""
_LEASED: Final = "l"
_NANO: Final = Decimal(10) ** -9


@dataclass(frozen=True, slots=True)
class BudgetView:
    """One model class: what waits for it and how fast it may be spent."""

    name: str
    lanes: Mapping[str, int]
    """Jobs that are ready, by lane."""
    per_minute: Mapping[str, float]
    """By dimension, headroom taken off; empty where no worker has set the budget yet."""
    debt_ms: Mapping[str, float]
    """By dimension: how long until it is full again."""
    named: Mapping[str, float]
    """By dimension: the limit that the provider names, a minute, where it is not the one that was set."""
    others: float | None
    """Share of the limits that others of the same account take; None: nobody knows."""
    next_request_ms: float
    """How long until the next request may be sent, tokens aside."""
    blocked_until: datetime | None
    blocked_because: str | None
    out_since: datetime | None
    """Since when the provider answers nobody, or refuses the account: probes find out when that is over."""
    out_because: str | None
    parked: bool
    """Whether the account is refused, until its owner mends something."""
    next_probe: datetime | None
    out_until: datetime | None
    """When it ends at the latest, where that is known."""
    time_left_ms: Mapping[str, int | None]
    """By lane: how long until all that is in it now is answered; None where nobody can know."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """What a worker last said of itself."""

    id: str
    host: str
    pid: int
    running: int
    free: int
    version: str
    started_at: datetime
    seen_at: datetime
    gone: bool
    cut_off: bool
    """Whether it finds no connection to the provider while others are answered."""


@dataclass(frozen=True, slots=True)
class RunView:
    """One run: what was submitted and how it ended."""

    id: str
    submitted: int
    ended: Mapping[str, int]
    """By status."""
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    last_change: datetime
    time_left_ms: int | None
    """None where nobody can know, and where nothing is open."""

    @property
    def open(self) -> int:
        """Jobs that have not ended."""
        return max(0, self.submitted - sum(self.ended.values()))


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything that is in Redis, counted."""

    at: datetime
    """On Redis' clock."""
    jobs: int
    ready: int
    waiting: int
    """Until a time: deferred, snoozed, or just put in by an arq client."""
    leased: int
    to_be_ended: int
    """Ready as well: cancelled or expired, they need no request."""
    budgets: tuple[BudgetView, ...]
    workers: tuple[WorkerView, ...]
    runs: tuple[RunView, ...]
    """Those that changed last, the newest first."""
    halts: Halts
    """Lanes that are paused, and models that are not used as fallbacks."""
    provider_says: PageSays | None
    """What the provider's status page said lately, where a worker asked it."""
    spend: Mapping[str, str]
    """What was spent in the present hour and day, as Redis has it; see promptmill.caps."""

    def to_json(self) -> dict[str, Any]:
        """Return the overview as `promptmill status --json` prints it."""
        runs = [{**asdict(run), "open": run.open, "cost_usd": str(run.cost_usd)} for run in self.runs]
        whole = asdict(self)
        del whole["spend"]  # what there is to know of it stands in the caps
        whole["halts"] = whole["halts"]["all"]
        return {**whole, "runs": runs}


async def read_overview(redis: Redis, *, runs: int, caps: Sequence[SpendCap] = ()) -> Overview:
    """Return the overview with the latest `runs` runs. Raises QueueUnavailable."""
    queue = Queue(redis)
    with redis_errors():
        seconds, microseconds = await redis.time()
        now = datetime.fromtimestamp(seconds + microseconds / 1e6, UTC)
        names = sorted(name.decode() for name in await redis.smembers(keys.BUDGETS))  # type: ignore[misc]
        budgets = tuple([await _budget(queue, name, now, caps) for name in names])
        jobs, to_be_ended = await redis.zcard(keys.QUEUE), await redis.zcard(keys.DUE)
        leased = await _leased(redis)
        ready = min(jobs - leased, to_be_ended + sum(sum(budget.lanes.values()) for budget in budgets))
        return Overview(
            at=now,
            jobs=jobs,
            ready=ready,
            waiting=jobs - leased - ready,
            leased=leased,
            to_be_ended=to_be_ended,
            budgets=budgets,
            workers=await _workers(redis, now),
            runs=await _runs(queue, now, runs, caps),
            halts=await queue.halts(now.timestamp() * 1000),
            provider_says=await page_says(redis),
            spend=await queue.spend(),
        )


async def _budget(queue: Queue, name: str, now: datetime, caps: Sequence[SpendCap]) -> BudgetView:
    backlog = await queue.backlog(name, caps=caps, sample=_SAMPLE)
    async with queue.redis.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(keys.BUDGET + name)
        for lane in range(1, len(Lane) + 1):
            pipeline.zcard(f"{keys.LANE}{name}:{lane}")
        stored, *counts = await pipeline.execute()
    fields = {key.decode(): value.decode() for key, value in stored.items()}
    now_ms = now.timestamp() * 1000
    whole = [d for d in DIMENSIONS if {f"{d}_rate", f"{d}_burst", f"{d}_tat"} <= fields.keys()]
    rates = {d: float(fields[f"{d}_rate"]) for d in whole}  # a budget that lost a field is configured anew by a worker
    tats = {d: float(fields[f"{d}_tat"]) for d in rates}
    blocked_ms, probe_ms = float(fields.get("blocked_until", 0)), float(fields.get("probe_at", 0))
    next_ms = max(blocked_ms, probe_ms)
    if "requests" in rates:
        burst = float(fields["requests_burst"])
        next_ms = max(next_ms, tats["requests"] + (min(1, burst) - burst) * MS_PER_MINUTE / rates["requests"])
    return BudgetView(
        name=name,
        lanes=dict(zip((lane.value for lane in Lane), counts, strict=True)),
        per_minute=rates,
        debt_ms={d: max(0.0, round(tat - now_ms, 1)) for d, tat in tats.items()},
        named=_named(fields),
        others=_others(fields, now_ms),
        next_request_ms=max(0.0, round(next_ms - now_ms, 1)),
        blocked_until=_time(blocked_ms / 1000) if blocked_ms > now_ms else None,
        blocked_because=fields.get("reason") if blocked_ms > now_ms else None,
        out_since=_time(float(fields["open_since"]) / 1000) if "open_since" in fields else None,
        out_because=fields.get("open_reason"),
        parked=fields.get("open_effect") == "parks",
        next_probe=_time(probe_ms / 1000) if probe_ms else None,
        out_until=_time(until_ms / 1000) if (until_ms := float(fields.get("open_until", 0))) > now_ms else None,
        time_left_ms={lane.value: _whole_ms(lane_left(backlog, lane)) for lane in Lane},
    )


def _named(fields: Mapping[str, str]) -> dict[str, float]:
    limits = {d: (float(fields.get(f"{d}_limit", 0)), float(fields.get(f"{d}_setting", 0))) for d in DIMENSIONS}
    return {d: named for d, (named, setting) in limits.items() if named not in {0, setting}}


def _others(fields: Mapping[str, str], now_ms: float) -> float | None:
    """Return the largest share that others take in any dimension; an estimate of long ago says nothing about now."""
    known = [float(fields[f"{d}_others"]) for d in DIMENSIONS if f"{d}_others" in fields]
    recent = now_ms - float(fields.get("seen_at", 0)) < HEARD_WITHIN / timedelta(milliseconds=1)
    return round(max(known), 3) if known and recent else None


async def _leased(redis: Redis) -> int:
    timed = await redis.zrangebyscore(keys.QUEUE, "(1", "+inf", start=0, num=RECORDS_READ)
    records = await redis.hmget(keys.JOBS, timed) if timed else []  # type: ignore[misc]
    return sum(1 for record in records if _state(record) == _LEASED)


def _state(record: bytes | None) -> str | None:
    try:
        fields = orjson.loads(record or b"null")
    except orjson.JSONDecodeError:
        return None
    return fields[0] if isinstance(fields, list) and fields else None


async def _workers(redis: Redis, now: datetime) -> tuple[WorkerView, ...]:
    views = []
    for name, said in (await redis.hgetall(keys.WORKERS)).items():  # type: ignore[misc]
        try:
            fields = orjson.loads(said)
            seen_at = _time(fields["seen_at"])
            views.append(
                WorkerView(
                    id=name.decode(),
                    host=str(fields["host"]),
                    pid=int(fields["pid"]),
                    running=int(fields["running"]),
                    free=int(fields["free"]),
                    version=str(fields["version"]),
                    started_at=_time(fields["started_at"]),
                    seen_at=seen_at,
                    gone=now - seen_at > GONE_AFTER,
                    cut_off=bool(fields.get("cut_off")),
                )
            )
        except (ValueError, KeyError, TypeError):
            continue  # of a later version, or not ours
    return tuple(sorted(views, key=lambda view: (view.gone, view.host, view.pid)))


def _time(value: Any) -> datetime:
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    at = datetime.fromisoformat(value)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


async def _runs(queue: Queue, now: datetime, limit: int, caps: Sequence[SpendCap]) -> tuple[RunView, ...]:
    if limit == 0:
        return ()
    redis = queue.redis
    names = [name.decode() async for name in redis.scan_iter(match=f"{keys.RUN}*", count=10_000, _type="hash")]
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.pttl(name)
        left = await pipeline.execute() if names else []
    newest = sorted(zip(left, names, strict=True), reverse=True)[:limit]
    return tuple([await _run(queue, name, now - _KEPT + timedelta(milliseconds=ttl), caps) for ttl, name in newest])


_KEPT: Final = timedelta(days=30)
"""A run's counts are kept for this long after their last change, so what is left of it dates that change."""

_RUN_STATUSES: Final = ("succeeded", "failed", "cancelled", "expired")
_RUN_COUNTS: Final = ("submitted", *_RUN_STATUSES, "input_tokens", "output_tokens", "cost_nano_usd")


async def _run(queue: Queue, name: str, last_change: datetime, caps: Sequence[SpendCap]) -> RunView:
    stored = await queue.redis.hmget(name, list(_RUN_COUNTS))  # type: ignore[misc]
    counts = {field: int(value) for field, value in zip(_RUN_COUNTS, stored, strict=True) if value is not None}
    view = RunView(
        id=name.removeprefix(keys.RUN),
        submitted=counts.get("submitted", 0),
        ended={status: counts[status] for status in _RUN_STATUSES if status in counts},
        input_tokens=counts.get("input_tokens", 0),
        output_tokens=counts.get("output_tokens", 0),
        cost_usd=counts.get("cost_nano_usd", 0) * _NANO,
        last_change=last_change,
        time_left_ms=None,
    )
    return replace(view, time_left_ms=_whole_ms(await run_time_left(queue, view.id, caps))) if view.open else view


def _whole_ms(left: timedelta | None) -> int | None:
    return None if left is None else round(left / timedelta(milliseconds=1))
