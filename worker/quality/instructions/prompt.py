"""What a request itself tells the model to do: its own words, without what it quotes or hands over to be worked on.

A limit inside a quotation, a code block or a pasted document is not an instruction. Everything here errs on the side
of leaving text out: an instruction that is missed costs a little knowledge, one that is imagined a false alarm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from worker.quality.markdown import cut_from_lines, find_fences, without
from worker.quality.phrases import compiled, lowered

WINDOW_CHARS: Final = 4_000
"""Of a longer text only so much of its beginning and of its end is read: people put instructions there."""

QUOTE: Final = "\ue000{}\ue001"
"""Stands for a quotation; the number is its place in `Visible.quotes`."""

_BLANK_LINES = re.compile(r"\n[ \t]*\n")
_PRIVATE_USE = re.compile(r"[\ue000\ue001]")
_TAG = re.compile(r"<(?P<close>/?)(?P<name>[A-Za-z][\w.:-]{0,40})(?:\s[^<>\n]{0,200})?>")
_INSTRUCTION_TAGS = frozenset({
    "instructions", "instruction", "rules", "rule", "task", "guidelines", "guideline", "constraints", "constraint",
    "requirements", "requirement", "format", "output_format", "output-format", "response_format", "formatting",
    "system", "prompt", "role", "style", "tone", "important",
})  # fmt: skip
_BLOCK_QUOTE = re.compile(r"\n[ \t]*>[^\n]*")
# Each begins with its mark and looks back from behind it: a search then skips from mark to mark.
_QUOTED = re.compile(
    r'"""(?:[^"]|"(?!"")){1,4000}"""'
    r'|"(?<![\w"]")(?=\S)(?P<double>[^"]{1,2000})(?<=\S)"(?!\w)'
    r"|“(?P<curly>[^“”]{1,2000})”|«(?P<angle>[^«»]{1,2000})»|„(?P<low>[^„“”]{1,2000})[“”]"
    r"|`(?<![\w`]`)(?P<code>[^`\n]{1,300})`(?!`)"
    r"|'(?<![\w']')(?=\S)(?P<single>[^'\n]{1,300})(?<=\S)'(?!\w)"
    r"|‘(?P<curly_single>[^‘’\n]{1,300})’(?!\w)"  # noqa: RUF001
)
_QUOTE_MARKS = "\"“«„`'‘"  # noqa: RUF001
_SPEAKER = re.compile(
    r"[ \t]*(?:Q|A|User|Human|Assistant|AI|Bot|Customer|Agent|Input|Output|Example(?: \d{1,2})?|Sample|Answer \d)"
    r"[ \t]*:",
    re.IGNORECASE,
)
_COLON_AT_END = re.compile(r":[ \t]*$", re.MULTILINE)
_HANDS_OVER = compiled(
    r"""\b(?:following|below|this|these|my|the|here\ is|here's|here\ are)\b
      | \b(?:text|article|passage|document|docstring|code|email|e-mail|message|transcript|review|comment|story|poem
          |context|content|data|input|excerpt|abstract|module|function|class|snippet|log|paragraph|essay|letter
          |report|notes?|conversation|chapter|page|readme|source):$"""
)
_ANNOUNCES_RULES = compiled(
    r"\b(?:rules?|instructions?|requirements?|guidelines?|constraints?|format|criteria|steps|conditions|points|ways?"
    r"|answer|response|reply|output|remember|note|important|limits?)\b[^\n]{0,60}:\s*$"
)


@dataclass(frozen=True, slots=True)
class Visible:
    """What a text says in its own voice."""

    text: str
    """With each quotation replaced by its number, and everything handed over left out."""
    quotes: tuple[str, ...]
    after_handing_over: str
    """The last paragraph after a document: only what plainly speaks of the answer is believed there."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The parts of a request that can hold instructions; each is empty where there is none."""

    system: str
    user: str
    """Text blocks of the last message of the user that has any."""
    prefill: str
    """How the answer begins, where the request itself has begun it."""


def asked(request: Mapping[str, Any]) -> Asked:
    """Read a Messages API request of any shape; what is not text is passed over."""
    messages = request.get("messages")
    turns = [turn for turn in messages if isinstance(turn, Mapping)] if isinstance(messages, list) else []
    user = next((text for turn in reversed(turns) if turn.get("role") == "user" and (text := _clipped_text(turn))), "")
    prefill = _text(turns[-1].get("content")) if turns and turns[-1].get("role") == "assistant" else ""
    return Asked(system=clip(_text(request.get("system"))), user=user, prefill=prefill[:WINDOW_CHARS])


def _clipped_text(turn: Mapping[str, Any]) -> str:
    return clip(_text(turn.get("content")))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (block.get("text") for block in content if isinstance(block, Mapping) and block.get("type") == "text")
    return "\n\n".join(text for text in texts if isinstance(text, str))


def clip(text: str) -> str:
    """Return the text, or the beginning and the end of a long one, cut where paragraphs are."""
    if len(text) <= 2 * WINDOW_CHARS:
        return text
    tail = text[-WINDOW_CHARS:]
    first = _BLANK_LINES.search(tail)
    # Without a paragraph's start the tail begins in the middle of something, nobody knows of what.
    tail = tail[first.end() :] if first else ""
    # Whatever the tail only closes was opened in the part that is not read, and belongs to it.
    for mark in ("```", "~~~"):
        if tail.count(mark) % 2:
            tail = tail[tail.rfind(mark) + len(mark) :]
    return f"{text[:WINDOW_CHARS]}\n\n{_after_unopened_tags(tail)}"


def _after_unopened_tags(text: str) -> str:
    depth: dict[str, int] = {}
    start = 0
    for tag in _TAG.finditer(text):
        name = tag["name"].lower()
        if not tag["close"]:
            depth[name] = depth.get(name, 0) + 1
        elif depth.get(name, 0) > 0:
            depth[name] -= 1
        else:
            start = tag.end()
    return text[start:]


def visible(text: str) -> Visible:
    """Take out of a text what it quotes, shows or hands over."""
    if not text.isascii():
        text = _PRIVATE_USE.sub(" ", text)
    text = without(text, find_fences(text))
    if "<" in text:
        text = _without_elements(text)
    if ">" in text:
        text = cut_from_lines(_BLOCK_QUOTE, text)
    quotes: list[str] = []

    def keep(match: re.Match[str]) -> str:
        quotes.append(match[match.lastindex] if match.lastindex else "")
        return QUOTE.format(len(quotes) - 1)

    if any(mark in text for mark in _QUOTE_MARKS):
        text = _QUOTED.sub(keep, text)
    if ":" in text:
        lines = text.split("\n")
        text = "\n".join("" if ":" in line and _SPEAKER.match(line) else line for line in lines)
        for colon in _COLON_AT_END.finditer(text):
            line = lowered(text[text.rfind("\n", 0, colon.start()) + 1 : colon.start() + 1])
            rest = text[colon.end() :].strip()
            if rest and _HANDS_OVER.search(line) and not _ANNOUNCES_RULES.search(line):
                last = _BLANK_LINES.split(rest)[-1]
                return Visible(text[: colon.end()], tuple(quotes), last if last != rest else "")
    return Visible(text, tuple(quotes), "")


def _without_elements(text: str) -> str:
    """Leave out what stands between `<tag>` and `</tag>`, unless the tag's name says that it holds instructions."""
    open_tags: list[tuple[str, int]] = []
    spans: list[tuple[int, int]] = []
    for tag in _TAG.finditer(text):
        name = tag["name"].lower()
        if name in _INSTRUCTION_TAGS:
            spans.append(tag.span())
        elif not tag["close"]:
            open_tags.append((name, tag.start()))
        elif any(name == opened for opened, _ in open_tags[-20:]):
            # Tags that were opened inside and never closed were text, such as `List<int>`.
            while open_tags[-1][0] != name:
                open_tags.pop()
            spans.append((open_tags.pop()[1], tag.end()))
    kept: list[str] = []
    position = 0
    for start, end in sorted(spans):
        if end <= position:
            continue
        kept.append(text[position : max(position, start)])
        position = end
    kept.append(text[position:])
    return "\n\n".join(kept)
