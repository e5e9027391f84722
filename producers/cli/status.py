"""`promptmill status`: lanes, budgets, workers, runs and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal

import click
from rich.console import Console
from rich.table import Table

from producers.cli.console import print_json, print_table, terminal
from producers.cli.options import load_settings
from producers.cli.overview import BudgetView, Overview, RunView, WorkerView, read_overview
from producers.cli.queue_address import QueueAddress, reachable_queue
from producers.durations import about
from promptmill.caps import SpendCap
from promptmill.errors import PromptmillError
from promptmill.halts import Halts, in_short
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
    budget's debt is how long it takes until it is full again; it is blocked while everybody waits for the provider, and
    out while the provider answers nobody or refuses the account: one request at every interval then finds out whether
    that is over (`promptmill resume` lets all go on at once). A lane that is paused sends nothing until it is resumed,
    and what is held back says by whom. A worker that has said nothing for 15 s is gone: its jobs come due by
    themselves. The time left is that of what is there now, as if nothing more came in; it is unknown without a worker,
    while a budget is parked or out, and where a cap on spending is reached.
    """
    settings = load_settings()
    with reachable_queue(settings) as address:
        overview, letters = asyncio.run(_read(address, runs))
    caps = [(cap, cap.spent(overview.spend, overview.at)) for cap in settings.caps]
    if as_json:
        caps_json = [
            {**cap.model_dump(mode="json"), "spent_usd": str(spent), "is_reached": spent >= cap.usd}
            for cap, spent in caps
        ]
        counted = letters if isinstance(letters, int) else None
        print_json(
            {**overview.to_json(), "redis": hide_password(address.url), "dead_letters": counted, "caps": caps_json}
        )
        return
    _show(terminal(), overview, letters, address, caps)


async def _read(address: QueueAddress, runs: int) -> tuple[Overview, int | str]:
    redis = connect(address.url)
    try:
        overview = await read_overview(redis, runs=runs, caps=address.settings.caps)
    finally:
        await redis.aclose()
    had_a_store = bool(overview.workers) or any(run.ended for run in overview.runs)
    return overview, await _count_letters(address.settings, had_a_store=had_a_store)


async def _count_letters(settings: Settings, *, had_a_store: bool) -> int | str:
    """Return how many dead letters are open, or why nobody knows: the rest is worth showing all the same.

    The first worker makes the store: where there was none yet, there are no dead letters either.
    """
    try:
        from promptmill.store import ResultStore  # noqa: PLC0415 - an extra, which `status` can do without

        async with await ResultStore.open(settings.store, migrate=False) as store:
            if await store.schema_version() is None:
                return f"unknown: there is no result store at {hide_password(settings.store)}" if had_a_store else 0
            return await store.count_dead_letters()
    except PromptmillError as error:
        return f"unknown: {error}"


def _show(
    console: Console,
    overview: Overview,
    letters: int | str,
    address: QueueAddress,
    caps: list[tuple[SpendCap, Decimal]],
) -> None:
    kind = "embedded Valkey" if address.embedded else "Redis"
    console.print(f"{kind} at {hide_password(address.url)}", style="dim")
    console.print(
        f"{overview.jobs:,} jobs queued: {overview.ready:,} ready, {overview.waiting:,} waiting, "
        f"{overview.leased:,} leased;  dead letters: {f'{letters:,}' if isinstance(letters, int) else letters}"
    )
    if overview.to_be_ended:
        console.print(f"{overview.to_be_ended:,} of the ready ones are cancelled or expired and need no request")
    if overview.budgets:
        print_table(_lanes(overview.budgets, overview.halts.lanes), console)
        print_table(_budgets(overview.budgets, overview.at), console)
        if says := _provider_says(overview, asked=address.settings.status_page_url is not None):
            console.print(says, markup=False)
    if overview.halts.all:
        print_table(_halts(overview.halts, overview.at), console)
    if caps:
        print_table(_caps(caps, overview.at), console)
    if overview.workers:
        print_table(_workers(overview.workers, overview.at), console)
    else:
        console.print("\nno workers: nothing is sent until `promptmill worker` or `promptmill run` is started")
    if overview.runs:
        print_table(_runs(overview.runs, overview.at), console)


def _table(title: str, texts: tuple[str, ...], figures: tuple[str, ...]) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for name in texts:
        table.add_column(name, overflow="fold", header_style="dim")
    for name in figures:
        table.add_column(name, justify="right", header_style="dim")
    return table


