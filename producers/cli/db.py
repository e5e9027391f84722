"""`promptmill db`: the result store's schema."""

from __future__ import annotations

import asyncio

import click

from producers.cli.options import load_settings
from promptmill.queue.connection import hide_password
from promptmill.store import ResultStore


@click.group()
def db() -> None:
    """See to the result store's schema."""


@db.command(
    epilog="""\b
Example:
  PROMPTMILL_STORE_URL=postgresql://user:password@host/database promptmill db upgrade
"""
)
def upgrade() -> None:
    """Bring the schema of PROMPTMILL_STORE_URL up to date.

    Workers and `run` do so themselves at their start; do it here first where they may not change the schema, or before
    many of them start on a new version. Safe to repeat, and from several machines at once.
    """
    url = load_settings().store
    before, after = asyncio.run(_upgrade(url))
    change = f"is at schema {after}" if before == after else f"went from schema {before or 'none'} to {after}"
    click.echo(f"{hide_password(url)} {change}")


async def _upgrade(url: str) -> tuple[str | None, str | None]:
    async with await ResultStore.open(url, migrate=False) as store:
        before = await store.schema_version()
        await store.upgrade()
        return before, await store.schema_version()
