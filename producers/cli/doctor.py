"""`promptmill doctor`: check everything that a job needs, and say what to do."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Final

import click
from rich.table import Table
from rich.text import Text

from producers.cli.console import print_json, print_table
from producers.cli.options import load_settings
from producers.cli.queue_address import reachable_queue
from promptmill.doctor import Facts, Level, collect, diagnose
from promptmill.errors import PromptmillError

_STYLES: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


@click.command(
    epilog="""\b
Exit codes:
  0 ready (there may be warnings), 1 something fails, 2 the settings themselves cannot be read

\b
Examples:
  promptmill doctor
  PROMPTMILL_REDIS_URL=rediss://user:password@host promptmill doctor --json
"""
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Check Redis, its persistence and eviction policy, store, key, clock, limits and packages; say what to do.

    Sends nothing to the provider, and costs nothing.
    """
    findings = diagnose(_collect())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for finding in findings:
            says = finding.says if finding.advice is None else f"{finding.says}\n-> {finding.advice}"
            table.add_row(Text(finding.level.value, style=_STYLES[finding.level]), finding.subject, says)
        print_table(table)
    if any(finding.level is Level.FAIL for finding in findings):
        raise click.exceptions.Exit(1)


def _collect() -> Facts:
    settings = load_settings()
    embedded = settings.redis_url is None
    try:
        with reachable_queue(settings) as address:
            return asyncio.run(collect(address.settings, embedded=embedded))
    except PromptmillError as error:
        return asyncio.run(collect(settings, embedded=embedded, redis_error=str(error)))
