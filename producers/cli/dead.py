"""`promptmill dead`: jobs that will not be tried again by themselves."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
import orjson
from rich.table import Table

from producers.cli.console import print_json, print_table, remark
from producers.cli.options import load_settings
from producers.cli.queue_address import QueueAddress, reachable_queue
from producers.cli.redrive import Fields, changed, fields_of
from producers.cli.redrive import redrive as send_back
from promptmill.errors import BadInput
from promptmill.queue import connect
from promptmill.results import OUTCOMES, DeadLetter
from promptmill.store import ResultStore

_AT_A_TIME: Final = 100

reason_option = click.option("--reason", metavar="NAME", help="Only those that died of this, such as invalid_request.")


async def _refuse_unknown(reason: str | None, store: ResultStore) -> None:
    """Raise BadInput for a reason of which nobody can have died: a typing error must not look like good news."""
    if reason is None or reason in OUTCOMES:
        return
    there = await store.dead_letter_reasons()
    if reason in there:  # of another version
        return
    near = difflib.get_close_matches(reason, {*there, *OUTCOMES}, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    counted = ", ".join(f"{name} ({letters:,})" for name, letters in there.items())
    raise BadInput(f"--reason: no outcome is called {reason!r}; {hint}open dead letters: {counted or 'none'}")


@click.group()
def dead() -> None:
    """Look after dead letters: jobs that failed for good, kept whole with the reason.

    `list` shows why, `show` the whole job, `redrive` sends jobs back once the cause is mended, `edit` changes one
    before, `purge` deletes them.
    """


@dead.command(name="list")
@reason_option
@click.option("--limit", type=click.IntRange(min=1), default=50, metavar="N", help="How many.  [default: 50]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def list_letters(reason: str | None, limit: int, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """List open dead letters, the oldest first."""
    letters = asyncio.run(_list(reason, limit))
    if as_json:
        for letter in letters:
            click.echo(orjson.dumps(_summary(letter)))
        return
    if not letters:
        click.echo("no dead letters")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("job", "died (UTC)", "reason", "attempts", "message"):
        table.add_column(name, justify="right" if name == "attempts" else "left", overflow="fold", header_style="dim")
    for letter in letters:
        died_at = letter.died_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(letter.job_id, died_at, letter.reason, str(letter.attempts), letter.message)
    print_table(table)


@dead.command()
@click.argument("job_id", metavar="JOB")
def show(job_id: str) -> None:
    """Show a dead letter whole, as JSON: the reason, every attempt, and the job with its prompt."""
    print_json(asyncio.run(_show(job_id)))


@dead.command(
    epilog="""\b
Examples:
  promptmill dead redrive 3kx9v0a1b2c3d4e5f6g7
  promptmill dead redrive --reason not_found --set request.model=claude-haiku-5-5
  promptmill dead redrive --all
"""
)
@click.argument("job_ids", nargs=-1, metavar="[JOB]...")
@reason_option
@click.option("--all", "everything", is_flag=True, help="Every open dead letter.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a field of each job first: lane=overnight, request.max_tokens=4096. VALUE is JSON or text.",
)
def redrive(job_ids: tuple[str, ...], reason: str | None, everything: bool, settings: tuple[str, ...]) -> None:  # noqa: FBT001 - click's way
    """Send dead letters back to the queue, where they are tried like new jobs.

    A deadline that has passed is dropped. Exit code 1: some could not be sent back, because nothing is known of them
    or their payload, as changed, cannot be read as a job.
    """
    if sum((bool(job_ids), reason is not None, everything)) != 1:
        raise click.UsageError("expected job ids, --reason or --all")
    changes = dict(_parted(setting) for setting in settings)
    _send_back(job_ids, reason, lambda fields: changed(fields, changes))


@dead.command()
@click.argument("job_id", metavar="JOB")
def edit(job_id: str) -> None:
    """Change the job of a dead letter in your editor ($EDITOR), then send it back to the queue.

    Nothing is sent if the text was not changed, or is empty. Exit code 1: it is no job that could be sent.
    """
    letter = asyncio.run(_letter(job_id))
    text = orjson.dumps(fields_of(letter), option=orjson.OPT_INDENT_2).decode()
    edited = click.edit(text, extension=".json")
    if not (edited or "").strip() or edited is None or edited.strip() == text:
        click.echo("nothing changed, nothing sent back")
        return
    try:
        fields = orjson.loads(edited)
    except orjson.JSONDecodeError as error:
        raise BadInput(f"expected the job as JSON, got what is none: {error}; the dead letter is as it was") from None
    if not isinstance(fields, dict) or fields.get("id") != job_id:
        raise BadInput(f"expected an object with the id {job_id!r}; the dead letter is as it was")
    _send_back((job_id,), None, lambda _: fields)


@dead.command(
    epilog="""\b
