"""Where the code stands in a Markdown text: fenced blocks, indented blocks, and spans between backticks.

Not a parser of Markdown, but linear for any text. Where the two readings are possible, as for deep indentation that may
belong to a list, it follows CommonMark.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

Span = tuple[int, int]

_LINE: Final = re.compile(r"[^\n]*+\n?")
_QUOTE: Final = re.compile(r"(?:[ ]{0,3}>[ ]?)*")
_FENCE: Final = re.compile(r"(?P<mark>`{3,}+|~{3,}+)(?P<info>[^\n]*)")
_ITEM: Final = re.compile(r"(?:[-*+]|\d{1,9}[.)])(?=[ \t]|$)", re.MULTILINE)
_HEADING: Final = re.compile(r"#{1,6}[ \t]")
_BACKTICKS: Final = re.compile(r"`++")

_CODE_INDENT: Final = 4


def code_spans(text: str) -> list[Span]:
    """Return (start, end) of each piece of code with its marks, in order; a fence that nobody closed ends the text."""
    if "`" not in text and "~~~" not in text and "    " not in text and "\t" not in text:
        return []
    reading = _Reading(text)
    for line in _LINE.finditer(text):
        if line.end() > line.start():
            reading.read(line.start(), line.end())
    return reading.finish()


def is_within(spans: list[Span], position: int) -> bool:
    """Whether `position` lies in one of `spans`, which are in order and do not overlap."""
    place = bisect_right(spans, position, key=lambda span: span[0]) - 1
    return place >= 0 and position < spans[place][1]


@dataclass(slots=True)
class _Reading:
    """What is known of the lines read so far."""

    text: str
    spans: list[Span] = field(default_factory=list)
    fence: str = ""
    """The mark that opened the block which the next line is in."""
    opened_at: int = 0
    paragraph_at: int | None = None
    """Where the prose began in which backticks may find each other."""
    after_blank: bool = True
    in_indented: bool = False
    items: list[int] = field(default_factory=list)
    """Columns at which the list items begin that the next line may belong to, the outermost first."""

    def read(self, start: int, end: int) -> None:
        content_at = _QUOTE.match(self.text, start, end).end()  # type: ignore[union-attr]  # matches the empty text too
        content = self.text[content_at:end]
        bare = content.lstrip(" \t")
        if self.fence:
            self._read_in_fence(bare, end)
        elif not bare.strip():
            self._end_paragraph(start)
            self.after_blank = True
        elif mark := _FENCE.match(bare):
            self._read_fence_or_prose(mark, start)
        else:
            self._read_indented_or_prose(bare, len(content) - len(bare), content, start, end)

    def finish(self) -> list[Span]:
        self._end_paragraph(len(self.text))
        if self.fence:
            self.spans.append((self.opened_at, len(self.text)))
        return self.spans

    def _read_in_fence(self, bare: str, end: int) -> None:
        mark = bare.rstrip()
        if mark and len(mark) >= len(self.fence) and not mark.strip(self.fence[0]):
            self.spans.append((self.opened_at, end))
            self.fence, self.after_blank = "", True

    def _read_fence_or_prose(self, mark: re.Match[str], start: int) -> None:
        self.in_indented = False
        if mark["mark"][0] == "`" and "`" in mark["info"]:  # ```code``` within a line
            self._begin_paragraph(start)
            return
        self._end_paragraph(start)
        self.fence, self.opened_at = mark["mark"], start

    def _read_indented_or_prose(self, bare: str, spaces: int, content: str, start: int, end: int) -> None:
        indent = len(content[:spaces].expandtabs(_CODE_INDENT))
        item = _ITEM.match(bare)
        if item or self.after_blank:
            while self.items and indent < self.items[-1]:
                self.items.pop()
        base = self.items[-1] if self.items else 0
        if indent >= base + _CODE_INDENT and (self.after_blank or self.in_indented):
            self._end_paragraph(start)
            self.spans.append((start, end))
            self.in_indented, self.after_blank = True, False
            return
        self.in_indented = self.after_blank = False
        if item or _HEADING.match(bare):
            self._end_paragraph(start)
        if item:
            self.items.append(indent + item.end() + 1)
        self._begin_paragraph(start)

    def _begin_paragraph(self, start: int) -> None:
        self.after_blank = False
        if self.paragraph_at is None:
            self.paragraph_at = start

    def _end_paragraph(self, end: int) -> None:
        if self.paragraph_at is not None:
            self.spans += _inline(self.text, self.paragraph_at, end)
            self.paragraph_at = None


def _inline(text: str, start: int, end: int) -> list[Span]:
    """Return the spans between backticks: as many close it as opened it. Those without a partner are prose."""
    runs = [(run.start(), run.end()) for run in _BACKTICKS.finditer(text, start, end)]
    partner: dict[int, int] = {}
    by_length: dict[int, list[int]] = {}
    for number, (begin, stop) in enumerate(runs):
        by_length.setdefault(stop - begin, []).append(number)
    for numbers in by_length.values():
        partner.update(pairwise(numbers))
    spans, number = [], 0
    while number < len(runs):
        begin = runs[number][0]
        is_escaped = begin > start and text[begin - 1] == "\\"
        if not is_escaped and number in partner:
            number = partner[number]
            spans.append((begin, runs[number][1]))
        number += 1
    return spans
