"""`promptmill resume`: let budgets go on that are parked, paused or out, lanes that are paused, fallbacks not used."""

from __future__ import annotations

import asyncio
import difflib
from dataclasses import dataclass

import click

from producers.cli.options import load_settings
from producers.cli.overview import BudgetView, Overview, read_overview
from producers.cli.queue_address import reachable_queue
from promptmill.halts import Halt, in_short
from promptmill.jobs import Lane
from promptmill.queue import Queue, connect


@dataclass(frozen=True, slots=True)
class _Done:
    budgets: list[BudgetView]
    lifted: list[Halt]
    kept: list[Halt]
    """What is still held back, since nobody named it."""


@click.command(
    epilog="""\b
Examples:
  promptmill resume
  promptmill resume haiku-5-5
  promptmill resume overnight
"""
)
@click.argument("names", nargs=-1, metavar="[CLASS|LANE|MODEL]...")
def resume(names: tuple[str, ...]) -> None:
    """Let what is held back go on at once: budgets, lanes, fallbacks.

    Without a name every budget goes on. For when what was wrong is mended: the key, the billing, a spend limit, or the
    provider is back. Without it one request at every interval finds out by itself. What is not mended is refused again,
    and so parked again.

    A lane that `promptmill pause` or an alarm paused, and a model that an alarm keeps from being used as a fallback, go
    on when they are named.
    """
    with reachable_queue(load_settings()) as address:
        done = asyncio.run(_resume(address.url, names))
    for budget in done.budgets:
        click.echo(f"{budget.name} goes on (it was kept back: {budget.out_because or budget.blocked_because})")
    for halt in in_short(done.lifted):
        goes_on = f"lane {halt.name} goes on" if halt.what == "lane" else f"{halt.name} is used as a fallback again"
        click.echo(f"{goes_on} (it was held back by {halt.by}: {halt.why or 'no reason given'})")
    if not done.budgets and not done.lifted:
        nothing = "no budget is parked, paused or out" if done.kept else "nothing is parked, paused or out"
        click.echo(f"nothing holds back {', '.join(names)}" if names else nothing)
    for name in dict.fromkeys(halt.name for halt in done.kept):
        click.echo(f"still held back: {name} (`promptmill resume {name}`)")


async def _resume(url: str, names: tuple[str, ...]) -> _Done:
    redis = connect(url)
    try:
        queue = Queue(redis)
        overview = await read_overview(redis, runs=0)
        _refuse_unknown(names, overview)
        kept_back = [
            budget
            for budget in overview.budgets
            if (budget.out_since or budget.blocked_until) and (not names or budget.name in names)
        ]
        for budget in kept_back:
            await queue.resume(budget.name)
        lifted = [halt for halt in overview.halts.all if halt.name in names]
        for halt in lifted:
            await queue.lift(halt.what, halt.name, by=halt.by)
        kept = [] if names else list(overview.halts.all)
        return _Done(kept_back, lifted, kept)
    finally:
        await redis.aclose()


def _refuse_unknown(names: tuple[str, ...], overview: Overview) -> None:
    known = dict.fromkeys(
        [*sorted({*(budget.name for budget in overview.budgets), *(halt.name for halt in overview.halts.all)}), *Lane]
    )
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
            raise click.UsageError(f"no budget of model class {name!r}, nor a lane{hint}")
