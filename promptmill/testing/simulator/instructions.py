"""What a prompt asks for, as far as a few patterns can see: length, format, exact words.

The simulator obeys these so that a pipeline's expectations are met when the "model" is healthy, and visibly
missed when a degraded mode is on.
"""

import re
from dataclasses import dataclass

_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "ten": 10}
_MOST = 2_000
"""Of words, sentences or bullets: a prompt must not make the simulator write for minutes."""
_NUMBER = rf"(\d{{1,9}}|{'|'.join(_NUMBERS)})"
_AT_MOST = (
    r"(?:at most|no more than|not more than|fewer than|less than|under|below|within|up to|max(?:imum)?(?: of)?"
    r"|exactly|about|around|roughly|in|to)"
)
_QUOTED = r'["“`]([^"”`\n]+)["”`]'

_MAX_WORDS = re.compile(
    rf"{_AT_MOST}\s+(\d{{1,9}})\s+words|(\d{{1,9}})\s+words\s+(?:or\s+(?:less|fewer)|at\s+most|max)", re.IGNORECASE
)
_SENTENCES = re.compile(rf"{_AT_MOST}\s+{_NUMBER}\s+(?:short\s+)?sentences?", re.IGNORECASE)
_BULLETS = re.compile(rf"{_NUMBER}\s+(?:short\s+)?bullet", re.IGNORECASE)
_JSON_KEYS = re.compile(r"\b(?:keys?|fields?|properties)\b(?:\s+named|\s+called)?:?\s+([^.\n;]+)", re.IGNORECASE)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_CODE_NOUNS = ("function", "script", "program", "code", "snippet", "class", "query")
_CODE = re.compile(
    rf"\b(?:write|give|show|implement|create|provide|generate)\b[^.\n]{{0,80}}\b(?:{'|'.join(_CODE_NOUNS)})\b",
    re.IGNORECASE,
)
_LANGUAGE = re.compile(r"\b(python|javascript|sql|bash|shell)\b", re.IGNORECASE)
_CHOICES = re.compile(r"\bone of(?: the following)?(?:\s+\w+)?\s*:\s*([^.\n]+)", re.IGNORECASE)
_ANSWER_VERBS = ("reply", "respond", "answer", "say")
_EXACTLY = re.compile(
    rf"\b(?:{'|'.join(_ANSWER_VERBS)})\s+(?:with\s+)?(?:exactly|only|just)\b[^:\"“`\n]*:?\s*"
    rf"(?:{_QUOTED}|(?<=:\s)(\S[^\n]*))",
    re.IGNORECASE,
)
_MENTION = re.compile(
    rf"\b(?:mention|include|contain|use)s?\s+(?:the\s+)?(?:words?|phrases?|terms?|names?)?\s*{_QUOTED}", re.IGNORECASE
)
_SUM = re.compile(r"\bwhat is (\d{1,9})\s*([-+*x])\s*(\d{1,9})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was asked for; None or empty where nothing was."""

    exact: str | None = None
    """The whole answer."""
    choices: tuple[str, ...] = ()
    """The answer is one of these."""
    max_words: int | None = None
    sentences: int | None = None
    bullets: int | None = None
    json: bool = False
    json_keys: tuple[str, ...] = ()
    code: str | None = None
    """Language of the code block asked for."""
    mentions: tuple[str, ...] = ()
    """Phrases that must occur."""


def read_wishes(text: str) -> Wishes:
    """Find the instructions in a prompt."""
    present = text.lower()  # a plain word is found ten times faster than a pattern is not
    wants_json = "json" in present
    return Wishes(
        exact=_exact(text, present),
        choices=_choices(text) if "one of" in present else (),
        max_words=_number(_MAX_WORDS.search(text)) if "words" in present else None,
        sentences=_number(_SENTENCES.search(text)) if "sentence" in present else None,
        bullets=_number(_BULLETS.search(text)) if "bullet" in present else None,
        json=wants_json,
        json_keys=_json_keys(text) if wants_json else (),
        code=_code(text) if any(noun in present for noun in _CODE_NOUNS) else None,
        mentions=tuple(match.group(1) for match in _MENTION.finditer(text)),
    )


def _number(match: re.Match[str] | None) -> int | None:
    if match is None:
        return None
    word = next(group for group in match.groups() if group is not None).lower()
    return min(max(int(_NUMBERS.get(word) or word), 1), _MOST)


def _exact(text: str, present: str) -> str | None:
    if "what is " in present and (match := _SUM.search(text)):
        left, operator, right = int(match.group(1)), match.group(2), int(match.group(3))
        return str(left + right if operator == "+" else left - right if operator == "-" else left * right)
    if any(verb in present for verb in _ANSWER_VERBS) and (match := _EXACTLY.search(text)):
        return (match.group(1) or match.group(2)).strip()
    return None


def _choices(text: str) -> tuple[str, ...]:
    match = _CHOICES.search(text)
    if match is None:
        return ()
    parts = re.split(r"\s*[,/|]\s*|\s+or\s+", match.group(1))
    return tuple(part for raw in parts if (part := raw.removeprefix("or ").strip(" \"'“”`")))


def _json_keys(text: str) -> tuple[str, ...]:
    match = _JSON_KEYS.search(text)
    if match is None:
        return ()
    quoted = re.findall(r"[\"'“`](\w+)[\"'”`]", match.group(1))
    words = quoted or [
        found.group() for part in re.split(r",|\band\b", match.group(1)) if (found := _IDENTIFIER.search(part))
    ]
    return tuple(dict.fromkeys(words))


def _code(text: str) -> str | None:
    if _CODE.search(text) is None:
        return None
    language = _LANGUAGE.search(text)
    return "python" if language is None else language.group(1).lower().replace("shell", "bash")
