"""What is written instead: three small programs that ask the same prompts of the same API.

Each is what its authors recommend or what most people write, with as many processes as ours:

- `SlidingLog`: what was sent in the last 60 s, shared through Redis, in one script; a process asks for one at a time.
- `Aiolimiter`: a leaky bucket in each process, the limit divided by their number.
- no pacer: 50 calls at a time in all processes together, and the SDK's own two retries.

The first two know what every request costs, and a mean answer; after a 429 they wait as told and ask their pacer again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from aiolimiter import AsyncLimiter
from anthropic import APIConnectionError, AsyncAnthropic, DefaultAioHttpClient, RateLimitError
from redis.asyncio import Redis

from promptmill.models import estimate_input_tokens
from tests.bench.pacing.cases import Case
from tests.bench.pacing.children import Children, children
from tests.bench.pacing.prompts import MEAN_ESSAY, arrivals, request
from tests.bench.pacing.systems import Tally, entered, to_the_end
from tests.support.processes import valkey

AT_ONCE = 50
"""Calls that a process has under way or waiting for its pacer, as ours; without a pacer all processes together."""

_UNLIMITED = 10**12


class Pacer(Protocol):
    """Says when a request may be sent."""

    async def wait(self, cost: tuple[int, int, int]) -> None:
        """Return when a request of so many requests, input and output tokens may go."""


class SlidingLog:
    """The usual hand-written pacer: whatever was sent in the last 60 s, in a sorted set that all processes share."""

    SCRIPT = """
    local time = redis.call('TIME')
    local now = time[1] * 1000 + time[2] / 1000
    local from = now - 60000
    for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', from)) do
      local requests, input, output = string.match(old, '^(%d+):(%d+):(%d+):')
      redis.call('HINCRBY', KEYS[2], 'requests', -requests)
      redis.call('HINCRBY', KEYS[2], 'input', -input)
      redis.call('HINCRBY', KEYS[2], 'output', -output)
    end
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', from)
    for i, d in ipairs({ 'requests', 'input', 'output' }) do
      if (redis.call('HGET', KEYS[2], d) or 0) + ARGV[i] > tonumber(ARGV[3 + i]) then
        local oldest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
        return math.ceil(oldest[2] + 60000 - now)
      end
    end
    for i, d in ipairs({ 'requests', 'input', 'output' }) do redis.call('HINCRBY', KEYS[2], d, ARGV[i]) end
    redis.call('ZADD', KEYS[1], now, table.concat({ ARGV[1], ARGV[2], ARGV[3], ARGV[7] }, ':'))
    return 0
    """

    def __init__(self, case: Case, redis_url: str, name: str) -> None:
        redis: Redis = Redis.from_url(redis_url)
        self._script = redis.register_script(self.SCRIPT)
        told = case.told_limits
        self._limits = (told.rpm or _UNLIMITED, told.itpm or _UNLIMITED, told.otpm or _UNLIMITED)
        self._names = (f"{name}-{number}" for number in count())
        self._one_by_one = asyncio.Lock()

    async def wait(self, cost: tuple[int, int, int]) -> None:
        async with self._one_by_one:
            ms = 1
            while ms:
                ms = await self._script(keys=["log", "sums"], args=[*cost, *self._limits, next(self._names)])
                await asyncio.sleep(ms / 1000)


class Aiolimiter:
    """`AsyncLimiter(limit, 60)` for each limit, as its documentation shows; each process has its share of it."""

    def __init__(self, case: Case, pacers: int) -> None:
        told = case.told_limits
        limits = (told.rpm, told.itpm, told.otpm)
        self._limiters = [None if limit is None else AsyncLimiter(limit / pacers, 60) for limit in limits]

    async def wait(self, cost: tuple[int, int, int]) -> None:
        for limiter, amount in zip(self._limiters, cost, strict=True):
            if limiter is not None:
                await limiter.acquire(amount)


@dataclass(frozen=True)
class Place:
    """Which process of how many, and whom it talks to."""

    case: Case
    base_url: str
    redis_url: str | None
    number: int
    processes: int

    @property
    def tasks(self) -> int:
        """Calls that this process has under way at most."""
        return math.ceil((self.case.connections or AT_ONCE * self.processes) / self.processes)


Send = Callable[[dict[str, Any]], Awaitable[float | None]]
"""Asks until there is an answer; when the request was sent that was answered (monotonic), None: given up."""


async def send_paced(client: AsyncAnthropic, pacer: Pacer, body: dict[str, Any]) -> float | None:
    """Ask the pacer, then send; after a 429 wait as told and begin again."""
    cost = (1, estimate_input_tokens(body), min(body["max_tokens"], MEAN_ESSAY))
    while True:
        await pacer.wait(cost)
        sent = time.monotonic()
        try:
            await client.messages.create(**body)
        except RateLimitError as error:
            await asyncio.sleep(float(error.response.headers["retry-after"]))
        except APIConnectionError:  # a machine too busy to connect in time
            continue
        else:
            return sent


async def send_unpaced(client: AsyncAnthropic, body: dict[str, Any]) -> float | None:
    """Send; what the SDK's retries do not answer is lost."""
    try:
        raw = await client.messages.with_raw_response.create(**body)
    except (RateLimitError, APIConnectionError):
        return None
    took: timedelta = raw.elapsed
    return time.monotonic() - took.total_seconds()


