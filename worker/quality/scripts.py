"""Letters of a script that has no business in an answer: the stray Thai and Chinese of a corrupted sampler."""

# ruff: noqa: RUF001 - letters and marks of many scripts are the data of this module
from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from worker.quality.phrases import any_of, compiled
from worker.quality.reading import Reading

_OWN_SHARE: Final = 0.1
"""An answer with more than this share of its letters in a script is written in it, or about it."""
_REQUEST_CHARS: Final = 100_000
_REQUEST_PARTS: Final = 10_000

# Kana belongs to Han, full-width marks to both: Japanese mixes them. Currency signs are left out, as is whatever has
# no letters: emoji, arrows, mathematics, box drawing.
_RANGES: Mapping[str, str] = {
    "han": r"\u2e80-\u2fdf\u3001\u3002\u3005-\u3007\u3041-\u30fa\u30fc-\u312f\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff"
    r"\uff01-\uff5e\uff66-\uff9f\U00020000-\U0003134f",
    "hangul": r"\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3",
    "cyrillic": r"\u0400-\u052f\u1c80-\u1c88\ua640-\ua69f",
    "greek": r"\u0370-\u03ff\u1f00-\u1ffe",
    "arabic": r"\u0600-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdfb\ufe70-\ufefc",
    "hebrew": r"\u0591-\u05f4\ufb1d-\ufb4f",
    "indic": r"\u0900-\u09f1\u0a00-\u0ae5\u0b01-\u0bf8\u0c00-\u0df4",
    "thai": r"\u0e01-\u0e3a\u0e40-\u0e5b",
    "lao": r"\u0e81-\u0edf",
    "tibetan": r"\u0f00-\u0fda",
    "burmese": r"\u1000-\u109f",
    "khmer": r"\u1780-\u17da\u17dc-\u17f9",
    "georgian": r"\u10a0-\u10ff\u1c90-\u1cbf\u2d00-\u2d25",
    "armenian": r"\u0531-\u058a",
    "ethiopic": r"\u1200-\u1399",
    "mongolian": r"\u1800-\u18aa",
}
_LETTERS = "".join(_RANGES.values())
_ANY = re.compile(f"[{_LETTERS}]")
_SCRIPT = re.compile("|".join(f"(?P<{name}>[{ranges}])" for name, ranges in _RANGES.items()))
_GREEK_IN_FORMULAS: Final = 2

_NAMES: Mapping[str, re.Pattern[str]] = {
    script: compiled(rf"\b{any_of(beginnings)}")
    for script, beginnings in {
        "han": "china, chinese, mandarin, cantones, hanzi, pinyin, japan, kanji, hiragana, katakana, kana, taiwan,"
        " tokyo, kyoto, beijing, hong kong, ideogra, cjk, korea, feng shui",
        "hangul": "korea, hangul, seoul",
        "cyrillic": "russia, cyrillic, ukrain, bulgaria, serbia, belarus, macedonia, kazakh, mongol, slavic, soviet,"
        " moscow, kyiv",
        "greek": "greek, greece, athen, septuagint, testament, etymolog",
        "arabic": "arab, persia, farsi, iran, urdu, pakistan, quran, qur'an, islam, muslim, pashto, egypt, kurd,"
        " uyghur",
        "hebrew": "hebrew, israel, jewish, yiddish, torah, bibl, testament, talmud",
        "indic": "hindi, hindu, sanskrit, india, nepal, devanagari, tamil, telugu, bengal, bangla, punjab, gujarat,"
        " marathi, kannada, malayalam, sinhal, sri lanka, buddh, vedic, yoga, urdu",
        "thai": "thai, bangkok",
        "lao": "lao, laos, laotian",
        "tibetan": "tibet, bhutan, buddh",
        "burmese": "burm, myanmar",
        "khmer": "khmer, cambodia",
        "georgian": "georgia, tbilisi",
        "armenian": "armenia",
        "ethiopic": "ethiopi, amharic, tigrinya, eritrea, ge'ez",
        "mongolian": "mongol",
    }.items()
}
"""The languages and countries that are written so, by how their words begin."""
_ALSO: Mapping[str, frozenset[str]] = {"hangul": frozenset({"han"})}
"""Scripts that are at home in texts of another."""

_OPENING = frozenset("\"'“‘«‹„「『《〈(（[［【{*_`|>")
_CLOSING = frozenset('"”»›」』》〉)）]］】}*_`|<')
_INTRODUCING = (":", "：", "=", "→", "–", "—", " -", "\n-", "•", "|", "≈")
_GLOSSED = (" (", "(", "（", " =", " –", " —", " -", ":", " [", " →", " /")


