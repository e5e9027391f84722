"""Processes that end with SIGKILL at a step of a test's choosing: nothing is closed, flushed or said.

    with mortals() as run:
        life = run("work", settings, dies_at=7)
        life.died, life.steps

A step is whatever the process does to the outside: each call to Redis, each reading and each transaction of the store,
each request to the provider, each change of a file. It is counted before it is taken, after, and (in a transaction)
when everything is written and nothing is committed. A server process imports everything once and forks for each life.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Life:
    """What became of one process."""

    steps: list[str]
    """Those that it came to; it died at the last one, if it died."""
    died: bool


@contextlib.contextmanager
def mortals() -> Iterator[Callable[..., Life]]:
    """Run the server for the block; it takes one life at a time. A life that ends in any other way is an error."""
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "tests.support.mortal"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def run(what: str, settings: Mapping[str, Any], *, dies_at: int | None = None, **how: Any) -> Life:
        order = {"what": what, "settings": dict(settings), "dies_at": dies_at, **how}
        print(json.dumps(order, default=str), file=server.stdin, flush=True)
        told = json.loads(server.stdout.readline())
        assert told["code"] in {0, -signal.SIGKILL}, f"the process ended by itself: {told}"
        return Life(told["steps"], died=told["code"] != 0)

    try:
        yield run
    finally:
        server.stdin.close()
        server.wait(60)
        server.stdout.close()


# the server ----------------------------------------------------------------------------------------------------------


class Steps:
    """Says each step to the server, and kills the process at one of them. Steps before `begin` are not counted."""

    def __init__(self, pipe: int, dies_at: int | None, *, begin: str | None) -> None:
        self._pipe = pipe
        self._left = dies_at
        self._begin = begin
        self._lock = threading.Lock()  # the store's steps are taken in threads

    def take(self, step: str) -> None:
        with self._lock:
            if self._begin not in {None, step}:
                return
            self._begin = None
            os.write(self._pipe, f"{step}\n".encode())
            if self._left is not None:
                self._left -= 1
                if self._left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str, label: Callable[..., str | None]) -> None:
        """Count a step before and after each call of a coroutine or function; none where it has no label."""
        real = getattr(owner, name)

        async def awaited(*args: Any, **options: Any) -> Any:
            step = label(*args)
            if step is None:
                return await real(*args, **options)
            self.take(step)
            answer = await real(*args, **options)
            self.take(f"{step}: done")
            return answer

        def called(*args: Any, **options: Any) -> Any:
            step = label(*args)
            self.take(step)
            answer = real(*args, **options)
            self.take(f"{step}: done")
            return answer

        setattr(owner, name, awaited if asyncio.iscoroutinefunction(real) else called)

    def of_the_store(self) -> None:
        from promptmill.store.sqlite import SqliteDatabase

        write = SqliteDatabase._write

        def watched(database: Any, work: Any) -> Any:
            def written(connection: Any) -> Any:
                answer = work(connection)
                self.take("write: not committed")
                return answer

            return write(database, written)

        SqliteDatabase._write = watched  # type: ignore[method-assign]
        self.around(SqliteDatabase, "write", lambda *_: "write")
        self.around(SqliteDatabase, "read", lambda *_: "read")


class LeapingClock:
    """The machine's time (ms), ahead by as much as was slept."""

    def __init__(self, ahead: float) -> None:
        self.ahead_ms = ahead * 1000

    def __call__(self) -> float:
        return time.time() * 1000 + self.ahead_ms