def sliding_log(client: AsyncAnthropic, place: Place) -> list[Send]:
    """Pace each process with a log, or each worker where they have connections of their own."""
    assert place.redis_url is not None
    pacers = place.tasks if place.case.connections else 1
    logs = [SlidingLog(place.case, place.redis_url, f"{place.number}-{number}") for number in range(pacers)]
    return [partial(send_paced, client, logs[task % pacers]) for task in range(place.tasks)]


def aiolimiter(client: AsyncAnthropic, place: Place) -> list[Send]:
    """Pace each process with a limiter."""
    return [partial(send_paced, client, Aiolimiter(place.case, place.processes))] * place.tasks


def no_pacer(client: AsyncAnthropic, place: Place) -> list[Send]:
    """Let the SDK do it."""
    tasks = place.tasks if place.case.connections else math.ceil(AT_ONCE / place.processes)
    return [partial(send_unpaced, client)] * tasks


@dataclass(frozen=True)
class Baseline:
    """How one baseline sends."""

    sends: Callable[[AsyncAnthropic, Place], list[Send]]
    client_options: Mapping[str, Any] = field(default_factory=dict)
    shares_redis: bool = False


BASELINES: Mapping[str, Baseline] = {
    "sliding 60 s log": Baseline(sliding_log, {"max_retries": 0}, shares_redis=True),
    "aiolimiter": Baseline(aiolimiter, {"max_retries": 0}),
    "SDK retries": Baseline(no_pacer),
}


async def drain(name: str, place: Place) -> Tally:
    """Be one process of a baseline: ask every n-th prompt until cancelled."""
    tally = Tally()
    case, baseline = place.case, BASELINES[name]

    async def ask_on(send: Send) -> None:
        for number in numbers:
            if await send(request(case.prompts, number)) is None:
                tally.lost += 1

    async def ask_for_somebody(send: Send, number: int) -> None:
        asked, sent = time.monotonic(), None
        try:
            sent = await send(request(case.prompts, number))
            tally.lost += sent is None
        finally:
            tally.waits.append((asked, None if sent is None else sent - asked))

    async def be_asked(send: Send) -> None:
        started = time.monotonic()
        for number, at in enumerate(arrivals(case)):
            if number % place.processes == place.number:
                await asyncio.sleep(started + at - time.monotonic())
                group.create_task(ask_for_somebody(send, 10**6 + number))

    numbers = count(place.number, place.processes)
    http_client = DefaultAioHttpClient()
    async with AsyncAnthropic(
        api_key="any", base_url=place.base_url, http_client=http_client, **baseline.client_options
    ) as client:
        sends = baseline.sends(client, place)
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.TaskGroup() as group:
                for send in sends:
                    group.create_task(ask_on(send))
                if case.interactive:
                    group.create_task(be_asked(sends[0]))
    return tally


class BaselineSystem:
    """The processes of one baseline."""

    def __init__(self, name: str, case: Case, base_url: str, folder: Path, stack: contextlib.ExitStack) -> None:
        self.redis_url: str | None = None
        self._name = name
        self._case = case
        self._base_url = base_url
        self._folder = folder
        self._stack = stack
        self._running = Children()

    async def start(self) -> None:
        """Start everything; the processes send at once."""
        if BASELINES[self._name].shares_redis:
            self.redis_url, _ = await entered(self._stack, valkey(self._folder / "valkey"))
        processes = self._case.processes
        places = [Place(self._case, self._base_url, self.redis_url, number, processes) for number in range(processes)]
        self._running = await entered(self._stack, children(drain, [(self._name, place) for place in places]))

    async def finish(self) -> Tally:
        """Stop the processes."""
        tallies: list[Tally] = await to_the_end(self._running.stop)
        return Tally(
            lost=sum(tally.lost for tally in tallies), waits=[wait for tally in tallies for wait in tally.waits]
        )
