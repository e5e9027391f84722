"""CSV: a prompt column, or a template that the cells of each row fill."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from producers.files.formats import Row, too_long
from producers.files.problems import Problem
from producers.files.raw_lines import MAX_LINE_BYTES, RawLines
from producers.files.template import Template
from promptmill.errors import BadInput, BadJob

_PLAIN: Final = ("id", "custom_id", "prompt", "model", "system", "max_tokens", "max_attempts", "lane")
"""Columns that are fields of a job, in a file without a template."""
_TIMES: Final = ("not_before", "deadline")
_GROUPS: Final = ("tags.", "expect.")
_NUMBERS: Final = ("max_tokens", "max_attempts")


class Table:
    """CSV with a header. Columns `tags.<name>` and `expect.<check>` set tags and expectations.

    With a template its columns make the prompt and only `id`, `tags.*` and `expect.*` mean more than data: a column
    `model` may well name a car. Without one, `prompt` is needed and every column must be a field of a job. An empty
    cell is an absent field, but an empty text in a template.
    """

    def __init__(self, *, template: Template | None = None, delimiter: str = ",") -> None:
        self._template = template
        self._delimiter = delimiter
        self._columns: list[str] = []

    def rows(self, lines: RawLines) -> Iterator[Row | Problem]:
        """Read the header, then yield each row. Raises BadInput where columns are missing, unknown or double."""
        # The limit is the process' own and small by default: a long prompt is no error. It is only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        text = _Text(lines)
        reader = csv.reader(text, delimiter=self._delimiter, strict=True)
        while True:
            start = lines.count + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if not self._columns:
                    raise BadInput(f"line {start}: expected a header, got broken CSV: {error}") from None
                yield Problem(start, "", _explain(error))
                continue
            if text.too_long:
                text.too_long = False
                yield too_long(start)
            elif len(cells) < 2 and not "".join(cells).strip():
                continue
            elif not self._columns:
                self._columns = self._header(cells)
            else:
                yield Row(start, cells)

    def fields(self, row: Row) -> Mapping[str, Any]:
        """Return the fields that the cells of a row make."""
        cells: list[str] = row.content
        if len(cells) != len(self._columns):
            raise BadJob(f"expected {len(self._columns)} cells as in the header, got {len(cells)}")
        by_column = dict(zip(self._columns, cells, strict=True))
        for column, cell in by_column.items():
            if not cell.isascii() and any("\udc80" <= character <= "\udcff" for character in cell):
                raise BadJob(f"{column}: expected UTF-8, got bytes that are not")
        fields: dict[str, Any] = {}
        for column, cell in by_column.items():
            if cell and self._is_field(column):
                _set(fields, column, cell)
        if self._template is not None:
            fields["prompt"] = self._template.fill(by_column)
        return fields

    def _is_field(self, column: str) -> bool:
        if self._template is not None:
            return column == "id" or column.startswith(_GROUPS)
        return True

    def _header(self, cells: Sequence[str]) -> list[str]:
        columns = [cell.strip() for cell in cells]
        double = next((column for number, column in enumerate(columns) if column in columns[:number]), None)
        if double is not None:
            raise BadInput(f"header: expected each column once, got {double!r} twice")
        if self._template is not None:
            self._template.require(columns)
            return columns
        known = (*_PLAIN, *_TIMES)
        for column in columns:
            if column not in known and not (column.startswith(_GROUPS) and not column.endswith(".")):
                near = difflib.get_close_matches(column, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else "expected " + ", ".join(known)
                raise BadInput(
                    f"header: unknown column {column!r}; {hint} Name it tags.{column} to keep it as a tag, "
                    "or use a template with {column} to make prompts of it"
                )
        if "prompt" not in columns:
            raise BadInput(
                "header: expected a column 'prompt', or a template with {column} that makes prompts of others"
            )
        return columns


class _Text:
    """Lines as text for the CSV reader; bytes that are no UTF-8 become surrogates, so that the row can be named."""

    def __init__(self, lines: RawLines) -> None:
        self._iterator = iter(lines)
        self.too_long = False
        """Set where a line was left out; whoever names the row resets it."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._iterator)
        if line is None:
            self.too_long = True
            return "\n"
        return line.decode("utf-8", "surrogateescape")


def _set(fields: dict[str, Any], column: str, cell: str) -> None:
    group, dot, name = column.partition(".")
    if dot:
        fields.setdefault(group, {})[name] = cell
    elif column in _NUMBERS:
        try:
            fields[column] = int(cell)
        except ValueError:
            raise BadJob(f"{column}: expected a whole number, got {cell[:40]!r}") from None
    else:
        fields[column] = cell


def _explain(error: csv.Error) -> str:
    if "field larger" in str(error) or "unexpected end" in str(error):
        return "expected a closing quote for the one opened in this row, got none"
    return f"expected CSV, got something else: {error}"
