"""Where the command line prints: tables on standard output, remarks and complaints on standard error."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table

_WIDTH_OF_A_FILE: Final = 300
"""Into a file or a pipe a table is written whole; only a terminal has an edge."""

_LONGEST_WORD: Final = 32
"""A longer one may be folded: names of models and metrics are shorter, what an answer says may be without end."""

_PROBLEMS_SHOWN: Final = 20


def terminal(*, stderr: bool = False) -> Console:
    """Return a console for one of the standard streams; plain where that is no terminal or NO_COLOR is set."""
    from rich.console import Console  # noqa: PLC0415 - `--help` does not need it

    stream = sys.stderr if stderr else sys.stdout
    # Brackets in names and messages are brackets: nothing that is printed here is markup.
    width = None if stream.isatty() else _WIDTH_OF_A_FILE
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def print_table(table: Table, on: Console | None = None) -> None:
    """Print a table, on standard output unless stated otherwise.

    In a narrow terminal texts are broken between words, figures never: a line that is still too long is whole, and the
    terminal's to wrap.
    """
    console = on or terminal()
    for column in table.columns:
        column.min_width = _least_width(console, column)
    console.print(table, crop=False)


def _least_width(console: Console, column: Column) -> int:
    from rich.measure import Measurement  # noqa: PLC0415 - as above

    anything = console.options.update(max_width=_WIDTH_OF_A_FILE)
    header = Measurement.get(console, anything, column.header).minimum
    cells = [Measurement.get(console, anything, cell) for cell in column.cells]
    if column.no_wrap or column.justify == "right":
        return max([header, *(cell.maximum for cell in cells)])
    return max([header, *(min(cell.minimum, _LONGEST_WORD) for cell in cells)])


def remark(text: str) -> None:
    """Say something about what is going on, beside the output proper."""
    click.echo(text, err=True)


def complain(text: str) -> None:
    """Say in one line what is wrong."""
    click.echo(f"promptmill: {text}", err=True)


def show_problems(problems: Sequence[tuple[int, str, str]]) -> None:
    """Print bad lines of a file: number, field, and what was expected. Many are cut short."""
    for line, field, reason in problems[:_PROBLEMS_SHOWN]:
        remark(f"  line {line:,}: {field}: {reason}" if field else f"  line {line:,}: {reason}")
    if len(problems) > _PROBLEMS_SHOWN:
        remark("  ... and more")


def print_json(value: Any) -> None:
    """Print `value` as indented JSON."""
    import orjson  # noqa: PLC0415

    click.echo(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode())


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as CSV (RFC 4180) with a header line; None is an empty field."""
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    writer.writerows(rows)
