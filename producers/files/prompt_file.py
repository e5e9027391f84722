"""A file of prompts, read as often as needed and never held in memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

from producers.files.formats import Format, JsonLines, Row
from producers.files.problems import Problem
from producers.files.raw_lines import RawLines
from producers.files.tables import Table
from producers.files.template import Template
from promptmill.errors import BadFile, BadInput

FormatName = Literal["jsonl", "csv", "tsv"]

_SUFFIXES: Final[dict[str, FormatName]] = {".csv": "csv", ".tsv": "tsv"}


@dataclass(frozen=True, slots=True)
class _Version:
    """What changes when somebody writes to the file."""

    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, stream: BinaryIO) -> _Version:
        status = os.fstat(stream.fileno())
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class PromptFile:
    """Prompts in a file: JSONL, CSV or the Message Batches form.

    Without a `format` the name decides: .csv, .tsv, and JSONL for every other. Raises BadInput for a template that
    cannot be used.
    """

    def __init__(self, path: Path, *, format: FormatName | None = None, template: str | None = None) -> None:  # noqa: A002 - the word that users know
        self.path: Final = path
        self.format: Final[FormatName] = format or _SUFFIXES.get(path.suffix.lower(), "jsonl")
        self.template: Final = None if template is None else Template(template)
        if self.template is not None and self.format == "jsonl":
            raise BadInput(
                f"template: expected a CSV file, got {path.name}, read as JSONL; say --format csv if it is one, "
                "or write the prompts out"
            )
        self._version: _Version | None = None

    @contextmanager
    def reading(self) -> Iterator[FilePass]:
        """Open the file for one pass. Raises BadFile where it cannot be read, or has changed since the first pass."""
        try:
            # Not to be held up by a pipe that nobody writes to: it is refused below.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise BadFile(f"cannot read {self.path}: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise BadFile(f"cannot read {self.path}: expected a regular file, since it is read more than once")
        with os.fdopen(descriptor, "rb", buffering=1 << 18) as stream:
            if self._version is None:
                self._version = _Version.of(stream)
            current = FilePass(self, stream, self._new_format(), self._version)
            current.check_unchanged()
            yield current

    def _new_format(self) -> Format:
        match self.format:
            case "jsonl":
                return JsonLines()
            case "csv":
                return Table(template=self.template)
            case "tsv":
                return Table(template=self.template, delimiter="\t")


class FilePass:
    """One reading of a file, from its first line to its last."""

    def __init__(self, file: PromptFile, stream: BinaryIO, format: Format, version: _Version) -> None:  # noqa: A002 - as above
        self._file = file
        self._stream = stream
        self._version = version
        self.format: Final = format
        self.lines: Final = RawLines(stream)

    def rows(self) -> Iterator[Row | Problem]:
        """Yield what stands in the file, in order. Raises BadFile."""
        try:
            for row in self.format.rows(self.lines):
                if self.lines.bytes_read > self._version.size:  # somebody may add lines faster than they are read
                    raise self._changed()
                yield row
        except BadFile:
            raise
        except BadInput as error:
            raise BadFile(f"{self._file.path}: {error}") from None
        except OSError as error:
            raise BadFile(f"cannot read {self._file.path}: {error.strerror}") from None

    @property
    def share_read(self) -> float:
        """How much of the file is behind, 0..1."""
        return min(1.0, self.lines.bytes_read / max(1, self._version.size))

    def check_unchanged(self) -> None:
        """Raise BadFile if somebody wrote to the file since it was first opened."""
        if _Version.of(self._stream) != self._version:
            raise self._changed()

    def _changed(self) -> BadFile:
        return BadFile(f"{self._file.path} was changed while it was being read; run the same command again")
