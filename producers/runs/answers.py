"""The answers file: complete or absent, never half a line."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import orjson

from producers.runs.identity import line_id
from promptmill.errors import BadInput, PromptmillError
from promptmill.results import Result
from promptmill.store import jsontext

FIELDS: Final = (
    "id",
    "status",
    "text",
    "rewrites",
    "message",
    "model",
    "usage",
    "cost_usd",
    "attempts",
    "quality",
    "error",
)
"""Of an answer line, in order."""


_BUFFER: Final = 1 << 20


class CannotWrite(PromptmillError):  # noqa: N818 - named by what it is, as in promptmill.errors
    """The answers file cannot be written. What was answered is safe in the result store."""


def answer_line(result: Result) -> bytes:
    """Return the line of a result with its end; its id is the one that the line has in the input."""
    whole = result.to_line()
    line: dict[str, Any] = {name: whole[name] for name in FIELDS}
    line["id"] = line_id(result.job_id)
    try:
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # Half a surrogate pair in an answer, or a number beyond 64 bits: rare, and no reason to lose the file.
        return jsontext.dumps(line).strip().encode() + b"\n"


class AnswersFile:
    """Lines are written beside the file, which then takes its place at once.

    The one beside is there, and locked, as long as the run is followed: it shows before anything is sent whether the
    directory can be written to, and refuses a second command for the same file. It is gone afterwards.
    """

    def __init__(self, path: Path, partial: Path, stream: BinaryIO) -> None:
        self._path = path
        self._partial = partial
        self._stream = stream
        self._published = False

    @classmethod
    def reserve(cls, path: Path, *, prompts: Path) -> Self:
        """Return the file to be written, which is not the one with the prompts. Raises CannotWrite or BadInput."""
        if path.is_dir():
            raise BadInput(f"cannot write {path}: expected a file, got a directory")
        if path.exists() and prompts.exists() and path.samefile(prompts):
            raise BadInput(f"cannot write {path}: expected another file than the one with the prompts")
        partial = path.with_name(path.name + ".partial")
        try:
            while True:
                stream = partial.open("ab", buffering=_BUFFER)
                if _lock(stream, partial):
                    break
                stream.close()
            stream.truncate(0)
        except BlockingIOError:
            stream.close()
            raise BadInput(f"another promptmill is writing {path}; wait for it, or stop it") from None
        except OSError as error:
            raise CannotWrite(f"cannot write {partial}: {error.strerror}") from None
        return cls(path, partial, stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._published:
            self._partial.unlink(missing_ok=True)
        with suppress(OSError):  # what could not be flushed to a full disk is thrown away here
            self._stream.close()

    def write(self, result: Result) -> None:
        """Add the line of a result. Raises CannotWrite."""
        try:
            self._stream.write(answer_line(result))
        except OSError as error:
            raise self._cannot(error) from None

    def publish(self) -> None:
        """Put the file in its place, on the disk and whole; it replaces an older one. Blocks. Raises CannotWrite."""
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._partial.replace(self._path)
        except OSError as error:
            raise self._cannot(error) from None
        self._published = True
        _sync_directory(self._path.absolute().parent)

    def _cannot(self, error: OSError) -> CannotWrite:
        return CannotWrite(
            f"cannot write {self._path}: {error.strerror}; every answer is safe in the result store, "
            "and the same command writes them again"
        )


def _lock(stream: BinaryIO, path: Path) -> bool:
    """Lock the file; False if it was removed meanwhile. Raises BlockingIOError where another process holds the lock."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        # Some network file systems have no locks; writing is still worth while there.
        if error.errno not in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}:
            raise
    try:
        return path.stat().st_ino == os.fstat(stream.fileno()).st_ino
    except FileNotFoundError:
        return False


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        return  # not every file system can; the file's content is on the disk already
    finally:
        os.close(descriptor)
