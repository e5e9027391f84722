"""How close an answer comes to a known good one."""

from __future__ import annotations

from rapidfuzz.distance import Indel

from worker.quality.reading import Reading, tokens

COMPARED_TOKENS = 4_000
"""Comparing takes time in proportion to the product of both lengths; this bounds it to about half a millisecond."""
_COMPARED_CHARS = 4_000


def similarity(answer: Reading, expected: str) -> float:
    """Return on 0..1 how much of both texts is one common sequence of words (the F1 of ROUGE-L).

    Twice the longest common subsequence over the sum of both lengths, in words without case and punctuation. 1 means
    the same words in the same order; unrelated English texts come out at 0.1 to 0.3.

    Sees: wording, order, omissions and additions, in the first 4,000 words of each text. Cannot see: meaning (a
    paraphrase scores low, a missing "not" scores high), spelling variants (another spelling is another word),
    punctuation and layout. Where the expected answer has no word at all, such as "{}", characters are compared.
    """
    theirs = tokens(expected, limit=COMPARED_TOKENS)
    if not theirs:
        return float(
            Indel.normalized_similarity(answer.text[:_COMPARED_CHARS].strip(), expected[:_COMPARED_CHARS].strip())
        )
    return float(Indel.normalized_similarity(tokens(answer.text, limit=COMPARED_TOKENS), theirs))
