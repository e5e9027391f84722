"""`promptmill quality`: what the metrics of answers come to, and where they have become worse."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
from rich.table import Table
from rich.text import Text

from producers.cli.certainty import Change, Interval, change_of, interval_of
from producers.cli.charts import Axis, levels, marks
from producers.cli.console import print_csv, print_json, print_table
from producers.cli.options import HOURS, load_settings
from promptmill.alarms import Alarm, AlarmState
from promptmill.jobs import Lane
from promptmill.metrics import Kind
from promptmill.store import ResultStore, SeriesMetric, Sums

_EVERY: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1)}
_SHOWN_BY_DEFAULT: Final = {"hour": 24.0, "day": 14 * 24.0}
_ALARMS_READ: Final = 1_000
_COLUMNS: Final = ("model", "prompts", "lane", "metric", "answers", "mean", "95 % certain", "usual", "change")
_NUMBERS: Final = _COLUMNS[4:]


@dataclass(frozen=True, slots=True)
class Row:
    """One metric of one series, reckoned."""

    of: SeriesMetric
    whole: Sums
    interval: Interval | None
    change: Change | None
    alarms: Sequence[Alarm]
    """Those that are open, or began within the time that is shown."""

    @property
    def is_alarming(self) -> bool:
        """Whether an alarm is not resolved."""
        return any(alarm.state is not AlarmState.RESOLVED for alarm in self.alarms)

    @property
    def worse_by(self) -> float:
        """By how many standard deviations it has become worse at least."""
        return self.change.certainly_worse(self.of.worse) if self.change else 0.0


@click.command(
    epilog="""\b
Examples:
  promptmill quality
  promptmill quality --model claude-haiku-5-5 --kind summaries --by day --since 720
  promptmill quality --csv > quality.csv
  promptmill quality --json | jq '.[] | select(.worse_by > 0) | {model, kind, metric, change}'
