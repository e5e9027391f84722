"""`promptmill spend`: tokens and money by the hour."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import click
from rich.table import Table

from producers.cli.charts import Axis, bars
from producers.cli.console import print_json, print_table
from producers.cli.options import HOURS, load_settings
from promptmill.store import ResultStore, Spend
from promptmill.store.aggregates import Grouping

_FIGURES: Final = ("requests", "tokens in", "cached", "out", "USD", "USD an hour", "most in one")


@click.command(
    epilog="""\b
Examples:
  promptmill spend
  promptmill spend --since 168 --by tag:team
  promptmill spend --by lane --json | jq 'map(select(.group == "overnight"))'
"""
)
@click.option("--since", type=HOURS, default=24, metavar="HOURS", help="[default: 24]")
@click.option("--by", default="model", metavar="model|lane|tag:NAME", help="Whose spending.  [default: model]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object for each hour and group.")
def spend(since: float, by: str, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show tokens and USD an hour of each model, lane or value of a tag, from the result store.

    Every request counts that was answered, with the price of its day: refusals before a fallback, and jobs that are
    still being tried, too. `in` excludes what was written to a cache (which it adds to `cached`) or read from one.
    """
    now = datetime.now(UTC)
    rows = asyncio.run(_read(now - timedelta(hours=since), _grouping(by)))
    if as_json:
        print_json([_as_json(row) for row in rows])
        return
    if not rows:
        click.echo(f"nothing was spent in the last {since:g} hours")
        return
    print_table(_table(rows, by, now, since))
    if unpriced := sum(row.unpriced for row in rows):
        click.echo(f"{unpriced:,} requests have no known price and are not in these figures")


async def _read(since: datetime, by: Grouping) -> list[Spend]:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        return await store.spend(since=since, by=by)


def _grouping(by: str) -> Grouping:
    kind, _, name = by.partition(":")
    if kind == "tag" and name:
        return ("tag", name)
    if by == "model":
        return "model"
    if by == "lane":
        return "lane"
    raise click.BadParameter(f"expected model, lane or tag:NAME, got {by!r}", param_hint="--by")


def _table(rows: Sequence[Spend], by: str, now: datetime, hours: float) -> Table:
    groups: dict[str | None, list[Spend]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(by, overflow="fold", header_style="dim")
    for name in _FIGURES:
        table.add_column(name, justify="right", header_style="dim")
    table.add_column(f"{hours:g} hours until now", header_style="dim", no_wrap=True)
    for group, parts in sorted(groups.items(), key=lambda item: -_cost(item[1])):
        table.add_row("(none)" if group is None else group, *_figures(parts, now, hours))
    if len(groups) > 1:
        table.add_row("all", *_figures(rows, now, hours), style="bold")
    return table


def _figures(rows: Sequence[Spend], now: datetime, hours: float) -> list[str]:
    axis = Axis(now, hours)
    by_hour: dict[datetime, Decimal] = {}
    places = [Decimal(0)] * axis.count
    for row in rows:
        by_hour[row.hour] = by_hour.get(row.hour, Decimal(0)) + row.cost_usd
        places[axis.place(row.hour)] += row.cost_usd
    cost = _cost(rows)
    return [
        f"{sum(row.requests for row in rows):,}",
        f"{sum(row.input_tokens for row in rows):,}",
        f"{sum(row.cache_write_tokens + row.cache_read_tokens for row in rows):,}",
        f"{sum(row.output_tokens for row in rows):,}",
        f"{cost:,.4f}",
        f"{cost / Decimal(hours):,.4f}",
        f"{max(by_hour.values()):,.4f}",
        bars(places),
    ]


def _cost(rows: Iterable[Spend]) -> Decimal:
    return sum((row.cost_usd for row in rows), Decimal(0))


def _as_json(row: Spend) -> dict[str, Any]:
    return {
        "hour": row.hour.isoformat(),
        "group": row.group,
        "requests": row.requests,
        "input_tokens": row.input_tokens,
        "cache_write_tokens": row.cache_write_tokens,
        "cache_read_tokens": row.cache_read_tokens,
        "output_tokens": row.output_tokens,
        "cost_usd": f"{row.cost_usd:f}",
        "unpriced": row.unpriced,
    }
