"""`promptmill latency`: how long answers take, by stage."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
from rich.table import Table

from producers.cli.console import print_json, print_table
from producers.cli.options import HOURS, load_settings
from promptmill.store import Latency, ResultStore, Times

_STAGES: Final = {"queue": "queue", "first_byte": "first byte", "whole": "whole"}


@click.command(
    epilog="""\b
Examples:
  promptmill latency
  promptmill latency --since 1 --json | jq '.[].whole.p99_s'
"""
)
@click.option("--since", type=HOURS, default=24, metavar="HOURS", help="[default: 24]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object for each model and lane, in seconds.")
def latency(since: float, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show exact percentiles of how long answers took, by model and lane, from the result store.

    queue: from submit, or the time a job was due, to its first request. first byte: from sending to the first byte, of
    answers that were streamed. whole: from sending to the last byte. Of the attempt that was answered; canaries, which
    are short, are left out.
    """
    rows = asyncio.run(_read(datetime.now(UTC) - timedelta(hours=since)))
    if as_json:
        print_json([_as_json(row) for row in rows])
        return
    if not rows:
        click.echo(f"no answers in the last {since:g} hours")
        return
    print_table(_table(rows))


async def _read(since: datetime) -> list[Latency]:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        return await store.latency(since=since)


def _table(rows: list[Latency]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("model", "lane"):
        table.add_column(name, overflow="fold", header_style="dim")
    for name in _STAGES.values():
        for figure in ("answers", "P50", "P95", "P99"):
            table.add_column(f"{name}\n{figure}", justify="right", header_style="dim")
    for row in rows:
        table.add_row(row.model, row.lane, *(shown for stage in _STAGES for shown in _shown(getattr(row, stage))))
    return table


def _shown(times: Times | None) -> tuple[str, ...]:
    if times is None:
        return ("0", "", "", "")
    return (f"{times.count:,}", *(f"{time.total_seconds():.3f} s" for time in (times.p50, times.p95, times.p99)))


def _as_json(row: Latency) -> dict[str, Any]:
    return {"model": row.model, "lane": row.lane, **{stage: _stage_json(getattr(row, stage)) for stage in _STAGES}}


def _stage_json(times: Times | None) -> dict[str, Any] | None:
    if times is None:
        return None
    return {
        "count": times.count,
        "p50_s": times.p50.total_seconds(),
        "p95_s": times.p95.total_seconds(),
        "p99_s": times.p99.total_seconds(),
    }