"""
)
@click.option("--model", metavar="NAME", help="Only what this model answered.")
@click.option("--kind", metavar="KIND", help="Only this kind of prompt: a tag `kind`, or the hash that is shown.")
@click.option("--lane", type=click.Choice([lane.value for lane in Lane]), help="Only this lane.")
@click.option("--since", type=HOURS, metavar="HOURS", help="[default: 24, by day two weeks]")
@click.option("--by", type=click.Choice(list(_EVERY)), default="hour", help="Spans of the charts.  [default: hour]")
@click.option("--limit", type=click.IntRange(min=1), default=30, metavar="N", help="Rows of the table.  [default: 30]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object for each series and metric.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: one row for each series, metric and span.")
def quality(since: float | None, by: str, limit: int, **given: Any) -> None:
    """Show the metrics of answers by model, kind of prompt and lane; what has certainly become worse comes first.

    mean: of a flag the share of answers that have it. 95 % certain: where the true mean lies, from the answers there
    were. usual: the mean of the baseline that alarms compare answers with, learned or frozen (`promptmill alarms
    freeze`). A chart reaches from the lowest mean to the highest; ▲ marks where an alarm began. docs/metrics.md tells
    what each metric can see.
    """
    if given["as_json"] and given["as_csv"]:
        raise click.UsageError("expected --json or --csv, got both")
    now = datetime.now(UTC)
    hours = since or _SHOWN_BY_DEFAULT[by]
    axis = Axis(now, hours, _EVERY[by])
    chosen = {name: given[name] for name in ("model", "kind", "lane")}
    found, alarms = asyncio.run(_read(axis.first, _EVERY[by], chosen))
    rows = _rows(found, alarms)
    if given["as_json"]:
        print_json([_as_json(row) for row in rows])
    elif given["as_csv"]:
        print_csv(_CSV, _as_csv(rows))
    elif rows:
        print_table(_table(rows[:limit], axis, f"{hours:g} hours until now"))
        if len(rows) > limit:
            click.echo(f"and {len(rows) - limit:,} more: --limit, --model, --kind and --lane choose; --csv has all")
        _tell_others(alarms, rows)
    else:
        click.echo(f"no measured answers in the last {hours:g} hours")


async def _read(
    since: datetime, every: timedelta, chosen: dict[str, str | None]
) -> tuple[list[SeriesMetric], list[Alarm]]:
    async with await ResultStore.open(load_settings().store, make=False) as store:
        found = await store.quality(since=since, every=every, **chosen)
        raised = await store.watching.alarms(resolved=True, limit=_ALARMS_READ)
    return found, [alarm for alarm in raised if alarm.state is not AlarmState.RESOLVED or alarm.since >= since]


def _rows(found: Sequence[SeriesMetric], alarms: Sequence[Alarm]) -> list[Row]:
    rows = []
    for of in found:
        whole = of.whole
        rows.append(
            Row(
                of=of,
                whole=whole,
                interval=interval_of(of.kind, whole),
                change=change_of(of.kind, whole, of.baseline) if of.baseline else None,
                alarms=[alarm for alarm in alarms if (alarm.series, alarm.metric) == (of.series, of.metric)],
            )
        )
    return sorted(rows, key=lambda row: (not row.is_alarming, -row.worse_by))


def _table(rows: Sequence[Row], axis: Axis, period: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in _COLUMNS:
        justify = "right" if name in _NUMBERS else "left"
        table.add_column(name, overflow="fold", header_style="dim", justify=justify)  # type: ignore[arg-type]
    table.add_column(period, header_style="dim", no_wrap=True)
    for row in rows:
        of = row.of
        series = of.series
        usual = of.baseline
        table.add_row(
            series.model if series.model == series.asked else f"{series.model} for {series.asked}",
            series.kind or "-",
            series.lane,
            of.metric,
            f"{row.whole.answers:,}",
            _shown(of.kind, row.whole.mean),
            f"{_shown(of.kind, row.interval.low)} to {_shown(of.kind, row.interval.high)}"
            if row.interval
            else "too few",
            _shown(of.kind, usual.mean) if usual else "not known",
            _change(row),
            _chart(row, axis),
            style="bold" if row.is_alarming else None,
        )
    return table


def _shown(kind: Kind, value: float) -> str:
    return f"{value:.1%}" if kind == "flag" else f"{value:.3f}" if kind == "score" else f"{value:,.1f}"


def _change(row: Row) -> str:
    if row.change is None or row.of.baseline is None:
        return ""
    if row.of.kind == "flag":
        shown = f"{row.change.difference * 100:+.1f} points"
    elif row.of.baseline.mean:
        shown = f"{row.change.difference / row.of.baseline.mean:+.1%}"
    else:
        shown = f"{row.change.difference:+.3g}"
    return f"worse: {shown}" if row.worse_by else shown


def _chart(row: Row, axis: Axis) -> Text:
    """Return a bar for each span, and below it a mark where an alarm began."""
    places = [Sums() for _ in range(axis.count)]
    for begins, sums in row.of.spans.items():
        places[axis.place(begins)].add(sums)
    drawn = levels([sums.mean if sums.answers else None for sums in places])
    began = marks({axis.place(alarm.since) for alarm in row.alarms})
    return Text(f"{drawn}\n{began}" if began else drawn)


def _tell_others(alarms: Sequence[Alarm], rows: Sequence[Row]) -> None:
    """Name alarms that stand in no row: of all metrics together, or of series without answers in this time."""
    shown = {alarm.id for row in rows for alarm in row.alarms}
    named = {row.of.series for row in rows}
    for alarm in alarms:
        if alarm.id not in shown and alarm.state is not AlarmState.RESOLVED and alarm.series in named:
            key = alarm.series
            since = f"{alarm.since.astimezone(UTC):%Y-%m-%d %H:%M}"
            click.echo(
                f"alarm {alarm.id}: {alarm.metric} of {key.model}, {key.kind or '-'}, {key.lane}, since {since} UTC"
            )


def _as_json(row: Row) -> dict[str, Any]:
    of, series = row.of, row.of.series
    return {
        "model": series.model,
        "asked_model": series.asked,
        "kind": series.kind,
        "lane": series.lane,
        "metric": of.metric,
        "values": of.kind,
        "worse_when": of.worse,
        "answers": row.whole.answers,
        "mean": row.whole.mean,
        "interval": row.interval and list(row.interval),
        "baseline": None if of.baseline is None else {"mean": of.baseline.mean, "answers": of.baseline.answers},
        "change": None
        if row.change is None
        else {"mean": row.change.difference, "interval": list(row.change.interval)},
        "worse_by": row.worse_by,
        "alarms": [
            {"id": alarm.id, "state": alarm.state.value, "since": alarm.since.isoformat()} for alarm in row.alarms
        ],
        "spans": [
            {"from": begins.isoformat(), "answers": sums.answers, "mean": sums.mean}
            for begins, sums in of.spans.items()
        ],
    }


_CSV: Final = ("from", "model", "asked_model", "kind", "lane", "metric", "answers", "mean", "low", "high", "baseline")


def _as_csv(rows: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    for row in rows:
        of, series = row.of, row.of.series
        for begins, sums in of.spans.items():
            low, high = interval_of(of.kind, sums) or (None, None)
            usual = of.baseline.mean if of.baseline else None
            key = (series.model, series.asked, series.kind, series.lane, of.metric)
            yield (begins.isoformat(), *key, sums.answers, sums.mean, low, high, usual)
