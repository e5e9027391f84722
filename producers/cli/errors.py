"""`promptmill errors`: what went wrong, whose fault it was, and where another model had to answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.table import Table

from producers.cli.charts import Axis, bars
from producers.cli.console import print_json, print_table
from producers.cli.options import HOURS, load_settings
from promptmill.store import Fallbacks, Outcomes, ResultStore

Key = tuple[str, str, str]


@dataclass(slots=True)
class _Row:
    """What was counted of one kind of failure or fallback."""

    of: int
    """All that it is a share of."""
    count: int = 0
    hours: dict[datetime, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Of all; an answer from before the time that is looked at may be missing in them."""
        return self.count / max(self.of, self.count)


@click.command(
    epilog="""\b
Examples:
  promptmill errors
  promptmill errors --since 168 --json | jq '.errors[] | select(.blame == "ours")'
"""
)
@click.option("--since", type=HOURS, default=24, metavar="HOURS", help="[default: 24]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the failed requests, and the fallbacks, by hour.")
def errors(since: float, as_json: bool) -> None:  # noqa: FBT001 - click's way
    """Show how requests failed and whose fault it was, by model, and how often another model answered.

    Every request counts, also of jobs that were answered in the end: most failures are tried again. docs/outcomes.md
    tells what each means and what follows. A fallback's reason is what the last request to the models before it came
    to; `out`: none was sent, because the model class answered nobody.
    """
    now = datetime.now(UTC)
    requests, fallen_back = asyncio.run(_read(now - timedelta(hours=since)))
    by_model: Counter[str] = Counter()
    for one in requests:
        by_model[one.model] += one.requests
    by_asked = _answers_by_model(requests, fallen_back)
    failed = _rows(
        ((one.model, one.outcome, one.blame or ""), one.hour, one.requests, by_model[one.model])
        for one in requests
        if one.hour is not None
    )
    fell_back = _rows(
        ((one.asked, one.model, one.reason or "out"), one.hour, one.answers, by_asked[one.asked]) for one in fallen_back
    )
    if as_json:
        print_json(_as_json(by_model, failed, by_asked, fell_back))
        return
    if not requests:
        click.echo(f"no requests in the last {since:g} hours")
        return
    _say(
        failed,
        f"none of {sum(by_model.values()):,} requests failed",
        ("model", "outcome", "whose fault", "requests"),
        now,
        since,
    )
    click.echo()
    _say(fell_back, "no answer came from a fallback", ("asked first", "answered", "reason", "answers"), now, since)


async def _read(since: datetime) -> tuple[list[Outcomes], list[Fallbacks]]:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        return await store.outcomes(since=since), await store.fallbacks(since=since)


def _answers_by_model(requests: Iterable[Outcomes], fallen_back: Iterable[Fallbacks]) -> Counter[str]:
    """Return how many answers there were to jobs that asked each model first, whichever answered."""
    answers: Counter[str] = Counter()
    for one in requests:
        if one.blame is None:
            answers[one.model] += one.requests
    for other in fallen_back:
        answers[other.model] -= other.answers
        answers[other.asked] += other.answers
    return +answers


def _rows(counted: Iterable[tuple[Key, datetime, int, int]]) -> dict[Key, _Row]:
    """Return what was counted by key, the most frequent first; given is the hour, how many, and of how many."""
    rows: dict[Key, _Row] = {}
    for key, hour, number, of in counted:
        row = rows.setdefault(key, _Row(of))
        row.count += number
        row.hours[hour] = row.hours.get(hour, 0) + number
    return dict(sorted(rows.items(), key=lambda item: -item[1].count))


def _say(rows: Mapping[Key, _Row], nothing: str, columns: Sequence[str], now: datetime, hours: float) -> None:
    if not rows:
        click.echo(nothing)
        return
    axis = Axis(now, hours)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in (*columns, "share"):
        justify = "right" if name in (columns[-1], "share") else "left"
        table.add_column(name, overflow="fold", header_style="dim", justify=justify)  # type: ignore[arg-type]
    table.add_column(f"{hours:g} hours until now", header_style="dim", no_wrap=True)
    for key, row in rows.items():
        places = [0] * axis.count
        for hour, count in row.hours.items():
            places[axis.place(hour)] += count
        table.add_row(*key, f"{row.count:,}", f"{row.share:.2%}", bars(places))
    print_table(table)


def _as_json(
    by_model: Mapping[str, int],
    failed: Mapping[Key, _Row],
    by_asked: Mapping[str, int],
    fell_back: Mapping[Key, _Row],
) -> dict[str, Any]:
    return {
        "requests": by_model,
        "errors": [
            {"model": model, "outcome": outcome, "blame": blame, "requests": row.count, **_shared(row)}
            for (model, outcome, blame), row in failed.items()
        ],
        "answers": by_asked,
        "fallbacks": [
            {"asked_model": asked, "model": model, "reason": reason, "answers": row.count, **_shared(row)}
            for (asked, model, reason), row in fell_back.items()
        ],
    }


def _shared(row: _Row) -> dict[str, Any]:
    return {"share": row.share, "hours": {hour.isoformat(): count for hour, count in row.hours.items()}}
