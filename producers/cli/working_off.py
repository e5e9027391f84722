"""A file worked off with workers of this machine: they start once the file is found good, and stop when it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from producers.cli.console import remark, terminal
from producers.cli.fleet import local_workers, needing
from producers.cli.queue_address import QueueAddress
from producers.progress import ProgressDisplay
from producers.runs import Phase, RunOptions, RunProgress, RunSummary, run_file
from promptmill.queue import Queue, connect
from promptmill.store import ResultStore
from promptmill.tasks import end


@dataclass(frozen=True, slots=True)
class Fleet:
    """How workers are started, and where they log."""

    command: list[str]
    environment: Mapping[str, str]
    log_path: Path


async def work_off(
    path: Path, out: Path, address: QueueAddress, *, options: RunOptions, fleet: Fleet | None
) -> RunSummary:
    """Answer the prompts of `path` into `out`; without a `fleet`, somebody else's workers answer them.

    Shows progress on standard error. Raises what `run_file` raises, and WorkersEnded.
    """
    redis = connect(address.url)
    watch = None if address.embedded is None else asyncio.create_task(address.embedded.watch())
    try:
        async with await ResultStore.open(address.settings.store) as store:
            something_to_send = asyncio.Event()
            with ProgressDisplay(terminal(stderr=True)) as display:

                def on_progress(progress: RunProgress) -> None:
                    display(progress)
                    if progress.phase is Phase.SENDING and progress.done < progress.total:
                        something_to_send.set()

                work = asyncio.create_task(
                    run_file(
                        path,
                        out,
                        address.settings,
                        queue=Queue(redis),
                        store=store,
                        options=options,
                        on_progress=on_progress,
                    )
                )
                return await _with_workers(work, something_to_send, fleet)
    finally:
        if watch is not None:
            watch.cancel()
        await redis.aclose()


async def _with_workers(
    work: asyncio.Task[RunSummary], something_to_send: asyncio.Event, fleet: Fleet | None
) -> RunSummary:
    """Return what `work` returns, with workers from the moment at which there is something for them to do."""
    sending = asyncio.create_task(something_to_send.wait())
    try:
        await asyncio.wait({work, sending}, return_when=asyncio.FIRST_COMPLETED)
        if fleet is None or work.done():
            await asyncio.wait({work})
            return work.result()
        async with local_workers(fleet.command, fleet.environment, fleet.log_path) as workers:
            try:
                return await needing(workers, work, fleet.log_path)
            except asyncio.CancelledError:
                remark("stopping when the calls under way have ended; Ctrl-C again stops at once")
                raise
    finally:
        await end(work, sending)
