"""Worker processes on this machine. Nothing here imports `worker`: it is started as a program of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from producers.cli.options import NO_KEY, environment_of
from producers.cli.queue_address import QueueAddress
from promptmill.errors import BadSettings, MissingExtra, PromptmillError
from promptmill.tasks import end

T = TypeVar("T")

LOG_BYTES_KEPT: Final = 50_000_000
"""A log above this is set aside when the next run begins."""

_AT_ONCE: Final = timedelta(seconds=5)
"""How long workers that are to stop at once may take before they are killed."""

_NEEDED: Final = ("arq", "anthropic")


class WorkersEnded(PromptmillError):  # noqa: N818 - named by what it is, as in promptmill.errors
    """The workers ended by themselves while they were needed."""


def worker_command(processes: int, *, burst: bool = False, outlive: bool = False) -> list[str]:
    """Return the command that starts the workers; unless they may `outlive` this process, they stop when it is killed.

    `-P`: an application's own `worker.py` in the current directory is not ours. Raises MissingExtra.
    """
    if any(find_spec(name) is None for name in _NEEDED):
        raise MissingExtra("a worker", "worker")
    command = [sys.executable, "-P", "-m", "worker", "--processes", str(processes)]
    return [*command, *([] if outlive else ["--stop-with-parent"]), *(["--burst"] if burst else [])]


def worker_environment(
    address: QueueAddress, given: Mapping[str, Any], base: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the environment of the workers: `base`, the options given, and where queue and store are."""
    settings = address.settings
    environment = {
        **base,
        **environment_of(given),
        "PROMPTMILL_REDIS_URL": address.url,
        "PROMPTMILL_STORE_URL": settings.store,
        "PROMPTMILL_DATA_DIR": str(settings.data_dir),
    }
    if settings.budgets:  # with the limits that were given on top of the file's
        budgets = {name: budget.model_dump(exclude_none=True) for name, budget in settings.budgets.items()}
        environment["PROMPTMILL_BUDGETS"] = orjson.dumps(budgets).decode()
    if settings.anthropic_api_key is None:
        environment["ANTHROPIC_API_KEY"] = NO_KEY
    return environment


@asynccontextmanager
async def local_workers(
    command: list[str], environment: Mapping[str, str], log_path: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run workers that log into a file; at the end they finish the calls that are under way and stop.

    They have a session of their own, so that a Ctrl-C reaches only this process, which then stops them in order. A
    second one does not let the calls finish: they are made again by whoever goes on.
    """
    with _open_log(log_path) as log:
        workers = await asyncio.create_subprocess_exec(
            *command, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield workers
    finally:
        await _stop(workers)


async def needing(workers: asyncio.subprocess.Process, work: Awaitable[T], log_path: Path) -> T:
    """Return what `work` returns. Raises WorkersEnded if the workers end before it does."""
    doing = asyncio.ensure_future(work)
    ending = asyncio.ensure_future(workers.wait())
    try:
        await asyncio.wait({doing, ending}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return doing.result()
        raise WorkersEnded(
            f"the workers ended by themselves (code {workers.returncode}): {_last_line(log_path)} (see {log_path})"
        )
    finally:
        await end(doing, ending)


async def _stop(workers: asyncio.subprocess.Process) -> None:
    if workers.returncode is not None:
        return
    workers.terminate()
    try:
        await workers.wait()
    except asyncio.CancelledError:
        # To a worker, a second signal means "at once": it gives its jobs back without waiting for their calls.
        with suppress(ProcessLookupError):
            workers.terminate()
        try:
            async with asyncio.timeout(_AT_ONCE.total_seconds()):
                await workers.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                workers.kill()
            await workers.wait()
        raise


def _open_log(path: Path) -> Any:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > LOG_BYTES_KEPT:
            path.replace(path.with_suffix(".log.1"))
        return path.open("ab")
    except OSError as error:
        raise BadSettings(f"data_dir: cannot write {path}: {error.strerror}") from None


def _last_line(path: Path) -> str:
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 4_096))
        lines = log.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "they wrote no log")
