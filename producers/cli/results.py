"""`promptmill results`: results as JSON lines, CSV or Parquet."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

import click

from producers.cli.console import remark
from producers.cli.exports import WRITERS, export, whole_file
from producers.cli.options import load_settings
from promptmill.jobs import Lane
from promptmill.results import Result, Status
from promptmill.store import ResultStore


@click.command(
    epilog="""\b
Examples:
  promptmill results --run 3kx9v0a1b2c3 --in-order > answers.jsonl
  promptmill results --status failed --since 24 | jq .error
  promptmill results --tag team=search --format parquet --out answers.parquet
"""
)
@click.option("--run", metavar="RUN", help="Of one run.")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Which ended so.")
@click.option("--since", type=click.FloatRange(min=0), metavar="HOURS", help="Which ended within so many hours.")
@click.option("--lane", type=click.Choice([lane.value for lane in Lane]), help="Of one lane.")
@click.option("--model", metavar="NAME", help="Which this model answered, as the provider names it.")
@click.option("--tag", metavar="NAME=VALUE", help="With this tag.")
@click.option("--canaries", is_flag=True, help="Those of canaries, too.")
@click.option(
    "--for-claude-code", is_flag=True, help="Rewrite the words that make Claude Code reason at length, and list them."
)
@click.option("--in-order", is_flag=True, help="In the order of the run's file; needs --run.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(WRITERS)),
    help="Default: by the name of --out, else jsonl. JSON lines hold everything; the others one flat row a result.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Default: standard output.")
def results(
    tag: str | None, since: float | None, limit: int | None, form: str | None, out: Path | None, **given: Any
) -> None:
    """Print results from the result store, in the order in which they came in.

    Read as a stream: any number of results fits. A file is complete or absent.
    """
    if given["in_order"] and given["run"] is None:
        raise click.UsageError("--in-order needs --run: only the lines of one file have an order")
    form = form or (out.suffix.lower().lstrip(".") if out and out.suffix.lower().lstrip(".") in WRITERS else "jsonl")
    if form == "parquet" and out is None:
        raise click.UsageError("--format parquet needs --out: it is no text")
    chosen = {
        "run": given["run"],
        "status": Status(given["status"]) if given["status"] else None,
        "since": None if since is None else datetime.now(UTC) - timedelta(hours=since),
        "lane": given["lane"],
        "model": given["model"],
        "tag": None if tag is None else _name_and_value(tag),
        "canaries": given["canaries"],
        "in_input_order": given["in_order"],
    }
    with nullcontext(sys.stdout.buffer) if out is None else whole_file(out) as stream:
        written = asyncio.run(_export(chosen, limit, form, stream, for_claude_code=given["for_claude_code"]))
    if out is not None:
        remark(f"{written:,} results written to {out}")


async def _export(
    chosen: dict[str, Any], limit: int | None, form: str, stream: BinaryIO, *, for_claude_code: bool
) -> int:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        found = _first(store.results(**chosen), limit)
        if for_claude_code:
            found = (result.for_claude_code() async for result in found)
        written = await export(found, WRITERS[form](stream))
        stream.flush()
        return written


async def _first(results: AsyncIterator[Result], limit: int | None) -> AsyncIterator[Result]:
    numbers = count(1)
    async for result in results:
        yield result
        if next(numbers) == limit:
            return


def _name_and_value(tag: str) -> tuple[str, str]:
    name, equals, value = tag.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"expected NAME=VALUE, got {tag!r}", param_hint="--tag")
    return name, value
