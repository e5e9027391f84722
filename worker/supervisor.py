"""Several worker processes under one: starts them, restarts those that die, passes signals on.

Workers are forked from a server process that has imported everything already: importing the SDK takes seconds of CPU
and 76 MB, which each new worker would otherwise pay again.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from multiprocessing.process import BaseProcess
from typing import Final

import structlog

from promptmill.errors import PromptmillError
from promptmill.settings import Settings
from worker import events

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 10.0
STABLE_S: Final = 2.0
"""A worker that lived that long did not die of its start: the next pause is short again."""
BAD_CONFIGURATION: Final = 2
"""Exit code of a worker whose settings cannot work: restarting it would not mend them."""


async def supervise(processes: int, *, burst: bool, stop_with_parent: bool) -> int:
    """Keep `processes` workers running until told to stop; in burst mode until each has ended by itself.

    Returns the exit code: 0, or 2 where a worker refused its settings.
    """
    return await _Supervisor(processes, burst=burst, stop_with_parent=stop_with_parent).run()


def run_worker(*, burst: bool, replaces: bool) -> None:
    """Be a worker process, perhaps one that `replaces` another that had run and died; the target of the fork."""
    # In a session of its own: Ctrl-C in a terminal would otherwise reach it twice, and two signals mean "at once".
    os.setsid()
    from worker.logs import configure_logs  # noqa: PLC0415 - imported in the server process, by its preload
    from worker.main import build_worker  # noqa: PLC0415

    try:
        settings = Settings.load()
        configure_logs(settings)
        # The one that died had a result store: where there is none any more, others may hold answers for it.
        build_worker(settings, burst=burst, orphaned=_supervisor_is_gone, makes_store=not replaces).run()
    except PromptmillError as error:
        print(f"promptmill: {error}", file=sys.stderr)  # noqa: T201 - the command line's own way of refusing
        sys.exit(BAD_CONFIGURATION)


def _supervisor_is_gone() -> bool:
    # Not the parent process: that is the server which forks, and it lives as long as any of its workers does.
    supervisor = multiprocessing.parent_process()
    return supervisor is not None and not supervisor.is_alive()


class _Supervisor:
    def __init__(self, processes: int, *, burst: bool, stop_with_parent: bool) -> None:
        self._processes = processes
        self._burst = burst
        self._parent = os.getppid() if stop_with_parent else None
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["worker.main"])
        self._children: set[BaseProcess] = set()
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
            if child.pid is not None and child.is_alive():
                os.kill(child.pid, number)

    async def _keep_one(self) -> None:
        loop = asyncio.get_running_loop()
        pause, restarts, has_run = FIRST_PAUSE_S, 0, False
        while not self._stopping.is_set():
            child = self._context.Process(target=run_worker, kwargs={"burst": self._burst, "replaces": has_run})
            started = loop.time()
            await loop.run_in_executor(None, child.start)
            self._children.add(child)
            if self._stopping.is_set():  # the signal came while the child was being started
                self._pass_on(signal.SIGTERM)
            await _ended(child)
            self._children.discard(child)
            if self._stopping.is_set() or (self._burst and child.exitcode == 0):
                return
            # One that replaces another may find Redis or the store away: that passes, and these settings did work.
            if child.exitcode == BAD_CONFIGURATION and not restarts:
                self._exit_code = BAD_CONFIGURATION
                self._pass_on(signal.SIGTERM)
                return
            restarts += 1
            self._log.error(events.WORKER_DIED, pid=child.pid, exit_code=child.exitcode, restarts=restarts)
            if loop.time() - started > STABLE_S:
                pause, has_run = FIRST_PAUSE_S, True
            try:
                await asyncio.wait_for(self._stopping.wait(), pause)
            except TimeoutError:
                pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _watch_parent(self) -> None:
        while self._parent in {None, os.getppid()}:  # noqa: ASYNC110 - no signal tells of a parent's death
            await asyncio.sleep(1)
        self._pass_on(signal.SIGTERM)


async def _ended(child: BaseProcess) -> None:
    """Return when `child` has exited, however it did."""
    loop = asyncio.get_running_loop()
    exited = asyncio.Event()
    loop.add_reader(child.sentinel, exited.set)
    try:
        await exited.wait()
    finally:
        loop.remove_reader(child.sentinel)
    child.join()
