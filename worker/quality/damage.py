"""Signs of a text that was damaged on its way out of the model."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from worker.quality.reading import Reading

_WHOLE: Final = "end_turn"
_DAMAGED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffd\ud800-\udfff\ufdd0-\ufdef\uffff]"
    "|\u00e2(?:\u0080|\u20ac)[\u0080-\u00bf\u2122\u0153\u201c\u201d\u2018\u2019\u02dc\u0161]|\u00c3[\u00a1-\u00aa\u00ac-\u00ba\u00bc-\u00bf]"
    "|\u00ef\u00bb\u00bf|\u00f0\u0178"
)
_CONTROLS = bytes([*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])
_SPECIAL_TOKEN = re.compile(r"<\|[a-z][a-z_]{1,30}\|>|\[/?INST\]|</?s>(?=\s|\Z)")
_INLINE_CODE = re.compile(r"`[^`\n]{1,200}`")
_TWICE = {word: f" {word} {word} " for word in ("the", "a", "an", "of", "to", "and", "for", "with", "from")}


def broken_text(answer: Reading, stop_reason: str | None) -> bool:
    r"""Whether the text shows damage that no writer does.

    Sees: replacement and control characters, lone surrogates, UTF-8 read as something else, and a code block never
    closed in an answer that ended by itself; outside code also the tokens that frame a model's turns ("<|end|>",
    "[INST]"), line breaks written out as "\n\n", and a little word twice in a row ("the the").
    Cannot see: bad grammar, a word in the wrong place, half sentences, and damage inside code (see `code_parses`). A
    text about such signs that does not show them as code is taken for damaged.
    """
    text, prose = answer.scanned, answer.prose
    if _has_controls(text) if text.isascii() else _DAMAGED.search(text):
        return True
    if stop_reason == _WHOLE and any(not fence.closed for fence in answer.fences):
        return True
    if "<" in prose or "[" in prose or "\\n" in prose:
        plain = _INLINE_CODE.sub("", prose)
        if _SPECIAL_TOKEN.search(plain) or ("\\n\\n" in plain and not plain.lstrip().startswith(("{", "[", '"'))):
            return True
    # Nearly every text has none of them, so the words themselves need seldom be gone through.
    return any(said in prose and (word, word) in pairwise(answer.last_words) for word, said in _TWICE.items())


def _has_controls(text: str) -> bool:
    return len(text.encode().translate(None, _CONTROLS)) < len(text)
