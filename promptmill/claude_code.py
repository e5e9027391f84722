"""Text on its way into Claude Code, without the words that make it reason at length.

Claude Code reads a prompt for keywords before the model does. Up to version 1 "think", "think hard", "think about it"
and a dozen more each bought a budget of up to 31,999 tokens; later versions react to "ultrathink" and "ultracode". An
answer that is handed on as a prompt must not do so by accident: "I think the bug is in ..." is no request.

    sanitize_for_claude_code("I think it works").text  ->  "I believe it works"

Rewritten are whole English words in prose. Untouched: code (fenced, indented, inline), whatever is a part of something
longer (`thinking_budget`, `iThink`, `think.py`, `think/act`, `--think`, `<thinking>`, `think-tank`, links, addresses),
and "thought", "rethink" and the like, to which no version is known to react. Other languages, whose words version 1
knew too, are not rewritten.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from promptmill.code_spans import Span, code_spans, is_within
from promptmill.errors import BadInput

_STRONG: Final = ("hard", "deeply", "intensely", "a lot", "very hard", "really hard", "super hard", "really super hard")

NEUTRAL: Final[Mapping[str, str]] = {
    "ultrathink": "analyze",
    "megathink": "analyze",
    "ultracode": "thoroughness",
    "think": "reason",
    "thinks": "believes",
    "thinking": "reasoning",
    "thoughts": "ideas",
    "think about": "consider",
    "thinks about": "considers",
    "thinking about": "considering",
    "think of": "consider",
    "thinks of": "considers",
    "thinking of": "considering",
    "think through": "work through",
    "thinks through": "works through",
    "thinking through": "working through",
    "think so": "believe so",
    "think that": "believe that",
    "think more": "look further",
    "think more about": "further consider",
    "think harder": "look more closely",
    "think harder about": "more closely consider",
    "think longer": "take more time",
    "think longer about": "further consider",
    **{f"think {strong}": "look closely" for strong in _STRONG},
    **{f"think {strong} about": "closely consider" for strong in _STRONG},
}
"""Trigger to what stands in its place, the longest first where several fit. No replacement holds a trigger."""

_AFTER_A_VIEW_HOLDER: Final = "believe"
"""For "think" after I, you, not and the like: what follows is what somebody holds to be true."""

_HEADS: Final = sorted({trigger.split(" ")[0] for trigger in NEUTRAL}, key=len, reverse=True)
# ASCII: Claude Code's own word boundaries are, so a trigger counts between Chinese characters too.
_HEAD: Final = re.compile(rf"\b(?:{'|'.join(_HEADS)})\b", re.ASCII | re.IGNORECASE)


def _tails(head: str) -> re.Pattern[str] | None:
    tails = [trigger.removeprefix(f"{head} ") for trigger in NEUTRAL if trigger.startswith(f"{head} ")]
    words = "|".join(tail.replace(" ", r"[ \t]+") for tail in sorted(tails, key=len, reverse=True))
    return re.compile(rf"[ \t]+(?:{words})\b", re.ASCII | re.IGNORECASE) if tails else None


_TAILS: Final = {head: _tails(head) for head in _HEADS}
_VIEW_HOLDER: Final = re.compile(
    r"(?:\b(?:i|we|you|they|people|not|also|still|really)|n['\u2019]t)[ \t]{1,4}\Z", re.IGNORECASE
)
_VIEW_HOLDER_CHARS: Final = 12

_LINK: Final = re.compile(r"\b(?:[a-z][a-z0-9+.-]{0,20}://|www\.|mailto:)[^\s<>\"`]++", re.IGNORECASE)

# What holds a name together. Letters of scripts that put no spaces between words do not, nor do dashes and dots in
# rows, which part sentences; marks that are written over a letter belong to it. (Not possessive: Python 3.11.2 goes on
# past what the group refuses.)
_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
_GLUE: Final = re.compile(rf"(?:(?![{_UNSPACED}])[\w./\\@:+#$%&=~<>{{}}\u0300-\u036f\u00ad\u200c\u200d-])*")
_GLUE_CHARS: Final = 64
_ROW: Final = ("--", "..")


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One place that was changed. Positions count characters (code points) from the beginning of the text."""

    old_start: int
    new_start: int
    old: str
    new: str

    def to_line(self) -> dict[str, Any]:
        """Return the fields as they stand in an answer line."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Sanitized:
    """A text for Claude Code, and everything that was changed in it, in order."""

    text: str
    rewrites: tuple[Rewrite, ...]


def sanitize_for_claude_code(text: str) -> Sanitized:
    """Return `text` without trigger words, their letter case kept, and what was changed.

    Takes time in proportion to the text. Done again it changes nothing; `restore` undoes it exactly.
    """
    parts: list[str] = []
    rewrites: list[Rewrite] = []
    written = position = 0
    for start, end in _triggers(text):
        old = text[start:end]
        new = _in_case_of(old, _neutral(text, start, old))
        parts += (text[position:start], new)
        rewrites.append(Rewrite(start, written + start - position, old, new))
        written += start - position + len(new)
        position = end
    return Sanitized("".join([*parts, text[position:]]), tuple(rewrites))


def restore(text: str, rewrites: Iterable[Rewrite]) -> str:
    """Return the text that `sanitize_for_claude_code` was given.

    Raises BadInput where `text` is not the one that it returned.
    """
    parts: list[str] = []
    position = 0
    for rewrite in rewrites:
        end = rewrite.new_start + len(rewrite.new)
        found = text[rewrite.new_start : end]
        if rewrite.new_start < position or found != rewrite.new:
            raise BadInput(
                f"restore: expected {rewrite.new!r} at character {rewrite.new_start}, got {found!r}; "
                "the text was changed after it was sanitized"
            )
        parts += (text[position : rewrite.new_start], rewrite.old)
        position = end
    return "".join([*parts, text[position:]])


def _triggers(text: str) -> Iterator[Span]:
    """Yield where each trigger begins and ends, the longest that fits."""
    code: list[Span] | None = None
    links: list[Span] = []
    position = 0
    while head := _HEAD.search(text, position):
        if code is None:
            code, links = code_spans(text), [link.span() for link in _LINK.finditer(text)]
        start, position = head.span()
        if is_within(code, start) or is_within(links, start) or _is_glued(text[max(0, start - _GLUE_CHARS) : start]):
            continue
        tails = _TAILS[head[0].lower()]
        tail = tails.match(text, position) if tails else None
        for end in (tail.end() if tail else position, position):
            if not _leads_on(text[end : end + _GLUE_CHARS]):
                yield start, end
                position = end
                break


def _is_glued(before: str) -> bool:
    """Whether the word that follows is the end of something longer."""
    glue = before[len(before) - _GLUE.match(before[::-1]).end() :]  # type: ignore[union-attr]  # matches the empty text
    parts_sentences = glue.endswith(_ROW) and (not glue.endswith("--") or bool(glue.strip("-")))
    return bool(glue) and not parts_sentences


def _leads_on(after: str) -> bool:
    """Whether the word before it is the beginning of something longer."""
    glue = _GLUE.match(after)[0]  # type: ignore[index]  # matches the empty text
    return after.startswith("(") or (not glue.startswith(_ROW) and bool(glue.rstrip(".:-")))


def _neutral(text: str, start: int, old: str) -> str:
    trigger = " ".join(old.lower().split())
    if trigger == "think" and _VIEW_HOLDER.search(text[max(0, start - _VIEW_HOLDER_CHARS) : start]):
        return _AFTER_A_VIEW_HOLDER
    return NEUTRAL[trigger]


def _in_case_of(old: str, new: str) -> str:
    """Return `new` in the letter case of `old`, word by word; its last word tells for those beyond it."""
    models = old.split()
    words = new.split(" ")
    return " ".join(_like(models[min(place, len(models) - 1)], word) for place, word in enumerate(words))


def _like(model: str, word: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word
