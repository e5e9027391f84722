"""What a prompt file may look like. Each format cuts a file into rows, and makes the fields of a job from one row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

import orjson

from producers.files.problems import Problem
from producers.files.raw_lines import MAX_LINE_BYTES, RawLines
from promptmill.errors import BadJob


class Row(NamedTuple):
    """One record of a file, not yet looked at closely."""

    line: int
    """Number of its first line, counted from 1."""
    content: Any
    """Understood by the format that made it."""


class Format(Protocol):
    """Bound to one file for one pass."""

    def rows(self, lines: RawLines) -> Iterator[Row | Problem]:
        """Yield what stands in the file, blank lines left out. Raises BadInput where the file as a whole fails."""
        ...

    def fields(self, row: Row) -> Mapping[str, Any]:
        """Return the fields of the job, as `promptmill.lines` takes them. Raises BadJob."""
        ...


def too_long(line: int) -> Problem:
    """Return what is said of a line that was not read."""
    return Problem(line, "", f"expected at most {MAX_LINE_BYTES:,} bytes in a line, got more")


class JsonLines:
    """One JSON object a line: the short form, or the Message Batches form."""

    def rows(self, lines: RawLines) -> Iterator[Row | Problem]:
        """Yield every line that is not blank."""
        for line in lines:
            if line is None:
                yield too_long(lines.count)
            elif line and not line.isspace():  # empty: nothing but a byte-order mark
                yield Row(lines.count, line)

    def fields(self, row: Row) -> Mapping[str, Any]:
        """Parse the line. An id that is a whole number is taken as its digits."""
        try:
            fields = orjson.loads(row.content)
        except orjson.JSONDecodeError as error:
            raise BadJob(f"expected a JSON object, got something else: {_without_place(error)}") from None
        if not isinstance(fields, dict):
            raise BadJob(f"expected a JSON object, got {_JSON_NAMES.get(type(fields), 'null')}")
        for name in ("id", "custom_id"):
            if isinstance(fields.get(name), int) and not isinstance(fields[name], bool):
                fields[name] = str(fields[name])
        return fields


_JSON_NAMES: Final = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false"}


def _without_place(error: orjson.JSONDecodeError) -> str:
    return f"{error.msg} at character {error.colno}"
