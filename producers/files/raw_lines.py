"""The lines of a file as bytes, counted and hashed on the way, however long or broken they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from promptmill.errors import BadInput

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""Longer lines are not read into memory. The Messages API takes 32 MB; JSON's escapes at most double usual text."""

_BOM: Final = b"\xef\xbb\xbf"
_OTHER_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")


class RawLines:
    """Iterates over the lines of `stream` once. `digest` then tells the content of the whole file."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._hash = hashlib.blake2b(digest_size=32)
        self.count = 0
        """Lines so far; after a line was yielded, its number counted from 1."""
        self.bytes_read = 0

    def __iter__(self) -> Iterator[bytes | None]:
        """Yield each line with its end, without a byte-order mark; None for a line over MAX_LINE_BYTES.

        Raises BadInput for another encoding than UTF-8, where the first bytes show it.
        """
        while line := self._stream.readline(MAX_LINE_BYTES + 1):
            self._take(line)
            self.count += 1
            if self.count == 1:
                if line.startswith(_OTHER_BOMS):
                    raise BadInput("expected UTF-8, got UTF-16; save the file as UTF-8")
                line = line.removeprefix(_BOM)
            if len(line) > MAX_LINE_BYTES:
                self._skip_rest(line)
                yield None
            else:
                yield line

    def digest(self) -> bytes:
        """Return BLAKE2b of all bytes read so far, 32 bytes."""
        return self._hash.digest()

    def _take(self, data: bytes) -> None:
        self._hash.update(data)
        self.bytes_read += len(data)

    def _skip_rest(self, line: bytes) -> None:
        while line and not line.endswith(b"\n"):
            line = self._stream.readline(1024 * 1024)
            self._take(line)
