"""Limits on length: "at most 50 words", "in three sentences", "100-150 words", "exactly 5 bullet points"."""

from __future__ import annotations

import re
from typing import NamedTuple

from worker.quality.instructions import checks
from worker.quality.phrases import any_of, compiled

_SMALL_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_NUMBERS = {word: number for number, word in enumerate(_SMALL_NUMBERS)} | {
    "a single": 1, "single": 1, "twenty-five": 25, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60,
    "seventy": 70, "seventy-five": 75, "eighty": 80, "ninety": 90, "a hundred": 100, "one hundred": 100,
    "one hundred and fifty": 150, "two hundred": 200, "three hundred": 300, "five hundred": 500, "a thousand": 1000,
}  # fmt: skip
_LONGEST_FIRST = ",".join(sorted(_NUMBERS, key=len, reverse=True))
NUMBER = rf"(?:\d{{1,3}}(?:,\d{{3}}){{1,2}}|\d{{1,6}}|{any_of(_LONGEST_FIRST)})(?![\w,.]*\d)"

_NOT_MORE = (
    any_of("do not, don't, must not, mustn't, should not, shouldn't, may not, cannot, can't, never")
    + r"\s(?:use|write|exceed|be|go|give|have|contain)(?:\s(?:more|longer|over|beyond|above)(?:\sthan)?)?"
)
_UPPER = (
    rf"(?:{_NOT_MORE}|"
    + any_of("no more than, no longer than, not more than, at most, up to, within, not exceed, not exceeding")
    + r"|(?:(?:a|the)\s)?max(?:imum)?(?:\s(?:length|limit))?(?:\sof)?:?)"
)
_UNDER = any_of("fewer than, less than, under, below, shorter than")
_LOWER = (
    "(?:"
    + any_of("at least, no fewer than, no less than, not fewer than, not less than")
    + r"|(?:(?:a|the)\s)?min(?:imum)?(?:\slength)?(?:\sof)?:?)"
)
_OVER = any_of("more than, longer than")
_VAGUELY = any_of(
    r"about, around, roughly, approximately, approx\.?, circa, nearly, almost, some, every, another, the first,"
    " the last, the next, first, last"
)
_UNIT = any_of(
    r"words?, sentences?, paragraphs?, bullet(?:ed)?[ -](?:points?|items?), bullets, characters?".replace(
        "[ -]", r"[\s-]"
    )
)
_ADJECTIVE = any_of("short, concise, brief, simple, clear, complete, full, english, separate, plain, distinct")
_AFTERWARDS = any_of("or less, or fewer, or more, maximum, max, at most, minimum, min, at least, exactly, tops")

COUNT = compiled(
    rf"""(?=[\w~≈])(?!\B\w)  # at the beginning of a word or at a tilde: elsewhere no alternative needs to be tried
        (?:\b(?:(?P<vaguely>{_VAGUELY})|(?P<upper>{_UPPER})|(?P<under>{_UNDER})|(?P<lower>{_LOWER})|(?P<over>{_OVER})
              |(?P<exactly>exactly|precisely)|(?P<between>between))\s+|(?P<tilde>[~≈]\s?))?
        (?<![\w.,$-])(?P<n>{NUMBER})(?P<plus>\+)?(?:\s?(?:-|–|to|and)\s?(?P<m>{NUMBER}))?
        (?:\s(?P<mid>or\s(?:more|less|fewer)))?(?:\s|-(?=\w))(?:{_ADJECTIVE}\s){{0,2}}(?P<unit>{_UNIT})\b(?:\s(?P<post>{_AFTERWARDS})\b)?
    """  # noqa: RUF001
)
_CAPS = compiled(
    r"(?:\b(?:limit|limited|restrict|restricted|keep|kept|cap|capped|confine|confined)\b[^.;]{0,60}\b(?:to|at)"
    r"|\b(?:limit|max(?:imum)?|maximum\slength|length\slimit|word\slimit)\s*[:=])\s*$"
)
_GIVES_FORM = compiled(
    r"\b(?:in|using|with|as|into|to|(?:write|give|provide|list)(?:\s(?:me|us))?|use|be|contains?|have|has)\s*$"
)
_OPENS = compiled(r"(?:^|[(,:])\s*$")
_SEVERAL = r"(?:\d+|" + any_of(",".join(_SMALL_NUMBERS[2:])) + "|several|multiple|some|few)"


