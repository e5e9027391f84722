"""`promptmill run`: answer a file of prompts, here and now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from producers.cli.console import remark, show_problems, terminal
from producers.cli.files import FILE_HELP, file_options, run_options
from producers.cli.fleet import worker_command, worker_environment
from producers.cli.interrupts import run_until_stopped
from producers.cli.options import fleet_options, load_settings, require_key
from producers.cli.queue_address import reachable_queue
from producers.cli.working_off import Fleet, work_off
from producers.progress import summary_view


@click.command(
    help=f"""Answer a file of prompts, here and now.

    The whole file is checked first; then workers are started on this machine, the prompts are sent as evenly as your
    rate limits allow, and the answers are written to --out, one line for each prompt in the order of the file. The file
    of answers is complete or absent. Every answer is in the result store the moment it arrives: the same command after
    Ctrl-C, a crash or a reboot goes on where it stopped and sends nothing again that was answered.
    {FILE_HELP}
    An answer line holds id, status, text, message, model, usage, cost_usd, attempts, quality and error.

    With --base-url and no ANTHROPIC_API_KEY, the key that is sent is "none".

    Exit code 0: all answered; 1: some failed (--retry-failed tries those again); 2: bad input or configuration, and
    nothing was sent.
    """,
    epilog="""\b
Examples:
  promptmill run prompts.jsonl --out answers.jsonl --rpm 1000
  promptmill run rows.csv --out answers.jsonl --template "Translate into French: {text}" --model claude-haiku-5-5
  promptmill run prompts.jsonl --out answers.jsonl --base-url http://127.0.0.1:8010     (see promptmill simulate)
""",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Where the answers go.")
@file_options
@click.option("--retry-failed", is_flag=True, help="Send again what ended without an answer in an earlier session.")
@fleet_options
@click.option("--no-workers", is_flag=True, help="Start none: workers elsewhere share this Redis and this store.")
def run(file: Path, out: Path, processes: int, no_workers: bool, **given: Any) -> None:  # noqa: FBT001 - click's way
    """See the help text above."""
    settings, options = load_settings(**given), run_options(given)
    command = None
    if not no_workers:
        require_key(settings)
        command = worker_command(processes)
    with reachable_queue(settings) as address:
        fleet = None
        if command is not None:
            log_path = settings.data_dir / "logs" / "worker.log"
            fleet = Fleet(command, worker_environment(address, given), log_path)
        try:
            summary = run_until_stopped(work_off(file, out, address, options=options, fleet=fleet))
        except KeyboardInterrupt:
            remark("stopped; every answer so far is kept: the same command goes on from here")
            raise
    if summary.skipped:
        remark(f"{summary.skipped:,} bad lines left out:")
        show_problems(summary.problems)
    terminal().print(summary_view(summary))
    if not summary.ok:
        raise click.exceptions.Exit(1)
