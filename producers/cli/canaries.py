"""`promptmill canaries`: how models do on prompts with known good answers."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click
from rich.table import Table

from producers.cli.charts import bars
from producers.cli.console import print_json, print_table
from producers.cli.options import HOURS, load_settings
from producers.cli.queue_address import reachable_queue
from promptmill.canaries.rounds import models_asked, round_name, send_more_rounds
from promptmill.canaries.sets import STARTER, load
from promptmill.canaries.standing import Passed, Standing, standings
from promptmill.errors import MissingExtra
from promptmill.queue import Queue, connect
from promptmill.results import Result
from promptmill.settings import Settings
from promptmill.store import ResultStore

_SHOWN_CHARS: Final = 60
_UNSHOWN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""A terminal obeys some of these, and an answer may say anything."""
_CHART_WIDTH: Final = 24
_FIGURES: Final = frozenset({"passed", "before", "unanswered", "failing", "fails", "passed before"})


@click.group(
    invoke_without_command=True,
    epilog="""\b
Examples:
  PROMPTMILL_CANARIES=starter promptmill worker      sends a round every hour
  promptmill canaries
  promptmill canaries send --model claude-opus-5-5 --rounds 3
""",
)
@click.option("--since", type=HOURS, default=168, metavar="HOURS", help="[default: 168]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object for each model, with whole answers.")
@click.pass_context
def canaries(context: click.Context, since: float, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show how each model does on its canaries: the newest round, the rounds before it, and which fail since when.

    Canaries are sent where the setting `canaries` names a set. An answer passes that meets every check of its canary
    and every instruction of its prompt that can be checked. Whether a fall is more than chance is for `promptmill
    alarms` to say: the canaries of a model are a series of their own.
    """
    if context.invoked_subcommand is not None:
        return
    found = asyncio.run(_read(datetime.now(UTC) - timedelta(hours=since)))
    if as_json:
        print_json([_as_json(standing, answers) for standing, answers in found])
    elif found:
        print_table(_models([standing for standing, _ in found]))
        if any(standing.failing for standing, _ in found):
            click.echo()
            print_table(_failing(found))
    else:
        click.echo(f"no canary was answered in the last {since:g} hours; the setting `canaries` has them sent")


@canaries.command()
@click.option("--model", metavar="NAME", help="Default: every model that the settings name for canaries.")
@click.option("--rounds", type=click.IntRange(1, 100), default=1, metavar="N", help="[default: 1]")
def send(model: str | None, rounds: int) -> None:
    """Queue rounds of canaries now, beside those that are due; whoever runs `promptmill worker` answers them.

    The set is the one that the setting `canaries` names, else the one that ships with promptmill.
    """
    settings = load_settings()
    with reachable_queue(settings) as address:
        for each, queued in asyncio.run(_send(address.url, settings, model, rounds)).items():
            click.echo(f"{queued:,} canaries queued for {each}")


@canaries.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a set of canaries (or `starter`), and say about how much a round of it costs."""
    if any(find_spec(name) is None for name in ("jsonschema", "rapidfuzz")):
        raise MissingExtra("checking known good answers", "worker")
    # As a program of its own, like workers: what measures answers is theirs, and nothing here imports it.
    command = [sys.executable, "-P", "-m", "worker.canaries", str(file)]
    raise click.exceptions.Exit(subprocess.run(command, check=False).returncode)  # noqa: S603 - our own program


async def _read(since: datetime) -> list[tuple[Standing, dict[str, str]]]:
    """Return how each model does, with the text of each answer that failed, by its job."""
    async with await ResultStore.open(load_settings().store, make=False) as store:
        found = standings(await store.canary_answers(since=since))
        return [(one, {part.job_id: _text(await store.result(part.job_id)) for part in one.failing}) for one in found]


def _text(result: Result | None) -> str:
    return (result.text if result is not None else None) or ""


async def _send(url: str, settings: Settings, model: str | None, rounds: int) -> dict[str, int]:
    found = load(settings.canaries or STARTER, max_tokens=settings.max_tokens)
    models = (model,) if model else models_asked(settings)
    now = datetime.now(UTC)
    redis = connect(url)
    try:
        queue, name = Queue(redis), f"sent-{round_name(now)}"
        return {
            each: await send_more_rounds(queue, settings, found, each, name=name, rounds=rounds, now=now)
            for each in models
        }
    finally:
        await redis.aclose()


def _models(found: list[Standing]) -> Table:
    table = _table("model", "newest round", "passed", "before", "unanswered", "failing", "fails by round", "prompts")
    for one in found:
        table.add_row(
            one.model,
            one.round,
            f"{_share(one.now)} of {one.now.answers:,}",
            f"{_share(one.before)} of {one.before.answers:,}",
            f"{one.unanswered:,}",
            f"{len(one.failing):,}",
            bars(one.fails[-_CHART_WIDTH:]),
            one.kind,
        )
    return table


def _failing(found: list[tuple[Standing, dict[str, str]]]) -> Table:
    table = _table("model", "canary", "fails since (UTC)", "fails", "passed before", "its newest answer")
    for standing, answers in found:
        for one in standing.failing:
            text = " ".join(_UNSHOWN.sub(" ", answers[one.job_id]).split())
            table.add_row(
                standing.model,
                one.canary,
                one.since.astimezone(UTC).strftime("%Y-%m-%d %H:%M"),
                f"{one.fails:,}",
                f"{one.passed_before:,}",
                text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}...",
            )
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in names:
        figures = name in _FIGURES
        table.add_column(name, justify="right" if figures else "left", header_style="dim", overflow="fold")
    return table


def _share(of: Passed) -> str:
    return "-" if of.share is None else f"{of.share:.1%}"


def _as_json(standing: Standing, answers: dict[str, str]) -> dict[str, Any]:
    plain = asdict(standing)
    for name in ("now", "before"):
        plain[name]["share"] = getattr(standing, name).share
    for one in plain["failing"]:
        one |= {"since": one["since"].isoformat(), "answer": answers[one["job_id"]]}
    return plain | {"at": standing.at.isoformat()}