def stray_script(answer: Reading, request: Mapping[str, Any]) -> bool:
    """Whether letters turn up in the prose that are of another script than answer and request.

    Sees: one letter is enough, of any script but Latin, and full-width punctuation. At home are the scripts of a
    tenth of the answer's letters or more, and those of the request. Foreign words are let pass where a writer shows
    them: in quotation marks, brackets, emphasis, inline code or a table, on a line of their own, after a colon or
    dash, before a gloss ("你好 (hello)"); and wherever answer or request speaks of the language or a country that
    writes so. Letters stuck to a word of the answer's own script ("the 系统is") never pass then.
    Leaves out: code blocks, emoji, mathematical and currency signs, up to two Greek letters together.
    Cannot see: stray words in Latin script or in a script that is at home, and those that happen to stand where a
    foreign word would. A foreign word that a writer drops in unmarked is taken for stray.
    """
    prose = answer.prose
    if prose.isascii() or not _ANY.search(prose):
        return False
    prose = _beyond_inline_code(prose)
    found = _ANY.findall(prose)
    scripts = {_script_of(letter) for letter in set(found)}
    if not scripts or (len(scripts) == 1 and len(found) > len(prose) * _OWN_SHARE):
        return False
    counts = Counter(map(_script_of, found))
    letters = sum(map(str.isalpha, prose))
    at_home = {script for script, count in counts.items() if count > letters * _OWN_SHARE}
    at_home |= {other for script in at_home for other in _ALSO.get(script, ())}
    if scripts <= at_home:
        return False
    asked = "".join(_texts(request))
    at_home |= {_script_of(letter) for letter in set(_ANY.findall(asked))}
    if scripts <= at_home:
        return False
    said = f"{asked} {prose}".lower().replace("’", "'")
    strangers = frozenset(scripts - at_home)
    spoken_of = {script for script in strangers if _NAMES[script].search(said)}
    return any(_is_stray(prose, run, spoken_of) for run in _runs_of(strangers).finditer(prose))


@lru_cache(maxsize=256)
def _runs_of(scripts: frozenset[str]) -> re.Pattern[str]:
    letters = "".join(_RANGES[script] for script in sorted(scripts))
    return re.compile(rf"[{letters}]{{1,2000}}(?:[ \d,.;:!?·…'’-]{{1,3}}[{letters}]{{1,2000}}){{0,200}}")


def _is_stray(prose: str, run: re.Match[str], spoken_of: set[str]) -> bool:
    start, end = run.span()
    letters = _ANY.findall(run[0])
    scripts = {_script_of(letter) for letter in letters}
    if scripts == {"greek"} and len(letters) <= _GREEK_IN_FORMULAS:
        return False
    before, after = prose[max(0, start - 3) : start], prose[end : end + 3]
    if before[-1:] in _OPENING or after[:1] in _CLOSING:
        return False
    if before[-1:].isalpha() or after[:1].isalpha():
        return True
    if before.rstrip(" ").endswith(_INTRODUCING) or after.startswith(_GLOSSED) or _is_alone(prose, start, end):
        return False
    return not scripts <= spoken_of


def _is_alone(prose: str, start: int, end: int) -> bool:
    """Whether nothing else stands on the line but a list mark before it, or marks after it."""
    line_start, line_end = prose.rfind("\n", 0, start) + 1, prose.find("\n", end, end + 40)
    around = prose[max(line_start, start - 40) : start] + prose[end : line_end if line_end >= 0 else end + 40]
    return not any(map(str.isalpha, around))


def _beyond_inline_code(prose: str) -> str:
    return re.sub(r"`[^`\n]{1,200}`", "``", prose) if "`" in prose else prose


@lru_cache(maxsize=4096)
def _script_of(letter: str) -> str:
    found = _SCRIPT.match(letter)
    return str(found.lastgroup) if found else ""


def _texts(request: Mapping[str, Any]) -> Iterator[str]:
    """Yield the strings in the prompt, up to a bound."""
    left = _REQUEST_CHARS
    waiting: list[Any] = [request.get("messages"), request.get("system")]
    for _ in range(_REQUEST_PARTS):
        if not waiting or left <= 0:
            return
        part = waiting.pop()
        if isinstance(part, str):
            yield part[:left]
            left -= len(part)
        elif isinstance(part, Mapping):
            waiting += list(part.values())[:_REQUEST_PARTS]
        elif isinstance(part, list):
            waiting += part[-_REQUEST_PARTS:]
