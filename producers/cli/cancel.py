"""`promptmill cancel`: stop jobs, or a whole run."""

from __future__ import annotations

import asyncio
from collections import Counter

import click
from redis.asyncio import Redis

from producers.cli.options import load_settings
from producers.cli.queue_address import reachable_queue
from promptmill.queue import Queue, connect, keys
from promptmill.queue.connection import redis_errors

_AT_A_TIME = 1_000


@click.command(
    epilog="""\b
Examples:
  promptmill cancel 3kx9v0a1b2c3d4e5f6g7
  promptmill cancel --run 3kx9v0a1b2c3
"""
)
@click.argument("job_ids", nargs=-1, metavar="[JOB]...")
@click.option("--run", metavar="RUN", help="Every job of this run that has not ended.")
def cancel(job_ids: tuple[str, ...], run: str | None) -> None:
    """Stop jobs that are queued or running.

    A queued job is not sent any more; a running one is stopped by its worker, and what it has generated so far is
    billed. Each ends with the status `cancelled`, as soon as a worker sees to it.

    Exit code 1: some were not in the queue, perhaps because they have ended.
    """
    if bool(job_ids) == (run is not None):
        raise click.UsageError("expected either job ids or --run")
    with reachable_queue(load_settings()) as address:
        counts = asyncio.run(_cancel(address.url, job_ids, run))
    if run is not None and not counts:
        click.echo(f"no job of run {run!r} is queued")
        raise click.exceptions.Exit(1)
    click.echo(
        f"{counts['CANCELLED']:,} cancelled, {counts['STOPPING']:,} being stopped by their workers"
        + (f", {counts['UNKNOWN']:,} not in the queue" if counts["UNKNOWN"] else "")
    )
    if counts["UNKNOWN"]:
        raise click.exceptions.Exit(1)


async def _cancel(url: str, job_ids: tuple[str, ...], run: str | None) -> Counter[str]:
    redis = connect(url)
    try:
        queue, counts = Queue(redis), Counter[str]()
        ids = list(job_ids) if run is None else await _ids_of(redis, run)
        for start in range(0, len(ids), _AT_A_TIME):
            counts.update((await queue.cancel(ids[start : start + _AT_A_TIME])).values())
        # Ids of a run are listed first and cancelled after: one that ended in between is nothing to complain of.
        if run is not None:
            del counts["UNKNOWN"]
        return counts
    finally:
        await redis.aclose()


async def _ids_of(redis: Redis, run: str) -> list[str]:
    """Return the ids of a run's jobs that have not ended: they begin with the run's id and a slash."""
    literally = "".join(f"\\{character}" if character in "*?[]\\" else character for character in run)
    with redis_errors():
        found = {job_id async for job_id, _ in redis.hscan_iter(keys.JOBS, match=f"{literally}/*", count=10_000)}
    return sorted(job_id.decode("utf-8", "surrogateescape") for job_id in found)
