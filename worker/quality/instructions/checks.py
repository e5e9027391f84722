"""What can be verified of an answer, as functions of its `Reading`: True, False, None where it cannot be told."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from worker.quality.markdown import has_markup, has_table
from worker.quality.reading import NOT_JSON, Reading

Check = Callable[[Reading], bool | None]

_SEARCH_BUDGET_CHARS = 20_000_000
"""Of all texts searched for: bounds the time that thousands of required words can take in a long answer."""
_POSTSCRIPT_CHARS = 8_000
_EMPHASIS = re.compile(
    r"\*{1,3}(?<!\w\*)(?=[^\s*])[^*\n]{1,500}(?<=\S)\*{1,3}|_{1,2}(?<!\w_)(?=[^\s_])[^_\n]{1,500}(?<=\S)_{1,2}(?!\w)"
)
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]{1,80}\](?![(\[:])")
_TITLE = re.compile(r"<<[^<>\n]{1,300}>>")
_POSTSCRIPT = re.compile(r"^[\W_]{0,10}p\.?\s?(?:p\.?\s?)?s\b", re.IGNORECASE | re.MULTILINE)
_WRAPPING = " \t\r\n\"'“”‘’*_`#>"  # noqa: RUF001
_CLOSING = _WRAPPING + ".!"


def count_between(unit: str, low: int, high: int | None) -> Check:
    """Verify that the count of `unit`, a property of `Reading`, is within low..high, ends included."""

    def check(answer: Reading) -> bool:
        count: int = getattr(answer, unit)
        return low <= count and (high is None or count <= high)

    return check


def bullets_between(low: int, high: int | None) -> Check:
    """Verify the number of bullets; numbered items count where there are no bullets."""

    def check(answer: Reading) -> bool:
        count = answer.lists.bullets or answer.lists.numbers
        return low <= count and (high is None or count <= high)

    return check


def is_json(answer: Reading, *, kind: type | None = None, code_block_allowed: bool = False) -> bool:
    """Whether the whole answer parses as JSON, of the kind asked for (`dict` or `list`)."""
    value = answer.json_unwrapped if code_block_allowed else answer.json
    return value is not NOT_JSON and (kind is None or isinstance(value, kind))


def holds_json(answer: Reading) -> bool:
    """Whether the answer is JSON, or has a code block that is."""
    if answer.json_unwrapped is not NOT_JSON:
        return True
    return any(Reading(fence.code).json is not NOT_JSON for fence in answer.fences[:10] if fence.code.strip())


def has_code_block(answer: Reading) -> bool:
    """Whether there is a fenced code block that was closed."""
    return any(fence.closed and fence.code.strip() for fence in answer.fences)


def has_no_code_block(answer: Reading) -> bool:
    """Whether there is no fenced code block."""
    return not answer.fences


def is_plain_text(answer: Reading) -> bool:
    """Whether there is no code block, heading, bold text, link or table; dashes before items are plain text."""
    return not answer.fences and not has_markup(answer.prose)


def is_markdown(answer: Reading) -> bool:
    """Whether there is a mark of Markdown: code block, heading, bold text, link, table or list."""
    return not is_plain_text(answer) or answer.lists.bullets + answer.lists.numbers > 0


def has_bullets(answer: Reading) -> bool:
    """Whether there is an item with a bullet."""
    return answer.lists.bullets > 0


def has_numbered_list(answer: Reading) -> bool:
    """Whether there is a numbered item."""
    return answer.lists.numbers > 0


def has_no_list(answer: Reading) -> bool:
    """Whether there is no item with a bullet or number."""
    return answer.lists.bullets + answer.lists.numbers == 0


def shows_table(answer: Reading) -> bool:
    """Whether there is a Markdown table."""
    return has_table(answer.prose)


def is_in(code: str) -> Check:
    """Verify that the answer is in this language (ISO 639-1); None where its language cannot be told."""

    def check(answer: Reading) -> bool | None:
        return None if answer.language is None else answer.language == code

    return check


def has_all(wanted: tuple[str, ...]) -> Check:
    """Verify that each text is found in the answer, letter case ignored."""
    return partial(_finds, wanted=wanted, all_of_them=True)


def has_none(unwanted: tuple[str, ...]) -> Check:
    """Verify that none of the texts is found in the answer, letter case ignored."""
    return partial(_finds, wanted=unwanted, all_of_them=False)


def _finds(answer: Reading, *, wanted: tuple[str, ...], all_of_them: bool) -> bool | None:
    reach = _SEARCH_BUDGET_CHARS // max(1, len(wanted))
    text = answer.folded[:reach]
    verdict = (
        all(part.casefold() in text for part in wanted)
        if all_of_them
        else not any(part.casefold() in text for part in wanted)
    )
    # Beyond the reach nothing was looked at: there, "all found" and "one found" are certain, the rest is not.
    return verdict if verdict is all_of_them or len(answer.folded) <= reach else None


def has_words(phrases: tuple[str, ...], times: int = 1) -> Check:
    """Verify that each phrase occurs as words of its own at least so often, letter case ignored."""

    def check(answer: Reading) -> bool:
        return all(_occurrences(phrase, answer) >= times for phrase in phrases)

    return check


def has_no_words(phrases: tuple[str, ...]) -> Check:
    """Verify that no phrase occurs as words of its own, letter case ignored. Its inflected forms are other words."""

    def check(answer: Reading) -> bool:
        return all(_occurrences(phrase, answer) == 0 for phrase in phrases)

    return check


def _occurrences(phrase: str, answer: Reading) -> int:
    folded = phrase.casefold().strip()
    start = r"(?<!\w)" if folded[:1].isalnum() else ""
    end = r"(?!\w)" if folded[-1:].isalnum() else ""
    return len(re.findall(start + re.escape(folded) + end, answer.scanned.casefold()))


def has_any(choices: tuple[str, ...]) -> Check:
    """Verify that one of the choices occurs as words of its own, letter case ignored."""
    return lambda answer: any(_occurrences(choice, answer) > 0 for choice in choices if choice.strip())


def has_word(word: str, low: int, high: int | None) -> Check:
    """Verify how often a word occurs, ends included, letter case ignored."""

    def check(answer: Reading) -> bool:
        return low <= (count := _occurrences(word, answer)) and (high is None or count <= high)

    return check


def has_letter(letter: str, low: int, high: int | None) -> Check:
    """Verify how often a letter occurs, ends included, letter case ignored."""
    return lambda answer: low <= (count := answer.folded.count(letter.casefold())) and (high is None or count <= high)


def has_capital_words(low: int, high: int | None) -> Check:
    """Verify how many words have capital letters only, ends included; single letters are none."""

    def check(answer: Reading) -> bool:
        count = sum(len(word) > 1 and word.isupper() for word in answer.scanned.split())
        return low <= count and (high is None or count <= high)

    return check


def has_highlights(answer: Reading, *, least: int) -> bool:
    """Whether there are so many pieces in emphasis, of one kind or another."""
    return len(_EMPHASIS.findall(answer.prose)) >= least


def has_placeholders(answer: Reading, *, least: int) -> bool:
    """Whether there are so many placeholders in square brackets; links are none."""
    return len(_PLACEHOLDER.findall(answer.scanned)) >= least


def has_title(answer: Reading) -> bool:
    """Whether there is a title in double angle brackets."""
    return _TITLE.search(answer.scanned) is not None


def has_postscript(answer: Reading) -> bool:
    """Whether a line begins with P.S. or P.P.S."""
    return _POSTSCRIPT.search(answer.text[-_POSTSCRIPT_CHARS:]) is not None


def starts_with(opening: str) -> Check:
    """Verify that the answer opens with this, letter case and wrapping marks ignored."""
    wanted = _squeezed(opening.strip(_WRAPPING))

    def check(answer: Reading) -> bool:
        return _squeezed(answer.text[: 2 * len(opening) + 200].strip(_WRAPPING)).startswith(wanted)

    return check


def ends_with(closing: str) -> Check:
    """Verify that the answer closes with this, letter case, wrapping marks and a last full stop ignored."""
    wanted = _squeezed(closing.strip(_CLOSING))

    def check(answer: Reading) -> bool:
        return _squeezed(answer.text[-2 * len(closing) - 200 :].strip(_CLOSING)).endswith(wanted)

    return check


def _squeezed(text: str) -> str:
    return " ".join(text.casefold().replace("’", "'").split())  # noqa: RUF001


def is_one_of(choices: tuple[str, ...], *, alone: bool) -> Check:
    """Verify that the answer is one of the choices (`alone`) or begins with one; letter case is ignored."""
    wanted = tuple(_squeezed(choice.strip(_CLOSING)) for choice in choices)

    def check(answer: Reading) -> bool:
        if alone:
            return _squeezed(answer.text[:2_000].strip(_CLOSING)) in wanted and len(answer.text) <= 2_000
        opening = _squeezed(answer.text[:2_000].strip(_CLOSING))
        return any(
            opening.startswith(choice) and not opening[len(choice) : len(choice) + 1].isalnum() for choice in wanted
        )

    return check


def is_uppercase(answer: Reading) -> bool | None:
    """Whether there is no small letter outside code; None for scripts without case."""
    prose = answer.prose
    return None if prose.upper() == prose.lower() else prose == prose.upper()


def is_lowercase(answer: Reading) -> bool | None:
    """Whether there is no capital letter outside code; None for scripts without case."""
    prose = answer.prose
    return None if prose.upper() == prose.lower() else prose == prose.lower()


def has_no_comma(answer: Reading) -> bool:
    """Whether there is no comma."""
    return "," not in answer.text


def is_wrapped_in_quotes(answer: Reading) -> bool:
    """Whether the answer begins and ends with a double quotation mark."""
    text = answer.text.strip()
    return len(text) >= 2 and text[0] in '"“' and text[-1] in '"”'
