"""`promptmill alarms`: where answers have become worse, since when, and what is done about it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
from rich.table import Table

from producers.cli.console import print_json, print_table
from producers.cli.options import load_settings
from promptmill.actions import ActionRecord
from promptmill.alarms import Alarm, AlarmState, Resolution
from promptmill.errors import BadInput
from promptmill.store import ResultStore

id_argument = click.argument("alarm_id", metavar="ALARM", type=int)


@click.group(invoke_without_command=True)
@click.option("--all", "resolved", is_flag=True, help="Those that were resolved, too.")
@click.option("--limit", type=click.IntRange(min=1), default=50, metavar="N", help="How many.  [default: 50]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object for each alarm.")
@click.pass_context
def alarms(context: click.Context, resolved: bool, limit: int, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show where answers have become worse: which model, prompts and metric, since when, and how sure that is.

    `show` prints the evidence, `ack` notes that somebody knows, `resolve` ends an alarm. One whose answers are again as
    they were resolves itself.
    """
    if context.invoked_subcommand is not None:
        return
    found = asyncio.run(_list(resolved=resolved, limit=limit))
    if as_json:
        print_json([alarm.to_json() for alarm in found])
    elif found:
        print_table(_table(found))
    else:
        click.echo("no alarms" if resolved else "no open alarms")


@alarms.command()
@id_argument
def show(alarm_id: int) -> None:
    """Print one alarm with its evidence as JSON: before and after, what else moved, ids of examples, what was done."""
    alarm, actions = asyncio.run(_load(alarm_id))
    print_json({**alarm.to_json(), "actions": [record.to_json() for record in actions]})


@alarms.command()
@id_argument
def ack(alarm_id: int) -> None:
    """Note that somebody knows of an alarm."""
    asyncio.run(_acknowledge(alarm_id))
    click.echo(f"alarm {alarm_id} is acknowledged")


@alarms.command()
@id_argument
@click.option("--accept", is_flag=True, help="Take the answers as they are now for the new normal.")
def resolve(alarm_id: int, accept: bool) -> None:  # noqa: FBT001 - click's way
    """End an alarm: the answers to come are compared with the same baseline, from zero.

    With --accept a new baseline is learned from the next 400 answers instead. What the alarm holds back, a lane or a
    fallback, goes on within seconds.
    """
    resolution = Resolution.ACCEPTED if accept else Resolution.DISMISSED
    asyncio.run(_resolve(alarm_id, resolution))
    click.echo(f"alarm {alarm_id} is {resolution.value}")


@alarms.command()
@click.option("--model", metavar="NAME", help="Only series that this model answered.")
@click.option("--kind", metavar="KIND", help="Only this kind of prompt: a tag `kind`, or the hash that alarms show.")
@click.option("--lane", metavar="LANE", help="Only this lane.")
@click.option("--undo", is_flag=True, help="Let them go on learning.")
def freeze(model: str | None, kind: str | None, lane: str | None, undo: bool) -> None:  # noqa: FBT001 - click's way
    """Take what was learned so far for the baseline of good answers, and learn no more; all series, or those chosen.

    Left alone, a baseline is learned from the first 10,000 answers.
    """
    count = asyncio.run(_freeze(frozen=not undo, model=model, kind=kind, lane=lane))
    click.echo(f"{count:,} series {'go on learning' if undo else 'are frozen'}")


async def _freeze(**chosen: Any) -> int:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        return await store.watching.freeze(**chosen)


async def _list(*, resolved: bool, limit: int) -> list[Alarm]:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        return await store.watching.alarms(resolved=resolved, limit=limit)


async def _load(alarm_id: int) -> tuple[Alarm, list[ActionRecord]]:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        alarm = await store.watching.alarm(alarm_id)
        actions = await store.acting.of_alarms([alarm_id])
    if alarm is None:
        raise BadInput(f"alarm {alarm_id}: no such alarm; `promptmill alarms --all` lists them")
    return alarm, actions


async def _acknowledge(alarm_id: int) -> None:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        await store.watching.acknowledge(alarm_id, now=datetime.now(UTC))


async def _resolve(alarm_id: int, resolution: Resolution) -> None:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        await store.watching.resolve(alarm_id, resolution, now=datetime.now(UTC))


def _table(found: list[Alarm]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("alarm", "model", "prompts", "lane", "metric", "before", "after", "since (UTC)", "state"):
        table.add_column(
            name, justify="right" if name in {"before", "after"} else "left", overflow="fold", header_style="dim"
        )
    for alarm in found:
        key, shown = alarm.series, alarm.evidence.get("metric", {})
        table.add_row(
            str(alarm.id),
            key.model if key.model == key.asked else f"{key.model} for {key.asked}",
            key.kind or "-",
            key.lane,
            alarm.metric,
            _mean(shown, "before"),
            _mean(shown, "after"),
            alarm.since.astimezone(UTC).strftime("%Y-%m-%d %H:%M"),
            alarm.resolution.value if alarm.state is AlarmState.RESOLVED and alarm.resolution else alarm.state.value,
        )
    return table


def _mean(shown: Mapping[str, Any], side: str) -> str:
    return f"{shown[side]['mean']:.4g}" if side in shown else ""
