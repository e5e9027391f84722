"""`promptmill worker`: answer what is in the queue until stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import click

from producers.cli.console import remark
from producers.cli.fleet import worker_command, worker_environment
from producers.cli.options import fleet_options, load_settings, require_key
from producers.cli.queue_address import QueueAddress, reachable_queue


@click.command(
    epilog="""\b
Examples:
  promptmill worker                                  queue and results in the data directory
  PROMPTMILL_REDIS_URL=redis://host promptmill worker --processes 4
  promptmill worker --burst --base-url http://127.0.0.1:8010
"""
)
@fleet_options
@click.option("--burst", is_flag=True, help="Stop once the queue is empty.")
def worker(processes: int, burst: bool, **given: Any) -> None:  # noqa: FBT001 - click's way
    """Answer what is in the queue until stopped.

    SIGTERM and Ctrl-C end it in order: nothing more is claimed, calls under way finish within the grace period
    (PROMPTMILL_GRACE, 30 s), and the rest goes back to the queue without using up an attempt. All workers of one Redis
    share the rate limits, on however many machines they are.

    Without PROMPTMILL_REDIS_URL the queue is an embedded Valkey in the data directory, shared by every promptmill
    process of this machine that has the same data directory.
    """
    settings = load_settings(**given)
    require_key(settings)
    command = worker_command(processes, burst=burst, outlive=settings.redis_url is not None)
    with reachable_queue(settings) as address:
        environment = worker_environment(address, given)
        if address.embedded is None:
            # Nothing is left to do here: the workers take this process' place, with its id and its signals.
            sys.stdout.flush()
            sys.stderr.flush()
            os.execve(command[0], command, environment)  # noqa: S606 - the interpreter that runs this
        remark(f"queue: {address.url}  results: {settings.store}")
        code = asyncio.run(_attend(address, command, environment))
    raise click.exceptions.Exit(code)


async def _attend(address: QueueAddress, command: list[str], environment: dict[str, str]) -> int:
    """Run the workers, hand on signals, and keep the embedded server alive, until they end; their exit code."""
    workers = await asyncio.create_subprocess_exec(*command, env=environment, start_new_session=True)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _hand_on, workers, number)
    loop.add_signal_handler(signal.SIGHUP, _hand_on, workers, signal.SIGTERM)
    watch = None if address.embedded is None else asyncio.create_task(address.embedded.watch())
    try:
        code = await workers.wait()
    finally:
        if watch is not None:
            watch.cancel()
    return code if code >= 0 else 128 - code


def _hand_on(workers: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if workers.returncode is None:
        workers.send_signal(number)
