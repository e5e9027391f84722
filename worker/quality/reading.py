"""An answer taken apart once, for all metrics: each view is derived when first asked for, then kept."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, Final

import orjson

from worker.quality import language, markdown

SCANNED_CHARS: Final = 32_000
"""Views other than length, JSON and the ends of the text stop here: it bounds what a hostile answer can cost. At four
characters a token this is the whole of any answer below 8,000 tokens."""
_END_CHARS: Final = 4_000
_FIRST_WORDS: Final = 4_000
_JSON_CHARS: Final = 1_000_000


class NotJson:
    """The type of `NOT_JSON`, which is apart from None because `null` is JSON."""


NOT_JSON: Final = NotJson()

_IDEOGRAPH = re.compile(r"[\u3041-\u30fa\u3400-\u9fff\uf900-\ufaff]")
_ASCII_MARKS = bytes(code for code in range(128) if not chr(code).isalnum() and not chr(code).isspace())
"""For `bytes.translate`, which deletes them: what is left between spaces then is a word."""
_SPACED = bytes(code if chr(code).isalnum() else 0x20 for code in range(128)) + bytes(range(128, 256))
"""For `bytes.translate`, which puts a space wherever no word goes on; several times as fast as searching for words."""
_WORD_OR_IDEOGRAPH = re.compile(
    r"[\u3041-\u30fa\u3400-\u9fff\uf900-\ufaff]|[^\W_][^\s\u3041-\u30fa\u3400-\u9fff\uf900-\ufaff]*"
)
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_FEW = 300
"""Characters beyond ASCII in English with its dashes, quotation marks and a name or two."""
_TOKEN = re.compile(r"[^\W_]+")
_TOKEN_OR_IDEOGRAPH = re.compile(
    r"[\u3041-\u30fa\u3400-\u9fff\uf900-\ufaff]|[^\W_\u3041-\u30fa\u3400-\u9fff\uf900-\ufaff]+"
)

_BLOCK_BREAK = re.compile(r"\n(?:(?=[ \t]*(?:\n|[-*+•‣◦][ \t]|\d{1,3}[.)][ \t]|\#{1,6}[ ]|\|))|(?<=\n\n))")
_LIST_MARK = re.compile(r"\s*(?:[-*+•‣◦]|\d{1,3}[.)])[ \t]+")
_SENTENCE_END = re.compile(
    r"""[.!?…。！？](?:(?<=[。！？])|(?<![.!?…].)[.!?…]*+["'”’»)\]*_]*+(?=\s++(?P<next>\S)|\s*+\Z))"""  # noqa: RUF001
)
_ABBREVIATIONS = frozenset({
    "mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "vs", "etc", "e.g", "i.e", "cf", "ca", "approx", "fig", "vol",
    "pp", "inc", "ltd", "co", "dept", "est", "z.b", "d.h", "u.a", "bzw", "p.ex", "p.ej",
})  # fmt: skip


def count_words(text: str) -> int:
    """Count runs of non-space characters that hold a letter or digit; each ideograph or kana counts by itself.

    Beyond `SCANNED_CHARS` any run of non-space characters counts. Thai, Lao and Khmer do not space their words: a
    phrase counts as one there.
    """
    head, rest = text[:SCANNED_CHARS], text[SCANNED_CHARS:]
    if head.isascii():
        words = head.encode().translate(None, _ASCII_MARKS).decode().split()
    elif _IDEOGRAPH.search(head):
        words = _WORD_OR_IDEOGRAPH.findall(head)
    else:
        words = [word for word in head.split() if word[0].isalnum() or any(map(str.isalnum, word))]
    return len(words) + len(rest.split())


def tokens(text: str, *, limit: int) -> list[str]:
    """Return at most `limit` words without case and punctuation, each ideograph or kana by itself."""
    # No word is shorter than a character, so this much text always yields enough where there is enough.
    folded = text[:SCANNED_CHARS].casefold()
    if not folded.isascii():
        beyond = _BEYOND_ASCII.findall(folded)
        ideographs = _IDEOGRAPH.search("".join(beyond))
        if ideographs or len(beyond) > _FEW:
            return (_TOKEN_OR_IDEOGRAPH if ideographs else _TOKEN).findall(folded)[:limit]
        for mark in {letter for letter in beyond if not letter.isalnum()}:
            folded = folded.replace(mark, " ")
    return folded.encode().translate(_SPACED).decode().split()[:limit]


class Reading:
    """One answer's text and what was derived from it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.scanned = text[:SCANNED_CHARS]
        """The text, at most `SCANNED_CHARS` of it."""

    @cached_property
    def end(self) -> str:
        """The last 4,000 characters: the whole of most answers, and where a model that fell into a loop still is."""
        return self.text[-_END_CHARS:]

    @cached_property
    def first_words(self) -> list[str]:
        """At most 4,000 words from the beginning, as `tokens` returns them."""
        return self.last_words if self.end == self.text else tokens(self.text, limit=_FIRST_WORDS)

    @cached_property
    def last_words(self) -> list[str]:
        """The words of `end`, as `tokens` returns them."""
        return tokens(self.end, limit=_END_CHARS)

    @cached_property
    def folded(self) -> str:
        """The whole text without letter case."""
        return self.text.casefold()

    @cached_property
    def fences(self) -> tuple[markdown.Fence, ...]:
        """The fenced code blocks."""
        return markdown.find_fences(self.scanned)

    @cached_property
    def prose(self) -> str:
        """The text without its fenced code blocks."""
        return markdown.without(self.scanned, self.fences)

    @cached_property
    def lists(self) -> markdown.Lists:
        """How many list items there are."""
        return markdown.count_lists(self.prose)

    @cached_property
    def characters(self) -> int:
        """Code points, white space at the ends left out: what a limit on characters speaks of."""
        return len(self.text.strip())

    @cached_property
    def words(self) -> int:
        """See `count_words`."""
        return count_words(self.text)

    @cached_property
    def paragraphs(self) -> int:
        """Blocks between empty lines; headings, rules ("***") and code left out."""
        blocks = re.split(r"\n[ \t]*\n", self.prose)
        return sum(1 for block in blocks if any(map(str.isalnum, block)) and not block.lstrip().startswith("#"))

    @cached_property
    def sentences(self) -> int:
        """Sentences of the prose.

        An item or paragraph that ends without a mark counts as one; headings and table rows do not count. Full stops
        of common abbreviations, initials and numbers end nothing.
        """
        return sum(_count_sentences(block) for block in _BLOCK_BREAK.split(self.prose) if block)

    @cached_property
    def json(self) -> Any:
        """The whole text parsed as JSON, or `NOT_JSON`."""
        return _parse(self.text)

    @cached_property
    def json_unwrapped(self) -> Any:
        """As `json`, but one code block around the whole answer is allowed."""
        if self.json is NOT_JSON and len(self.fences) == 1 and not self.prose.strip():
            return _parse(self.fences[0].code)
        return self.json

    @cached_property
    def language(self) -> str | None:
        """See `worker.quality.language`."""
        return language.detect(self.prose)


def _parse(text: str) -> Any:
    if len(text) > _JSON_CHARS:
        return NOT_JSON
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # lone surrogates and nesting beyond 1,024 levels end here too
        return NOT_JSON


def _count_sentences(block: str) -> int:
    mark = _LIST_MARK.match(block)
    body = block[mark.end() if mark else 0 :].strip()
    if not body or body.startswith(("#", "|")) or not any(map(str.isalnum, body)):
        return 0
    count = 0
    end = 0
    for stop in _SENTENCE_END.finditer(body):
        following = stop["next"]
        if following is not None and following.islower():
            continue
        if body[stop.start()] == "." and _is_abbreviated(body, stop.start()):
            continue
        count += 1
        end = stop.end()
    return count + (1 if any(map(str.isalnum, body[end:])) else 0)


def _is_abbreviated(body: str, stop: int) -> bool:
    before = body[max(0, stop - 12) : stop].rsplit(maxsplit=1)
    if not before or body[stop - 1].isspace():
        return False
    word = before[-1].lstrip("(\"'“‘«")  # noqa: RUF001
    return word.lower() in _ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word.isupper() and word != "I")
