"""Plausible English about the words of a prompt: enough for quality metrics to have something to measure."""

import re
from random import Random

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]{3,}")
_CODE_OR_MARKER = re.compile(r"\[\[.*?\]\]|https?://\S+")
# fmt: off
_STOP_WORDS = frozenset({
    "about", "above", "after", "again", "against", "also", "answer", "because", "been", "before", "being", "below",
    "between", "both", "bullet", "bullets", "cannot", "could", "dear", "describe", "does", "doing", "down", "during",
    "each", "exactly", "explain", "fewer", "following", "from", "function", "further", "give", "have", "having",
    "here", "include", "into", "itself", "json", "just", "keys", "label", "least", "less", "like", "limit", "list",
    "make", "many", "mention", "more", "most", "much", "must", "named", "need", "note", "only", "other", "over",
    "paragraph", "phrase", "please", "points", "provide", "python", "reply", "respond", "return", "said", "same",
    "sentence", "sentences", "short", "should", "simply", "some", "such", "tell", "text", "than", "thank", "that",
    "their", "them", "then", "there", "these", "they", "this", "those", "through", "under", "until", "upon", "very",
    "want", "well", "were", "what", "when", "where", "which", "while", "will", "with", "within", "word", "words",
    "would", "write", "your", "yours",
})
# fmt: on
_FALLBACK_TOPICS = ("question", "matter", "context", "detail", "result")
_READ_CHARS = 4_000
"""Only the beginning and the end of a long prompt are read: a prompt of 30 MB must not stop the server."""

_SENTENCES = (
    "The role of {a} becomes clear once {b} is taken into account.",
    "In practice, {a} and {b} depend on each other more than most people expect.",
    "A closer look at {a} shows why {b} matters.",
    "Many teams begin with {a} and come to {b} only later.",
    "What makes {a} useful is the way it limits {b}.",
    "Over time, {a} has changed how people think about {b}.",
    "There are good reasons to treat {a} with care, and {b} is one of them.",
    "Without {a}, the case for {b} would be hard to make.",
    "One example is {a}, where {b} decides the outcome.",
    "It helps to separate {a} from {b} and to look at each on its own.",
    "The cost of {a} is easy to measure, while the value of {b} is not.",
    "Early work on {a} paid little attention to {b}.",
    "Several sources agree that {a} improves with better {b}.",
    "For most readers, {a} is the natural place to start.",
    "The main risk lies in {a}, because {b} hides the first signs of trouble.",
    "When {a} is done well, {b} follows almost by itself.",
    "Most of the debate concerns {a} rather than {b}.",
    "A small change in {a} can have a large effect on {b}.",
    "That is why {a} deserves more attention than it usually gets.",
    "Taken together, {a} and {b} explain most of what we see.",
    "The history of {a} is, to a large degree, a history of {b}.",
    "Anyone who works on {a} will sooner or later run into {b}.",
)


def gist(text: str) -> str:
    """Return the part of a prompt that is read for topics and instructions."""
    if len(text) > 2 * _READ_CHARS:
        text = f"{text[:_READ_CHARS]}\n{text[-_READ_CHARS:]}"
    return _CODE_OR_MARKER.sub(" ", text)


def topics_of(text: str, most: int = 24) -> tuple[str, ...]:
    """Return words of the prompt worth writing about, in their order; a few general ones if there are none."""
    found: dict[str, None] = {}
    for match in _WORD.finditer(text):
        word = match.group().lower().strip("'-")
        if word not in _STOP_WORDS:
            found[word] = None
            if len(found) == most:
                break
    return tuple(found) if len(found) > 1 else (*found, *_FALLBACK_TOPICS)


def sentence(rng: Random, topics: tuple[str, ...]) -> str:
    """Write one sentence about two different topics."""
    first = rng.randrange(len(topics))
    second = (first + 1 + rng.randrange(len(topics) - 1)) % len(topics)
    text = rng.choice(_SENTENCES).format(a=topics[first], b=topics[second])
    return text[0].upper() + text[1:]


def paragraphs(rng: Random, topics: tuple[str, ...], chars: int) -> str:
    """Write whole sentences of about `chars` characters together, in paragraphs of four or five."""
    written: list[str] = []
    length = 0
    while not written or length < chars:
        separator = "" if not written else "\n\n" if len(written) % 5 == 4 else " "
        written.append(separator + sentence(rng, topics))
        length += len(written[-1])
    return "".join(written)


def within_words(text: str, most: int) -> str:
    """Cut at the last whole sentence of at most `most` words, or in the first sentence where that is longer."""
    words = text.split()
    if len(words) <= most:
        return text
    kept = words[:most]
    ends = [index for index, word in enumerate(kept) if word.endswith(".")]
    return " ".join(kept[: ends[-1] + 1]) if ends else " ".join(kept).rstrip(",;:") + "."
