"""Processes of the benchmark itself, forked from one that has imported everything: importing the SDK takes seconds."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.bench.pacing.baselines", "tests.bench.pacing.light_workers"])

Child = Callable[..., Awaitable[Any]]
"""What a child process runs: an importable coroutine function. Cancelled to end it, it returns its tally."""


class Children:
    """Running processes, and what each sends back at its end."""

    def __init__(self) -> None:
        self._started: list[tuple[Any, Connection]] = []

    def start(self, child: Child, args: tuple[Any, ...]) -> None:
        """Run `child(*args)` in a process of its own."""
        receiver, sender = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_run, args=(sender, child, args), daemon=True)
        process.start()
        sender.close()
        self._started.append((process, receiver))

    def stop(self) -> list[Any]:
        """End them all and return their tallies. Raises RuntimeError where one has died before."""
        for process, _ in self._started:
            process.terminate()
        tallies = []
        for process, receiver in self._started:
            try:
                if not receiver.poll(60):
                    raise RuntimeError(f"process {process.pid} did not stop within a minute")
                tallies.append(receiver.recv())
            except EOFError:
                raise RuntimeError(f"process {process.pid} died; what it said stands above") from None
            process.join()
        return tallies

    def kill(self) -> None:
        """Leave nothing running."""
        for process, receiver in self._started:
            process.kill()
            process.join()
            receiver.close()


@contextlib.contextmanager
def children(child: Child, many: Iterable[tuple[Any, ...]]) -> Iterator[Children]:
    """Run `child` once with each of these arguments."""
    running = Children()
    try:
        for args in many:
            running.start(child, args)
        yield running
    finally:
        running.kill()


def _run(sender: Connection, child: Child, args: tuple[Any, ...]) -> None:
    sender.send(asyncio.run(_until_told(child, args)))


async def _until_told(child: Child, args: tuple[Any, ...]) -> Any:
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(child(*args))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    return await running
