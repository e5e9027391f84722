"""How close an answer comes to a known good one."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

from rapidfuzz.distance import Indel

from worker.quality.reading import Reading, tokens

_COMPARED_WORDS = 4_000
"""As many as `Reading.first_words` has. Comparing takes time in proportion to the product of both lengths; this bounds
it to about half a millisecond."""
_COMPARED_CHARS = 4_000


def similarity(answer: Reading, expected: str) -> float:
    """Return on 0..1 how much of both texts is one common sequence of words (the F1 of ROUGE-L).

    Twice the longest common subsequence over the sum of both lengths, in words without case and punctuation. 1 means
    the same words in the same order; unrelated English texts come out at 0.1 to 0.3.

    Sees: wording, order, omissions and additions, in the first 4,000 words of each text. Cannot see: meaning (a
    paraphrase scores low, a missing "not" scores high), spelling variants (another spelling is another word),
    punctuation and layout. Where the expected answer has no word at all, such as "{}", characters are compared. For
    meaning, add embeddings as a plug-in.
    """
    theirs = _words(expected)
    if not theirs:
        return _by_character(answer, expected)
    return float(Indel.normalized_similarity(answer.first_words, theirs))


def token_f1(answer: Reading, expected: str) -> float:
    """Return on 0..1 how many words both texts share, in any order (the F1 of the two bags of words).

    Sees: the same words as `similarity`, so that the two together tell a text that says other things (both fall) from
    one that says the same in another order (only `similarity` falls). Cannot see: order, and whatever that one cannot.
    """
    theirs = _words(expected)
    if not theirs:
        return _by_character(answer, expected)
    ours = answer.first_words
    shared = Counter(ours) & Counter(theirs)
    return 2 * shared.total() / (len(ours) + len(theirs))


def _by_character(answer: Reading, expected: str) -> float:
    return float(Indel.normalized_similarity(answer.text[:_COMPARED_CHARS].strip(), expected[:_COMPARED_CHARS].strip()))


@lru_cache(maxsize=64)
def _words(expected: str) -> tuple[str, ...]:
    """Return the words of a known answer; canaries and whole runs are compared with the same few again and again."""
    return tuple(tokens(expected, limit=_COMPARED_WORDS))
