"""How much an answer leaves open."""

from __future__ import annotations

from typing import Final

from worker.quality.reading import Reading

_MIN_WORDS: Final = 20
_WORDS: Final = frozenset({
    "may", "might", "could", "perhaps", "possibly", "probably", "likely", "unlikely", "presumably", "maybe", "arguably",
    "generally", "typically", "usually", "somewhat", "seems", "seem", "seemingly", "apparently", "supposedly",
    "roughly", "depends", "varies",
})  # fmt: skip
_PHRASES: Final = {  # by a word of theirs
    "appears": ("appears to",),
    "appear": ("appear to",),
    "suggests": ("suggests that",),
    "suggest": ("suggest that",),
    "tends": ("tends to",),
    "tend": ("tend to",),
    "depending": ("depending on",),
    "vary": ("can vary",),
    "cases": ("in some cases", "in many cases", "in most cases"),
    "extent": ("to some extent",),
    "less": ("more or less",),
    "think": ("i think",),
    "believe": ("i believe",),
    "guess": ("i guess",),
    "suppose": ("i suppose",),
    "sure": ("i'm not sure", "i am not sure"),
    "certain": ("i'm not certain", "i am not certain"),
    "clear": ("not entirely clear", "not clear whether"),
    "far": ("as far as i",),
    "knowledge": ("to my knowledge",),
    "know": ("i don't know", "i do not know"),
    "access": ("i don't have access", "i do not have access"),
    "ai": ("as an ai",),
    "say": ("hard to say", "difficult to say"),
    "guarantee": ("can't guarantee", "cannot guarantee", "no guarantee"),
    "consult": ("consult a", "consult with", "consult your"),
}


def hedging(answer: Reading) -> float | None:
    """Return how many phrases of doubt there are in 100 words; None below 20 words.

    Sees: some sixty English ones ("might", "perhaps", "it depends", "I'm not sure", "consult a ...") in the last 4,000
    characters. A plain explanation has 0 to 2. Cannot see: other languages (0 there), doubt in other words, "may" apart
    from May, whether a word is quoted, and whether the doubt is justified.
    """
    words = answer.last_words
    if len(words) < _MIN_WORDS:
        return None
    different = set(words)
    doubts = sum(map(words.count, _WORDS & different))
    if keys := _PHRASES.keys() & different:
        folded = answer.end.casefold().replace("\u2019", "'")
        doubts += sum(folded.count(phrase) for key in keys for phrase in _PHRASES[key])
    return 100 * doubts / len(words)
