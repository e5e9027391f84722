"""How much an answer repeats itself.

Both scores fall with length and are taken of the end of an answer, so that long answers stay comparable.
"""

from __future__ import annotations

import zlib
from typing import Final

from worker.quality.reading import Reading

_MIN_BYTES: Final = 200
_MIN_TRIGRAMS: Final = 20


def distinct_trigrams(answer: Reading) -> float | None:
    """Return the share of different ones among all runs of three words; None below 20 runs.

    1 is a text that never uses three words in a row twice; ordinary prose has above 0.9, lists of like items less.
    Sees: the last 4,000 characters, words without case and punctuation. Cannot see: repetition in other words, and
    whether it was asked for (a refrain, a table).
    """
    words = answer.last_words
    count = len(words) - 2
    if count < _MIN_TRIGRAMS:
        return None
    return len(set(zip(words, words[1:], words[2:], strict=False))) / count


def compression(answer: Reading) -> float | None:
    """Return the size after compression as a share of the size before (at most 1); None below 200 bytes.

    Low is repetitive: ordinary prose of 2,000 characters comes to 0.5, a loop to less than 0.1.
    Sees: the last 4,000 characters, also repetition below the level of words and in code. Cannot see: repetition in
    other words. Falls with length, so compare answers to the same kind of prompt.
    """
    data = answer.end.encode("utf-8", "replace")
    if len(data) < _MIN_BYTES:
        return None
    return min(1.0, len(zlib.compress(data, 1)) / len(data))
