"""`promptmill pause`: let a lane rest, on every host, until it is resumed."""

from __future__ import annotations

import asyncio
import getpass
import socket
from datetime import timedelta

import click

from producers.cli.options import load_settings
from producers.cli.queue_address import reachable_queue
from producers.durations import duration, read_duration
from promptmill.halts import OWNER
from promptmill.jobs import Lane
from promptmill.queue import Queue, connect


@click.command(
    epilog="""\b
Examples:
  promptmill pause overnight
  promptmill pause standard --for 2h --because "new prompt goes out"
"""
)
@click.argument("lane", type=click.Choice([lane.value for lane in Lane]))
@click.option("--for", "lasting", metavar="TIME", help="How long, such as 90s, 30m, 2h, 1d.  [default: until resumed]")
@click.option("--because", metavar="TEXT", default="", help="Why; `promptmill status` shows it.")
def pause(lane: str, lasting: str | None, because: str) -> None:
    """Send nothing more of a lane, whatever the model, until `promptmill resume LANE`.

    Calls under way finish. Jobs keep their places and attempts; they can be cancelled, and their deadlines go on. New
    ones are taken in. Workers of promptmill 0.1 do not know of pauses: they go on with the lane.
    """
    length = timedelta(0) if lasting is None else _length(lasting)
    why = " ".join([f"{_user()}@{socket.gethostname()}", *([f"({because})"] if because else [])])
    with reachable_queue(load_settings()) as address:
        asyncio.run(_pause(address.url, lane, why, length))
    until = f"for {duration(length)}, or until" if length else "until"
    click.echo(f"lane {lane} is paused {until} `promptmill resume {lane}`")


def _length(text: str) -> timedelta:
    try:
        return read_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--for") from None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container the user may have no name
        return "somebody"


async def _pause(url: str, lane: str, why: str, length: timedelta) -> None:
    redis = connect(url)
    try:
        await Queue(redis).halt("lane", lane, by=OWNER, why=why, lasting=length)
    finally:
        await redis.aclose()
