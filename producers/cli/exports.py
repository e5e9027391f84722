"""Results written out: JSON lines hold everything, CSV and Parquet one flat row for each result."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import orjson

from promptmill.errors import BadInput, MissingExtra
from promptmill.metrics import BUILT_IN
from promptmill.results import Result, Usage

_ROWS_A_GROUP: Final = 1_000
"""Parquet is written in groups of so many rows; that many answers are held in memory."""

_TYPES: Final = {"flag": "bool", "amount": "float64", "score": "float64"}
_QUALITY: Final = {
    name: "int64" if declared.whole else _TYPES[declared.kind]
    for name, declared in BUILT_IN.items()
    if name != "output_tokens"  # a column of the usage already
}
"""The built-in metrics have columns of their own; plug-ins and instructions stand in `quality`, as JSON, with them: a
column that is there today and not tomorrow would break whoever reads the files one after the other."""

_USAGE: Final = tuple(field.name for field in fields(Usage))

COLUMNS: Final[dict[str, str]] = {
    "id": "string",
    "run": "string",
    "position": "int64",
    "lane": "string",
    "status": "string",
    "model": "string",
    "text": "string",
    "rewrites": "string",
    "stop_reason": "string",
    "input_tokens": "int64",
    "output_tokens": "int64",
    "cache_write_5m_tokens": "int64",
    "cache_write_1h_tokens": "int64",
    "cache_read_tokens": "int64",
    "thinking_tokens": "int64",
    "service_tier": "string",
    "web_searches": "int64",
    "speed": "string",
    "inference_geo": "string",
    "cost_usd": "string",
    "attempts": "int64",
    "error": "string",
    "error_message": "string",
    "latency_s": "float64",
    "queue_time_s": "float64",
    "submitted_at": "string",
    "finished_at": "string",
    **_QUALITY,
    "quality": "string",
    "tags": "string",
    "request_ref": "string",
    "worker": "string",
}
"""Of a flat row: name and type. Money is exact, so it is text; times are ISO 8601 in UTC."""


class Writer(Protocol):
    """Writes results to a stream."""

    def write(self, result: Result) -> None:
        """Add one result."""

    def finish(self) -> None:
        """Write whatever is still held back."""


async def export(results: AsyncIterator[Result], writer: Writer) -> int:
    """Write every result; how many there were."""
    count = 0
    async for result in results:
        writer.write(result)
        count += 1
    writer.finish()
    return count


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing so that it is complete or absent: it takes its name once it is on the disk."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


class JsonLinesWriter:
    """One answer line for each result, as `run` writes them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, result: Result) -> None:
        """Write the line."""
        line = result.to_line()
        try:
            written = orjson.dumps(line)
        except TypeError:  # an answer may hold half a surrogate pair, which JSON can only spell out
            written = json.dumps(line).encode()
        self._stream.write(written + b"\n")

    def finish(self) -> None:
        """Nothing is held back."""


class CsvWriter:
    """RFC 4180 with a header line, in UTF-8."""

    def __init__(self, stream: BinaryIO) -> None:
        self._text = io.TextIOWrapper(stream, "utf-8", errors="backslashreplace", newline="", write_through=True)
        self._rows = csv.DictWriter(self._text, list(COLUMNS))
        self._rows.writeheader()

    def write(self, result: Result) -> None:
        """Write the row."""
        self._rows.writerow(flat_row(result))

    def finish(self) -> None:
        """Leave the stream to its owner."""
        self._text.detach()


class ParquetWriter:
    """Row groups with the columns of COLUMNS. Raises MissingExtra without pyarrow."""

    def __init__(self, stream: BinaryIO) -> None:
        try:
            self._arrow: Any = import_module("pyarrow")
            parquet: Any = import_module("pyarrow.parquet")
        except ImportError:
            raise MissingExtra("Parquet", "parquet") from None
        types = {"string": self._arrow.string(), "bool": self._arrow.bool_()}
        self._schema = self._arrow.schema(
            [(name, types.get(kind) or getattr(self._arrow, kind)()) for name, kind in COLUMNS.items()]
        )
        self._writer = parquet.ParquetWriter(stream, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def write(self, result: Result) -> None:
        """Add the row to its group."""
        self._rows.append({name: _storable(value) for name, value in flat_row(result).items()})
        if len(self._rows) == _ROWS_A_GROUP:
            self._write_group()

    def finish(self) -> None:
        """Write the last group and the footer, without which the file cannot be read."""
        self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()


WRITERS: Final[dict[str, Callable[[BinaryIO], Writer]]] = {
    "jsonl": JsonLinesWriter,
    "csv": CsvWriter,
    "parquet": ParquetWriter,
}


def flat_row(result: Result) -> dict[str, Any]:
    """Return the result as one row of COLUMNS."""
    line, quality = result.to_line(), result.quality or {}
    return {
        **{name: line[name] for name in COLUMNS if name in line},
        **(line["usage"] or dict.fromkeys(_USAGE)),
        "rewrites": None if result.rewrites is None else _json(line["rewrites"]),
        "stop_reason": (result.message or {}).get("stop_reason"),
        "attempts": len(result.attempts),
        "error": result.error.name if result.error else None,
        "error_message": result.error.message if result.error else None,
        **{name: quality.get(name) for name in _QUALITY},
        "quality": _json(result.quality) if result.quality else None,
        "tags": _json(dict(result.tags)) if result.tags else None,
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _storable(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
