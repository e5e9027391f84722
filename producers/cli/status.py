"""`promptmill status`: lanes, budgets, workers, runs and dead letters."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import click
from rich.console import Console
from rich.table import Table

from producers.cli.console import print_json, terminal
from producers.cli.options import load_settings
from producers.cli.overview import BudgetView, Overview, RunView, WorkerView, read_overview
from producers.cli.queue_address import QueueAddress, reachable_queue
from promptmill.errors import PromptmillError
from promptmill.jobs import Lane
from promptmill.pacing import DIMENSIONS
from promptmill.queue import connect
from promptmill.queue.connection import hide_password
from promptmill.settings import Settings


@click.command(
    epilog="""\b
Examples:
  promptmill status
  promptmill status --json | jq .leased
"""
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: times in UTC, durations in ms.")
@click.option(
    "--runs", type=click.IntRange(min=0), default=10, metavar="N", help="How many of the latest runs.  [default: 10]"
)
def status(as_json: bool, runs: int) -> None:  # noqa: FBT001 - click's way
    """Show lanes, budgets, workers, runs and dead letters.

    A job is ready (in its lane; goes when there is budget), waiting (until a time), or leased (a worker runs it). A
    budget's debt is how long it takes until it is full again; it is blocked while everybody waits for the provider or
    for its owner. A worker that has said nothing for 15 s is gone: its jobs come due by themselves.
    """
    settings = load_settings()
    with reachable_queue(settings) as address:
        overview, letters = asyncio.run(_read(address, runs))
    if as_json:
        print_json({**overview.to_json(), "redis": hide_password(address.url), "dead_letters": letters})
        return
    _show(terminal(), overview, letters, address)


async def _read(address: QueueAddress, runs: int) -> tuple[Overview, str]:
    redis = connect(address.url)
    try:
        overview = await read_overview(redis, runs=runs)
    finally:
        await redis.aclose()
    return overview, await _count_letters(address.settings)


async def _count_letters(settings: Settings) -> str:
    """Return how many dead letters are open, or why nobody knows: the rest is worth showing all the same."""
    try:
        from promptmill.store import ResultStore  # noqa: PLC0415 - an extra, which `status` can do without

        async with await ResultStore.open(settings.store, migrate=False) as store:
            if await store.schema_version() is None:
                return "0"
            return f"{await store.count_dead_letters():,}"
    except PromptmillError as error:
        return f"unknown: {error}"


def _show(console: Console, overview: Overview, letters: str, address: QueueAddress) -> None:
    kind = "embedded Valkey" if address.embedded else "Redis"
    console.print(f"{kind} at {hide_password(address.url)}", style="dim")
    console.print(
        f"{overview.jobs:,} jobs queued: {overview.ready:,} ready, {overview.waiting:,} waiting, "
        f"{overview.leased:,} leased;  dead letters: {letters}"
    )
    if overview.to_be_ended:
        console.print(f"{overview.to_be_ended:,} of the ready ones are cancelled or expired and need no request")
    if overview.budgets:
        console.print(_lanes(overview.budgets))
        console.print(_budgets(overview.budgets, overview.at))
    if overview.workers:
        console.print(_workers(overview.workers, overview.at))
    else:
        console.print("\nno workers: nothing is sent until `promptmill worker` or `promptmill run` is started")
    if overview.runs:
        console.print(_runs(overview.runs, overview.at))


def _table(title: str, texts: tuple[str, ...], figures: tuple[str, ...]) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in texts:
        table.add_column(name, overflow="fold", header_style="dim")
    for name in figures:
        table.add_column(name, justify="right", header_style="dim")
    return table


def _lanes(budgets: tuple[BudgetView, ...]) -> Table:
    table = _table("Ready, by lane", ("model class",), tuple(lane.value for lane in Lane))
    for budget in budgets:
        table.add_row(budget.name, *(f"{budget.lanes[lane]:,}" for lane in Lane))
    return table


def _budgets(budgets: tuple[BudgetView, ...], now: datetime) -> Table:
    table = _table("Budgets, a minute", ("model class",), (*DIMENSIONS, "others take", "next request in", "debt (ms)"))
    table.add_column("blocked", header_style="dim", overflow="fold")
    for budget in budgets:
        blocked = ""
        if budget.blocked_until is not None:
            blocked = f"for {_span(budget.blocked_until - now)}: {budget.blocked_because or 'no reason given'}"
        table.add_row(
            budget.name,
            *(f"{budget.per_minute[d]:,.0f}" if d in budget.per_minute else "not set" for d in DIMENSIONS),
            "unknown" if budget.others is None else f"{budget.others:.0%}",
            f"{budget.next_request_ms:,.0f} ms",
            "/".join(f"{budget.debt_ms.get(d, 0):.0f}" for d in DIMENSIONS),
            blocked,
            style="yellow" if blocked else "",
        )
    return table


def _workers(workers: tuple[WorkerView, ...], now: datetime) -> Table:
    table = _table("Workers", ("host", "pid", "version"), ("running", "free", "up", "last seen"))
    for worker in workers:
        seen = f"{_span(now - worker.seen_at)} ago" + (": gone" if worker.gone else "")
        table.add_row(
            worker.host,
            str(worker.pid),
            worker.version,
            str(worker.running),
            str(worker.free),
            _span(worker.seen_at - worker.started_at),
            seen,
            style="dim" if worker.gone else "",
        )
    return table


def _runs(runs: tuple[RunView, ...], now: datetime) -> Table:
    figures = ("jobs", "open", "answered", "failed", "other", "tokens in", "out", "USD", "changed")
    table = _table("Runs", ("run",), figures)
    for run in runs:
        failed, succeeded = run.ended.get("failed", 0), run.ended.get("succeeded", 0)
        table.add_row(
            run.id,
            f"{run.submitted:,}",
            f"{run.open:,}",
            f"{succeeded:,}",
            f"{failed:,}",
            f"{sum(run.ended.values()) - succeeded - failed:,}",
            f"{run.input_tokens:,}",
            f"{run.output_tokens:,}",
            f"{run.cost_usd:.4f}",
            f"{_span(now - run.last_change)} ago",
        )
    return table


def _span(length: timedelta) -> str:
    seconds = max(0, int(length.total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
