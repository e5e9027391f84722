"""The instructions on what an answer is to have in it: a word so often, a letter, a title, placeholders, emphasis.

A word may stand here without quotation marks ("use the word war at least 8 times"), where the phrase around it leaves
no doubt that it is one.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from worker.quality.instructions import checks
from worker.quality.instructions.framing import Frame
from worker.quality.instructions.limits import NUMBER, Bounds, number
from worker.quality.instructions.recogniser import QUOTED, Instruction, Quotes, Recogniser, always, quoted, row, rows
from worker.quality.phrases import any_of

_SHOULD = any_of("should, must, has to, needs to, is to, to, will")
_APPEAR = any_of(r"appears?, occurs?, shows? up, be used, be mentioned, be included, be repeated")
_NOT_A_WORD = any_of(
    "above, below, that, which, who, you, your, i, in, from, here, like, such, given, listed, provided, twice, again,"
    r" only, below, following, of, for, to, count, limit, and, or, is, are, as, on, at, with, when, if"
)
_BARE = rf"(?!{_NOT_A_WORD}\b)[a-z][\w'-]{{1,30}}"
_WORD = rf"(?P<word>{QUOTED}|{_BARE})"
_LIST = rf"(?P<words>{_BARE}(?:,\s{_BARE}){{0,20}},?\s(?:and|or|nor)\s{_BARE}|{_BARE}(?:,\s{_BARE}){{1,20}})"
_ENDS = r"(?=\s*(?:[.;!?\n]|$)|\s(?:in|throughout|anywhere|at\sall)\s(?:your|the|this|it|any)|\sin\sit\b)"
_KEYWORDS = r"(?:key)?(?:words?|terms)(?:\s*:)?"
_TIMES = rf"""(?:(?P<limit>at\sleast|more\sthan|less\sthan|fewer\sthan|at\smost|no\smore\sthan|exactly|only)\s)?
              (?:(?P<once>once|twice)|(?P<n>{NUMBER})(?P<plus>\sor\smore)?\stimes?)\b"""
_LEAST = rf"(?:(?:at\sleast|a\sminimum\sof)\s)?(?P<n>{NUMBER})\s"
_IN_CAPITALS = r"(?:with|in|be\sin|written\sin)\sall[\s-](?:capital(?:\sletters|s)|caps|uppercase)"
_PIECES = r"(?:(?:text|key|different)\s)?(?:sections?|parts?|phrases?|passages?|keywords)\b"
_NOT: Final = any_of("do not, don't, must not, mustn't, should not, shouldn't, never, please do not, cannot")
_USE = any_of("use, include, mention, contain, say, incorporate")


def _often(match: re.Match[str]) -> Bounds:
    """Return how often something is to appear; a bare "3 times" is taken for the least that is certain."""
    n = {"once": 1, "twice": 2}.get(match["once"]) or number(match["n"])
    match match["limit"]:
        case "more than":
            return Bounds(n + 1, None)
        case "less than" | "fewer than":
            return Bounds(0, n - 1)
        case "at most" | "no more than":
            return Bounds(0, n)
        case "exactly" | "only":
            return Bounds(n, n)
        case _:
            return Bounds(n, None)


def _frequency(match: re.Match[str], _before: str, quotes: Quotes) -> Instruction:
    found = match["word"]
    (word,) = quoted(found, quotes) or (found,)
    often = _often(match)
    return Instruction("frequency", checks.has_word(word, *often), (word, often))


def _frequency_of_letter(match: re.Match[str], _before: str, quotes: Quotes) -> Instruction | None:
    found = match["letter"]
    (letter,) = quoted(found, quotes) or (found,)
    often = _often(match)
    return Instruction("letter", checks.has_letter(letter, *often), (letter, often)) if len(letter) == 1 else None


def _frequency_of_capitals(match: re.Match[str], _before: str, _quotes: Quotes) -> Instruction:
    often = _often(match)
    return Instruction("capital_words", checks.has_capital_words(*often), often)


def _capital_words(match: re.Match[str], _before: str, _quotes: Quotes) -> Instruction:
    least = Bounds(number(match["n"]) + (1 if match["more"] else 0), None)
    return Instruction("capital_words", checks.has_capital_words(*least), least)


def _words(match: re.Match[str]) -> tuple[str, ...]:
    return tuple(re.split(r",?\s(?:and|or|nor)\s|,\s", match["words"]))


def _include(match: re.Match[str], _before: str, _quotes: Quotes) -> Instruction:
    words = _words(match)
    return Instruction("contains", checks.has_words(words), (words, 1))


def _exclude(match: re.Match[str], _before: str, _quotes: Quotes) -> Instruction:
    words = _words(match)
    return Instruction("excludes", checks.has_no_words(words), words)


def _exclude_one(match: re.Match[str], _before: str, quotes: Quotes) -> Instruction:
    words = quoted(match["word"], quotes) or (match["word"],)
    return Instruction("excludes", checks.has_no_words(words), words)


def _highlights(match: re.Match[str], _before: str, _quotes: Quotes) -> Instruction:
    n = number(match["n"] or match["m"])
    return Instruction("highlights", partial(checks.has_highlights, least=n), n)


def _placeholders(match: re.Match[str], _before: str, _quotes: Quotes) -> Instruction:
    n = number(match["n"])
    return Instruction("placeholders", partial(checks.has_placeholders, least=n), n)


ELEMENTS: tuple[Recogniser, ...] = (
    *rows(
        "frequency", "appear,occur,be used,be mentioned,be included,be repeated,show",
        rf"\bthe\s(?:key)?(?:word|term|phrase)\s{_WORD}\s(?:{_SHOULD}\s)?{_APPEAR}\s{_TIMES}",
        Frame.CLAUSE, _frequency,
    ),
    *rows(
        "frequency", "times,once,twice",
        rf"\b{_USE}\sthe\s(?:key)?(?:word|term|phrase|name)\s{_WORD}\s(?:for\s)?{_TIMES}",
        Frame.CLAUSE, _frequency,
    ),
    row(
        "letter", "letter",
        rf"""\b(?:{_USE}\s)?the\sletter\s(?P<letter>{QUOTED}|[a-z])\s(?:(?:{_SHOULD}\s)?{_APPEAR}\s)?{_TIMES}""",
        Frame.CLAUSE, _frequency_of_letter,
    ),
    *rows(
        "capital_words", "capital,caps,uppercase",
        rf"""\b(?:(?:use\s)?words\s{_IN_CAPITALS}\s(?:(?:should|must)\s)?(?:appear\s)?{_TIMES})""",
        Frame.CLAUSE, _frequency_of_capitals,
    ),
    *rows(
        "capital_words", "capital,caps,uppercase",
        rf"""\b(?:use|include|contain|have)\s(?:(?:at\sleast|(?P<more>more\sthan))\s)?(?P<n>{NUMBER})\swords\s
             {_IN_CAPITALS}\b""",
        Frame.CLAUSE, _capital_words,
    ),
    row(
        "excludes", "not",
        rf"\bthe\s(?:key)?word\s{_WORD}\s(?:should|must|may|can)\s?not\s(?:{_APPEAR}|appear)\b",
        Frame.CLAUSE, _exclude_one,
    ),
    row(
        "excludes", "word",
        rf"\b(?:{_NOT}\s{_USE}|avoid\susing)\s(?:the\s|any\s)?(?:following\s)?{_KEYWORDS}\s{_LIST}{_ENDS}",
        Frame.CLAUSE, _exclude,
    ),
    row(
        "excludes", "the word ", rf"\b(?:{_NOT}\s{_USE}|avoid\susing)\sthe\sword\s{_WORD}{_ENDS}",
        Frame.CLAUSE, _exclude_one,
    ),
    row(
        "contains", "word",
        rf"\b(?:include|use|mention|contain|incorporate)\s(?:the\s)?(?:following\s)?{_KEYWORDS}\s{_LIST}{_ENDS}",
        Frame.CLAUSE, _include,
    ),
    *rows(
        "highlights", "highlight,italic,bold",
        rf"""\b(?:(?:use\s+(?:\w{{2,20}}\s)?to\s)?(?:highlight|bold|italici[sz]e)(?:/bold)?\sat\sleast\s(?P<n>{NUMBER})\s{_PIECES}
               |at\sleast\s(?P<m>{NUMBER})\s{_PIECES}\s(?:should|must)\sbe\s(?:highlighted|bold|italicized))""",
        Frame.CLAUSE, _highlights,
    ),
    row(
        "title", "double angular brackets",
        r"""\b(?:contain|have|include|add|give|provide|use)\sa\stitle,?\s(?:(?:that|which)\sis\s)?
            (?:wrapped\s|contained\s|enclosed\s)?(?:in|with|by|inside)\sdouble\sangular\sbrackets""",
        Frame.CLAUSE, always("title", checks.has_title),
    ),
    row(
        "placeholders", "placeholder", rf"\b(?:contain|include|have|use)\s{_LEAST}placeholders?\b",
        Frame.CLAUSE, _placeholders,
    ),
    row(
        "postscript", "postscript", r"\b(?:explicitly\s)?(?:add|include|write|append)\sa\spostscript\b",
        Frame.CLAUSE, always("postscript", checks.has_postscript),
    ),
)  # fmt: skip