Examples:
  promptmill dead purge --older-than 30
  promptmill dead purge --older-than 0 --reason invalid_request
"""
)
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(min=0),
    required=True,
    metavar="DAYS",
    help="Only those that died so many days ago; 0: all.",
)
@reason_option
def purge(days: float, reason: str | None) -> None:
    """Delete dead letters, with the prompts in them. The jobs' results stay in the store; nothing can be redriven."""
    count = asyncio.run(_purge(timedelta(days=days), reason))
    click.echo(f"{count:,} dead letters deleted")


def _parted(setting: str) -> tuple[str, str]:
    name, equals, value = setting.partition("=")
    if not (name and equals):
        raise click.UsageError(f"--set: expected NAME=VALUE, got {setting!r}")
    return name, value


def _send_back(job_ids: tuple[str, ...], reason: str | None, change: Callable[[Fields], Fields]) -> None:
    with reachable_queue(load_settings()) as address:
        queued, refused = asyncio.run(_redrive(address, job_ids, reason, change))
    for job_id, why in refused:
        remark(f"{job_id}: {why}")
    click.echo(f"{queued:,} sent back to the queue" + (f", {len(refused):,} not" if refused else ""))
    if refused:
        raise click.exceptions.Exit(1)


async def _list(reason: str | None, limit: int) -> list[DeadLetter]:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        await _refuse_unknown(reason, store)
        return await store.dead_letters(reason=reason, limit=limit)


async def _letter(job_id: str) -> DeadLetter:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        return _found(await store.dead_letter(job_id), job_id)


def _found(letter: DeadLetter | None, job_id: str) -> DeadLetter:
    if letter is None:
        raise BadInput(f"there is no open dead letter of job {job_id!r}; `promptmill dead list` shows those there are")
    return letter


async def _show(job_id: str) -> dict[str, Any]:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        letter = _found(await store.dead_letter(job_id), job_id)
        attempts = (await store.attempts([job_id])).get(job_id, ())
    return {
        **_summary(letter),
        "tried": [attempt.to_line() for attempt in attempts],
        "payload": _readable(letter.payload),
    }


async def _redrive(
    address: QueueAddress, job_ids: tuple[str, ...], reason: str | None, change: Callable[[Fields], Fields]
) -> tuple[int, list[tuple[str, str]]]:
    redis, queued, refused = connect(address.url), 0, list[tuple[str, str]]()
    try:
        async with await ResultStore.open(address.settings.store, make=False) as store:
            await _refuse_unknown(reason, store)
            async for letters in _chosen(store, job_ids, reason, refused):
                done = await send_back(letters, redis, store, address.settings, change=change)
                queued += done.queued
                refused += done.refused
    finally:
        await redis.aclose()
    return queued, refused


async def _chosen(
    store: ResultStore, job_ids: tuple[str, ...], reason: str | None, unknown: list[tuple[str, str]]
) -> AsyncIterator[list[DeadLetter]]:
    if not job_ids:
        last = None
        while page := await store.dead_letters(reason=reason, limit=_AT_A_TIME, after=last):
            yield page
            last = page[-1]
        return
    for job_id in job_ids:
        letter = await store.dead_letter(job_id)
        if letter is None:
            unknown.append((job_id, "there is no open dead letter of this job"))
        else:
            yield [letter]


async def _purge(age: timedelta, reason: str | None) -> int:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        await _refuse_unknown(reason, store)
        return await store.purge_dead(before=datetime.now(UTC) - age, reason=reason)


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.job_id,
        "reason": letter.reason,
        "message": letter.message,
        "died_at": letter.died_at.isoformat(),
        "attempts": letter.attempts,
        "redrivable": letter.redrivable,
    }


def _readable(payload: bytes) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload.decode("utf-8", "backslashreplace")
