"""Which ids a file has had so far, and on which line, in some 25 bytes each."""

from __future__ import annotations

from array import array
from typing import Final

_FIRST_SIZE: Final = 1 << 10
_HIGHEST: Final = (1 << 64) - 1


class SeenIds:
    """A hash table that keeps 64 bits of each id instead of the id.

    A million ids in a Python dict take 150 MB, here 25 MB. In a file of a million lines two different ids are taken for
    one with a probability of one in 37 million, and no file can aim at that, since the hash is salted anew in every
    process.
    """

    def __init__(self) -> None:
        self._hashes = array("Q", bytes(8 * _FIRST_SIZE))
        self._lines = array("I", bytes(4 * _FIRST_SIZE))
        self._count = 0

    def add(self, name: str, line: int) -> int | None:
        """Note that `name` stands on `line`, counted from 1; return the line that had it before, if one had."""
        code = (hash(name) & _HIGHEST) or 1
        slot = self._slot(code)
        if self._hashes[slot]:
            return self._lines[slot]
        self._hashes[slot], self._lines[slot] = code, line
        self._count += 1
        if 3 * self._count > 2 * len(self._hashes):
            self._grow()
        return None

    def _slot(self, code: int) -> int:
        mask = len(self._hashes) - 1
        slot = code & mask
        while self._hashes[slot] not in (0, code):
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        hashes, lines = self._hashes, self._lines
        self._hashes = array("Q", bytes(2 * hashes.itemsize * len(hashes)))
        self._lines = array("I", bytes(2 * lines.itemsize * len(lines)))
        for code, line in zip(hashes, lines, strict=True):
            if code:
                slot = self._slot(code)
                self._hashes[slot], self._lines[slot] = code, line
