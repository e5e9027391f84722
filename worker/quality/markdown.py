"""The marks of Markdown that the metrics look for. Not a parser: what renders the same may be written otherwise."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Every pattern of this package runs on texts that nobody checked: runs of one kind of character are matched
# possessively (`++`) or bounded, so that no text makes a search take more than a small multiple of its length.
_FENCE = re.compile(r"\n[ \t>]{0,12}(?P<mark>`{3,}+|~{3,}+)(?P<info>[^\n`]{0,80})$", re.MULTILINE)
_LIST_ITEM = re.compile(
    r"^(?P<indent>[ \t]*+)(?:(?P<bullet>[-*+•‣◦])|(?P<number>\d{1,3}[.)]))[ \t]++(?![-* \t]+$)(?=\S)", re.MULTILINE
)
_TABLE_RULE = re.compile(r"^[ \t]*+\|?[ \t]*+:?-{3,}+:?[ \t]*+\|[-:| \t]*+$", re.MULTILINE)
_MARKUP = re.compile(
    r"""^[ ]{0,3}\#{1,6}[ ]\S        # a heading
      | \*\*[^*\s][^*\n]{0,400}\*\*  # bold
      | \[[^\[\]\n]{1,200}\]\(\S       # a link
    """,
    re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced code block."""

    start: int
    end: int
    language: str
    """The first word after the opening fence, in lower case; often empty."""
    code: str
    closed: bool
    """False where the text ends first, as it does in an answer that was cut."""


@dataclass(frozen=True, slots=True)
class Lists:
    """How many items the outermost lists of a text have, all lists together."""

    bullets: int
    numbers: int


def find_fences(text: str) -> tuple[Fence, ...]:
    """Find fenced code blocks (``` or ~~~). Code that is only indented is not seen: lists are indented too."""
    if "```" not in text and "~~~" not in text:
        return ()
    found: list[Fence] = []
    opening: re.Match[str] | None = None
    # As in `cut_from_lines`. With one more character before the text, a match starts where its line does in the text,
    # and ends one later.
    for line in _FENCE.finditer(f"\n{text}"):
        if opening is None:
            opening = line
        elif (
            line["mark"][0] == opening["mark"][0]
            and len(line["mark"]) >= len(opening["mark"])
            and not line["info"].strip()
        ):
            found.append(_fence(text, opening, line.start(), line.end() - 1, closed=True))
            opening = None
    if opening is not None:
        found.append(_fence(text, opening, len(text), len(text), closed=False))
    return tuple(found)


def _fence(text: str, opening: re.Match[str], code_end: int, end: int, *, closed: bool) -> Fence:
    info = opening["info"].split()
    code = text[opening.end() : code_end]
    return Fence(opening.start(), end, info[0].lower() if info else "", code, closed)


def without(text: str, fences: tuple[Fence, ...]) -> str:
    """Return the text with each code block replaced by an empty line."""
    if not fences:
        return text
    kept: list[str] = []
    position = 0
    for fence in fences:
        kept.append(text[position : fence.start])
        position = fence.end
    kept.append(text[position:])
    return "\n\n".join(kept)


def cut_from_lines(beginning: re.Pattern[str], text: str) -> str:
    """Cut what the pattern finds out of the lines of a text.

    The pattern begins with the line break before a line, not with `^`: a search skips from line break to line break.
    """
    return beginning.sub("\n", f"\n{text}")[1:]


def count_lists(prose: str) -> Lists:
    """Count list items of the outermost level; what is nested below them belongs to them."""
    items = [(len(item["indent"].expandtabs(4)), item["bullet"] is not None) for item in _LIST_ITEM.finditer(prose)]
    bullets = [indent for indent, is_bullet in items if is_bullet]
    numbers = [indent for indent, is_bullet in items if not is_bullet]
    return Lists(_outermost(bullets), _outermost(numbers))


def _outermost(indents: list[int]) -> int:
    # One space of slack: models indent the items of one list unevenly by that much.
    limit = min(indents, default=0) + 1
    return sum(indent <= limit for indent in indents)


def has_table(prose: str) -> bool:
    """Whether there is the rule under a table's head, which no table can do without."""
    return "---" in prose and _TABLE_RULE.search(prose) is not None


def has_markup(prose: str) -> bool:
    """Whether there is a heading, bold text, a link or a table. Plain dashes and numbers are text as well."""
    return _MARKUP.search(prose) is not None or has_table(prose)