async def work(steps: Steps, settings: dict[str, Any], *, ahead: float) -> None:
    """Be a worker until the queue is empty. Where nothing happens but time, it leaps; `ahead` is in seconds."""
    import worker.main
    from promptmill.queue import Queue
    from promptmill.settings import Settings
    from worker.engine import PacedWorker
    from worker.provider import Provider

    clock = LeapingClock(ahead)
    nap = PacedWorker._nap

    async def leap(engine: PacedWorker, within: timedelta | None) -> None:
        if within and not engine.tasks:
            clock.ahead_ms += within / timedelta(milliseconds=1)
            within = timedelta(0)
        await nap(engine, within)

    PacedWorker._nap = leap  # type: ignore[method-assign]
    worker.main.Queue = partial(Queue, clock=clock)  # type: ignore[misc, assignment]
    engine = worker.main.build_worker(Settings.model_validate(settings), burst=True, handle_signals=False)
    # What is done by the clock, beside the jobs, would make another step the n-th each time.
    for helper in (worker.main.Watcher, worker.main.Acting):
        helper.keep = lambda _helper: asyncio.sleep(math.inf)  # type: ignore[method-assign]
    steps.of_the_store()
    steps.around(Queue, "_run", lambda _queue, name, *_: None if name in {"observe", "claim"} else name)
    claim = Queue.claim

    async def claimed(queue: Queue, **how: Any) -> Any:
        answer = await claim(queue, **how)
        if answer.jobs:  # how often a worker asks for nothing is a matter of time, too
            steps.take("claim: done")
        return answer

    Queue.claim = claimed  # type: ignore[method-assign]
    steps.around(Provider, "send", lambda *_: "send")
    await engine.async_run()
    await engine.close()


async def produce(steps: Steps, settings: dict[str, Any], *, prompts: str, out: str, piece: int) -> None:
    """Work a file of prompts off, `piece` jobs at a time; somebody else runs the workers."""
    from redis.asyncio import Redis

    import producers.runs.feed
    from producers.runs import RunOptions, run_file
    from producers.runs.answers import AnswersFile
    from promptmill.queue import Queue, connect
    from promptmill.settings import Settings
    from promptmill.store import ResultStore

    producers.runs.feed.PIECE = piece  # type: ignore[misc]
    made = Settings.model_validate(settings)
    queue = Queue(connect(str(made.redis_url)))
    async with await ResultStore.open(made.store) as store:
        steps.of_the_store()
        steps.around(Redis, "execute_command", lambda _redis, name, *_: str(name).lower())
        steps.around(AnswersFile, "publish", lambda *_: "publish")
        steps.around(os, "fsync", lambda *_: "fsync")
        steps.around(Path, "replace", lambda *_: "replace")
        await run_file(Path(prompts), Path(out), made, queue=queue, store=store, options=RunOptions(window=piece))


LIVES: Final = {"work": work, "produce": produce}


def live(
    pipe: int, *, what: str, settings: dict[str, Any], dies_at: int | None, begin: str | None = None, **how: Any
) -> None:
    asyncio.run(LIVES[what](Steps(pipe, dies_at, begin=begin), settings, **how))


async def warm_up() -> None:
    """Import, and have made on first use, what every life would otherwise spend most of its time on."""
    import httpcore2  # noqa: F401 - as the next two

    import producers.runs  # noqa: F401
    import worker.main  # noqa: F401
    from promptmill.results import Usage
    from tests.support.providers import ScriptedApi
    from tests.support.workers import LONG, REQUEST, make_settings
    from worker.pricing import cost_usd

    provider = ScriptedApi().provider(make_settings())
    for request in (REQUEST, LONG):
        await provider.send(request, job_id="nobody")
    await provider._client.close()
    cost_usd(Usage(1, 1), str(REQUEST["model"]), at=datetime.now(UTC))


def serve() -> None:
    """Fork for each line of standard input, and say in a line how that process ended."""
    asyncio.run(warm_up())
    for line in sys.stdin:
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            os.close(reading)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what it logs is not what the server says
            code = 1
            try:
                live(writing, **json.loads(line))
                code = 0
            except BaseException:  # noqa: BLE001 - its end is told by its code
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            taken = pipe.read().split("\n")[:-1]
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"code": code, "steps": taken}), flush=True)


if __name__ == "__main__":
    serve()
