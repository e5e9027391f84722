"""How a run goes and what it came to, for people: a bar or a line now and then, and tables at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from producers.durations import about, duration
from producers.runs import Mean, Percentiles, Phase, RunProgress, RunSummary
from promptmill.metrics import BUILT_IN
from promptmill.results import Status

LINE_EVERY: Final = timedelta(seconds=10)
"""Between two lines where there is no terminal."""


class ProgressDisplay:
    """Shows what it is called with. A context, so that the terminal is left in order.

    `clock` is in seconds and only measures the time between two lines.
    """

    def __init__(self, console: Console | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._clock = clock
        self._bar: Progress | None = None
        self._told: tuple[str, ...] = ()
        self._phase: Phase | None = None
        self._next_line = 0.0
        self._last: RunProgress | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                TextColumn("{task.fields[figures]}", markup=False),
                console=self._console,
                auto_refresh=False,  # it is called often enough, and a thread would draw over other output
                expand=True,
            )
            self._bar.add_task("", total=1.0, figures="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def last(self) -> RunProgress | None:
        """What was shown last; an interrupted command can tell from it how far it came."""
        return self._last

    def __call__(self, progress: RunProgress) -> None:
        """Show how the run goes; call this from `on_progress`."""
        self._last = progress
        if progress.notes != self._told:
            self._told = progress.notes
            for note in progress.notes:
                self._console.print(note, style="dim", markup=False, highlight=False)
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(
                task,
                completed=progress.share,
                description=progress.phase.value,
                figures=figures(progress),
                refresh=True,
            )
        elif progress.phase is not self._phase or self._clock() >= self._next_line:
            self._next_line = self._clock() + LINE_EVERY.total_seconds()
            line = f"{progress.phase.value} {progress.share:.0%} {figures(progress)}".rstrip()
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._phase = progress.phase


def figures(progress: RunProgress) -> str:
    """Return the figures of `progress` in a line; nothing while the file is being checked."""
    if progress.phase is Phase.CHECKING:
        return ""
    parts = [f"{progress.done:,} of {progress.total:,}"]
    if progress.failed:
        parts.append(f"{progress.failed:,} without answer")
    if progress.rate_per_minute is not None:
        parts.append(f"{progress.rate_per_minute:,.0f}/min of {progress.budget_per_minute:,.0f}")
    tokens = progress.input_tokens + progress.output_tokens
    if tokens:
        parts.append(f"{short(tokens)} tokens")
        parts.append(dollars(progress.cost_usd))
    if progress.time_left:
        parts.append(f"{about(progress.time_left)} left")
    if progress.held:
        parts.append(progress.held)
    return " · ".join(parts)


def summary_view(summary: RunSummary) -> RenderableType:
    """Return what a run came to, as tables."""
    tables: list[RenderableType] = [_outcome(summary), _durations(summary)]
    if summary.quality:
        tables.append(_quality(summary.quality))
    if summary.errors:
        tables.append(_errors(summary.errors))
    return Group(*tables)


def _outcome(summary: RunSummary) -> Table:
    table = _table("run", summary.run)
    answered = summary.counts[Status.SUCCEEDED]
    table.add_row("answered", f"{answered:,} of {summary.total:,}")
    for status in (Status.FAILED, Status.CANCELLED, Status.EXPIRED):
        if summary.counts[status]:
            table.add_row(status.value, f"{summary.counts[status]:,}")
    if summary.skipped:
        table.add_row("bad lines left out", f"{summary.skipped:,}")
    if summary.answered_before:
        table.add_row("from earlier sessions", f"{summary.answered_before:,}")
    table.add_row("requests", f"{summary.attempts:,}")
    if summary.rate_per_minute is not None:
        share = summary.rate_per_minute / summary.budget_per_minute
        table.add_row(
            "rate", f"{summary.rate_per_minute:,.1f} of {summary.budget_per_minute:,.1f} a minute ({share:.1%})"
        )
    table.add_row("tokens in / out", f"{summary.usage.prompt_tokens:,} / {summary.usage.output_tokens:,}")
    unpriced = f" (and {summary.unpriced:,} answers of unknown price)" if summary.unpriced else ""
    table.add_row("cost", dollars(summary.cost_usd) + unpriced)
    table.add_row("time", duration(summary.wall_time))
    table.add_row("answers", Text(str(summary.output)))
    return table


def _durations(summary: RunSummary) -> Table:
    table = _table("", "P50", "P95", "P99")
    for name, of in (("latency", summary.latency), ("time in queue", summary.queue_time)):
        if of is not None:
            table.add_row(name, *_three(of))
    return table


def _quality(quality: Mapping[str, Mean]) -> Table:
    table = _table("quality", "mean", "answers")
    for name, mean in quality.items():
        is_share = name in BUILT_IN and BUILT_IN[name].kind == "flag"
        table.add_row(Text(name), f"{mean.value:.1%}" if is_share else f"{mean.value:,.2f}", f"{mean.count:,}")
    return table


def _errors(errors: Mapping[str, int]) -> Table:
    table = _table("why without answer", "lines")
    for name, count in errors.items():
        table.add_row(Text(name), f"{count:,}")
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(show_edge=False, pad_edge=False, box=None, header_style="bold")
    table.add_column(first, no_wrap=True)
    for other in others:
        table.add_column(other, justify="right" if len(others) > 1 else "left")
    return table


def _three(of: Percentiles) -> tuple[str, str, str]:
    return duration(of.p50), duration(of.p95), duration(of.p99)


def dollars(amount: Decimal) -> str:
    """Return an amount with as many decimals as it takes to see something."""
    decimals = 2 if amount >= 10 or not amount else 4 if amount >= Decimal("0.01") else 6
    return f"${amount:,.{decimals}f}"


def short(count: int) -> str:
    """Return a count in three digits or so."""
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if count >= limit:
            return f"{count / (limit if unit != 'k' else 1000):,.1f}{unit}"
    return f"{count:,}"
