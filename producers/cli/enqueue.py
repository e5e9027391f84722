"""`promptmill enqueue`: put a file of prompts into the queue and leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from producers.cli.console import remark, show_problems, terminal
from producers.cli.files import FILE_HELP, file_options, run_options
from producers.cli.interrupts import cancellable, run_until_stopped
from producers.cli.options import load_settings
from producers.cli.queue_address import QueueAddress, reachable_queue
from producers.durations import about
from producers.progress import ProgressDisplay
from producers.runs import Enqueued, RunOptions, enqueue_file
from promptmill.queue import Queue, connect


@click.command(
    help=f"""Put a file of prompts into the queue and leave.

    Whoever runs `promptmill worker` on the same Redis answers them; the answers go to the result store, under the run
    whose name is printed on standard output. The whole file is checked first. The same command again queues each prompt
    once.
    {FILE_HELP}""",
    epilog="""\b
Examples:
  run=$(promptmill enqueue nightly.jsonl --lane overnight)
  promptmill worker --burst && promptmill results --run $run --in-order > answers.jsonl
""",
)
@click.argument("file", type=click.Path(path_type=Path))
@file_options
@click.option("--model", metavar="NAME", help="Model for prompts that name none.  [default: claude-haiku-5-5]")
def enqueue(file: Path, **given: Any) -> None:
    """See the help text above."""
    settings, options = load_settings(**given), run_options(given)
    with reachable_queue(settings) as address:
        done = run_until_stopped(_enqueue(file, address, options))
    if done.skipped:
        remark(f"{done.skipped:,} bad lines left out:")
        show_problems(done.problems)
    there = f", {done.there_already:,} were there already" if done.there_already else ""
    soon = f"; the last is answered in {about(done.time_left)}" if done.time_left else ""
    remark(f"{done.queued:,} of {done.total:,} prompts queued{there}{soon}")
    click.echo(done.run)


async def _enqueue(file: Path, address: QueueAddress, options: RunOptions) -> Enqueued:
    redis = connect(address.url)
    try:
        with ProgressDisplay(terminal(stderr=True)) as display:
            queue = Queue(redis)
            return await cancellable(
                enqueue_file(file, address.settings, queue=queue, options=options, on_progress=display)
            )
    finally:
        await redis.aclose()