def _lanes(budgets: tuple[BudgetView, ...], paused: Collection[str]) -> Table:
    columns = tuple(name for lane in Lane for name in (lane.value, "time left"))
    table = _table("Ready, by lane", ("model class",), columns)
    for budget in budgets:
        cells = []
        for lane in Lane:
            left = budget.time_left_ms[lane]
            told = "paused" if lane in paused else _about(left)
            cells += [f"{budget.lanes[lane]:,}", "" if left == 0 else told]
        table.add_row(budget.name, *cells)
    return table


def _budgets(budgets: tuple[BudgetView, ...], now: datetime) -> Table:
    table = _table("Budgets, a minute", ("model class",), (*DIMENSIONS, "others take", "next request in", "debt (ms)"))
    table.add_column("blocked", header_style="dim", overflow="fold")
    for budget in budgets:
        blocked = _blocked(budget, now)
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


def _blocked(budget: BudgetView, now: datetime) -> str:
    """Return why nobody spends from the budget, and until when; empty where everybody may."""
    said = []
    if budget.blocked_until is not None:
        said.append(f"for {_span(budget.blocked_until - now)}: {budget.blocked_because or 'no reason given'}")
    if budget.out_since is not None:
        state = "parked" if budget.parked else "out"
        said.append(f"{state} for {_span(now - budget.out_since)}: {budget.out_because or 'no reason given'}")
        if budget.out_until is not None:
            said.append(f"until {budget.out_until:%Y-%m-%d %H:%M} UTC at the latest")
        if budget.next_probe is not None:
            said.append(f"next probe in {_span(budget.next_probe - now)}")
    return ", ".join(said)


def _halts(halts: Halts, now: datetime) -> Table:
    table = _table("Held back", ("what", "by", "why"), ("since", "until"))
    for halt in in_short(halts.all):
        table.add_row(
            f"lane {halt.name}" if halt.what == "lane" else f"fallback to {halt.name}",
            halt.by,
            halt.why,
            f"{_span(now - halt.since)} ago",
            "resumed" if halt.until is None else f"in {_span(halt.until - now)}",
            style="yellow",
        )
    return table


def _provider_says(overview: Overview, *, asked: bool) -> str:
    """Return what the status page says where a model class is out; its silence is named, and means nothing."""
    if all(budget.out_since is None for budget in overview.budgets):
        return ""
    says = overview.provider_says
    if says is None:
        return "the provider's status page says nothing (it is asked once a minute)" if asked else ""
    return f"the provider's status page says: {says.description} (for {_span(overview.at - says.since)})"


def _caps(caps: list[tuple[SpendCap, Decimal]], now: datetime) -> Table:
    table = _table("Spend caps", ("cap",), ("spent (USD)",))
    table.add_column("", header_style="dim")
    for cap, spent in caps:
        state = ""
        if spent >= cap.usd:
            over_in = _span(cap.ends_at(now) - now)
            state = f"parked for {over_in}" if cap.action == "park" else f"reached; over in {over_in}"
        table.add_row(str(cap), f"{spent:.4f}", state, style="yellow" if state else "")
    return table


def _workers(workers: tuple[WorkerView, ...], now: datetime) -> Table:
    table = _table("Workers", ("host", "pid", "version"), ("running", "free", "up", "last seen"))
    for worker in workers:
        state = ": gone" if worker.gone else ": cut off from the provider" if worker.cut_off else ""
        seen = f"{_span(now - worker.seen_at)} ago{state}"
        table.add_row(
            worker.host,
            str(worker.pid),
            worker.version,
            str(worker.running),
            str(worker.free),
            _span(worker.seen_at - worker.started_at),
            seen,
            style="dim" if worker.gone else "yellow" if worker.cut_off else "",
        )
    return table


def _runs(runs: tuple[RunView, ...], now: datetime) -> Table:
    figures = ("jobs", "open", "answered", "failed", "other", "tokens in", "out", "USD", "changed", "time left")
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
            _about(run.time_left_ms) if run.open else "",
        )
    return table


def _about(milliseconds: int | None) -> str:
    return "unknown" if milliseconds is None else about(timedelta(milliseconds=milliseconds))


def _span(length: timedelta) -> str:
    seconds = max(0, int(length.total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