def _holder(units: str) -> re.Pattern[str]:
    """Return what finds several things that a limit may hold for each of: "three bullets of at most ten words"."""
    plural = any_of(units)
    return compiled(rf"\b{_SEVERAL}\s(?:\w+\s)?{plural}\b|\b{plural}(?:\s\w+)?\s*$")


_HOLDERS = {
    "words": _holder("sentences, paragraphs, bullets, bullet points?, lines, points, items, entries, steps, sections"),
    "sentences": _holder("paragraphs, bullets, bullet points?, items, entries, sections, points"),
    "characters": _holder("sentences, paragraphs, bullets, bullet points?, lines, points, items, entries, words"),
    "paragraphs": _holder("sections, chapters"),
    "bullets": _holder("sections, paragraphs, chapters"),
}


class Bounds(NamedTuple):
    """The least and the greatest count allowed, ends included; `high` None where there is no upper limit."""

    low: int
    high: int | None


_ONE_WORD = frozenset({"1", "one", "single", "a single"})


def unit_of(found: re.Match[str]) -> str:
    """Return what is counted: words, sentences, paragraphs, bullets or characters."""
    unit: str = found["unit"]
    return "bullets" if unit.startswith("bullet") else unit.rstrip("s") + "s"


def bounds(found: re.Match[str], before: str) -> Bounds | None:
    """Return the limit, or None where the phrase sets no certain one.

    A bare "50 words" is not certain ("about fifty" is what most people mean by it); a bare "three sentences" is,
    where it says which form the answer has ("in three sentences").
    """
    unit = unit_of(found)
    if found["vaguely"] or found["tilde"] or _HOLDERS[unit].search(before):
        return None
    n = number(found["n"])
    post = found["mid"] or found["post"]
    if found["m"]:
        m = number(found["m"])
        said = found["between"] or _GIVES_FORM.search(before) or _OPENS.search(before)
        limit = Bounds(n, m) if said and n <= m else None
    elif found["upper"] or post in {"or less", "or fewer", "max", "maximum", "at most", "tops"} or _CAPS.search(before):
        limit = Bounds(0, n)
    elif found["under"]:
        limit = Bounds(0, n - 1)
    elif found["lower"] or found["plus"] or post in {"or more", "min", "minimum", "at least"}:
        limit = Bounds(n, None)
    elif found["over"]:
        limit = Bounds(n + 1, None)
    elif found["exactly"] or post == "exactly":
        limit = Bounds(n, n)
    else:
        bare_is_certain = unit in {"sentences", "paragraphs", "bullets"} or found["n"] in _ONE_WORD
        limit = Bounds(n, n) if bare_is_certain and n <= 20 and _GIVES_FORM.search(before) else None
    return limit


def name_of(unit: str, limit: Bounds) -> str:
    """Return the instruction's name, such as `max_words`."""
    low, high = limit
    if high is None:
        return f"min_{unit}"
    if low == high:
        return f"exact_{unit}"
    return f"max_{unit}" if low == 0 else f"between_{unit}"


def check_of(unit: str, limit: Bounds) -> checks.Check:
    """Return what verifies the limit."""
    return checks.bullets_between(*limit) if unit == "bullets" else checks.count_between(unit, *limit)


def number(text: str) -> int:
    """Return the number that `NUMBER` found."""
    word = " ".join(text.split())
    return _NUMBERS[word] if word in _NUMBERS else int(word.replace(",", ""))
