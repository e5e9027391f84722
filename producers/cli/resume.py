"""`promptmill resume`: let budgets go on that are parked, paused or out."""

from __future__ import annotations

import asyncio
import difflib

import click

from producers.cli.options import load_settings
from producers.cli.overview import BudgetView, read_overview
from producers.cli.queue_address import reachable_queue
from promptmill.queue import Queue, connect


@click.command(
    epilog="""\b
Examples:
  promptmill resume
  promptmill resume haiku-5-5
"""
)
@click.argument("model_classes", nargs=-1, metavar="[CLASS]...")
def resume(model_classes: tuple[str, ...]) -> None:
    """Let a budget go on at once: all of them, or those of the model classes that are named.

    For when what was wrong is mended: the key, the billing, a spend limit, or the provider is back. Without it one
    request at every interval finds out by itself. What is not mended is refused again, and so parked again.
    """
    with reachable_queue(load_settings()) as address:
        resumed = asyncio.run(_resume(address.url, model_classes))
    for budget in resumed:
        click.echo(f"{budget.name} goes on (it was kept back: {budget.out_because or budget.blocked_because})")
    if not resumed:
        click.echo("nothing is parked, paused or out")


async def _resume(url: str, model_classes: tuple[str, ...]) -> list[BudgetView]:
    redis = connect(url)
    try:
        budgets = {budget.name: budget for budget in (await read_overview(redis, runs=0)).budgets}
        for name in model_classes:
            if name not in budgets:
                near = difflib.get_close_matches(name, budgets, n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(budgets) or 'none'}"
                raise click.UsageError(f"no budget of model class {name!r}{hint}")
        kept_back = [
            budget
            for budget in budgets.values()
            if (budget.out_since or budget.blocked_until) and (not model_classes or budget.name in model_classes)
        ]
        for budget in kept_back:
            await Queue(redis).resume(budget.name)
        return kept_back
    finally:
        await redis.aclose()
