"""Several worker processes under one: starts them, restarts those that die, passes signals on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Final

import structlog

from worker import events

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
BAD_CONFIGURATION: Final = 2
"""Exit code of a worker whose settings cannot work: restarting it would not mend them."""


async def supervise(processes: int, *, burst: bool, stop_with_parent: bool) -> int:
    """Keep `processes` workers running until told to stop; in burst mode until each has ended by itself.

    Returns the exit code: 0, or 2 where a worker refused its settings.
    """
    return await _Supervisor(processes, burst=burst, stop_with_parent=stop_with_parent).run()


class _Supervisor:
    def __init__(self, processes: int, *, burst: bool, stop_with_parent: bool) -> None:
        self._processes = processes
        self._burst = burst
        self._parent = os.getppid() if stop_with_parent else None
        self._children: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._exit_code = 0
        self._log = structlog.get_logger()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._pass_on, number)
        watch = asyncio.create_task(self._watch_parent())
        await asyncio.gather(*(self._keep_one() for _ in range(self._processes)))
        watch.cancel()
        return self._exit_code

    def _pass_on(self, number: int) -> None:
        self._stopping.set()
        for child in self._children:
            if child.returncode is None:
                child.send_signal(number)

    async def _keep_one(self) -> None:
        pause, restarts = FIRST_PAUSE_S, 0
        while not self._stopping.is_set():
            # In a session of its own: Ctrl-C in a terminal would otherwise reach it twice, and two signals mean
            # "at once".
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "worker",
                "--stop-with-parent",
                *(["--burst"] if self._burst else []),
                start_new_session=True,
            )
            self._children.add(child)
            if self._stopping.is_set():  # the signal came while the child was being started
                child.send_signal(signal.SIGTERM)
            code = await child.wait()
            self._children.discard(child)
            if self._stopping.is_set() or (self._burst and code == 0):
                return
            if code == BAD_CONFIGURATION:
                self._exit_code = code
                self._pass_on(signal.SIGTERM)
                return
            restarts += 1
            self._log.error(events.WORKER_DIED, pid=child.pid, exit_code=code, restarts=restarts)
            try:
                await asyncio.wait_for(self._stopping.wait(), pause)
            except TimeoutError:
                pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _watch_parent(self) -> None:
        while self._parent in {None, os.getppid()}:  # noqa: ASYNC110 - no signal tells of a parent's death
            await asyncio.sleep(1)
        self._pass_on(signal.SIGTERM)
