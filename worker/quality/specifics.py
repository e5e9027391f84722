"""How concrete an answer is: figures, names, quotations, code, and announced examples."""

# ruff: noqa: RUF001, SIM905 - typographic marks and lists of words are the data of this module
from __future__ import annotations

import re
from dataclasses import dataclass

from worker.quality.markdown import cut_from_lines
from worker.quality.reading import Reading

# A search skips to where its pattern can begin, if that is a certain character or one of a set. So patterns begin with
# one, and look back from behind it at what must not stand before it.

_READ_CHARS = 20_000
_SAMPLE_CHARS = 600

_MONTHS = frozenset(
    "january february march april may june july august september october november december"
    " jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
_NUMBER = re.compile(r"\d\d{0,14}(?:[.,:/×–-]\d{1,15}){0,4}")
_ASCII_NUMBER = re.compile(_NUMBER.pattern.replace(r"\d", "[0-9]"))
_UNIT = re.compile(
    rf"""\ ?(?:[%‰€£]|°[CF]?|(?:st|nd|rd|th|(?:{"|".join(sorted(_MONTHS))})\b(?:,?\ \d{{4}})?|million|billion|trillion
        |thousand|percent|dollars|euros|k[mgB]|[mcn]m|[GMT]B|ms|k?g|[kMG]?Hz|years?|hours?|minutes?
          |seconds?|days?)\b)""",
    re.VERBOSE | re.IGNORECASE,
)
_YEAR_AFTER_DAY = re.compile(r"(?:st|nd|rd|th)?,?\ \d{4}\b")
_SIGNS = frozenset("-−+~≈$€£¥")
_GLUE = frozenset("_.,:/\\#[")
"""A digit after one of these is part of something else: a version, a path, a citation mark."""
_LABELS = frozenset(
    "step part section option phase point item chapter figure fig. table example rule tip question type level note"
    " steps parts sections options phases points items chapters figures tables examples rules".split()
)
_COUNTED = frozenset(
    "reason reasons way ways thing things point points step steps type types kind kinds part parts option options"
    " category categories tips example examples aspect aspects factor factors item items sentences words".split()
)
"""`3 reasons` announces a list; it is no figure."""
_COUNTED_ADJECTIVES = frozenset("main key common simple basic important different other more quick major".split())
_LIST_NUMBER = re.compile(r"\n[ \t>]*+(?:\*\*)?\d{1,3}[.)](?=[ *])")

_NAME = re.compile(r"[A-Z][\w’'&-]*+(?:\ (?:(?:of|the|de|la|van|von|der|del|&)\ ){0,2}[A-Z][\w’'&-]*+){0,6}")
_UNIT_NAMES = frozenset(
    {"KB", "MB", "GB", "TB", "MHz", "GHz", "Hz", "AM", "PM", "BC", "AD", "CE", "BCE", "C", "F", "V", "W"}
)
_LINE_START = re.compile(r"[ \t>]*(?:(?:[-*+•]|\d{1,3}[.)])[ ])?")
_OPENING_MARKS = tuple('"“«(„')
_SENTENCE_ENDS = tuple(".!?:…")
_CLOSING_MARKS = "\"'”’)*_"
_HEADING = re.compile(r"\n(?:[ ]{0,3}\#{1,6}\ [^\n]*+|[ \t]*+(?:[-*+•]\ |\d{1,3}[.)]\ )?\*\*[^*\n]{1,120}\*\*:?)")
_CAPITAL_OR_BEYOND_ASCII = re.compile(r"[A-Z\x80-\U0010ffff]")
_ASCII_CAPITALS = bytes(range(ord("A"), ord("Z") + 1))
_NOT_NAMES = (
    frozenset(
        "i i'm i've i'll i'd the a an this that these those it its he she they we you your my our their his"
        " her in on at by for from to of with without as if when while where why how what who which whose and"
        " but or nor so yet not no yes there here then thus also however therefore moreover furthermore"
        " finally first second third next after before because since although though each every some many most"
        " all both few several other another such only even just let use make note see consider is are was"
        " were be been do does did can could will would should may"
        " might must have has had please ok okay hello hi dear sure example important key".split()
    )
    | _MONTHS
)
_CAPITALISED = frozenset(word[0].upper() + word[1:] for word in _NOT_NAMES)

_QUOTE = re.compile(r'"[^"\n]{2,300}"|“[^“”\n]{2,300}”|«[^«»\n]{2,300}»|„[^„“”\n]{2,300}[“”]|「[^「」\n]{2,300}」')
_INLINE_CODE = re.compile(r"`(?<!``)([^`\n]{1,200})`(?!`)")
_SIGNS_OF_CODE = ("_", "()", "--", "://")
_CAMEL = re.compile(r"[A-Z](?<=[a-z][A-Z])")
_DOTTED = re.compile(r"\.(?<=[a-z]\.)(?=[a-z])")
_IDENTIFIER = re.compile(
    r"""[A-Za-z]\w{0,63}(?:\.\w{1,63}){0,6}\(\)                # a_call()
      | [A-Za-z][A-Za-z0-9]{0,63}(?:_[A-Za-z0-9]{1,63}){1,8}  # snake_case, CONSTANT_NAME
      | [a-z]{1,63}[A-Z][A-Za-z0-9]{0,63}                     # camelCase
      | --[a-z][\w-]{1,63}                                    # --an-option
      | https?://\S{3,300}
      | [A-Za-z][\w-]{1,63}(?:\.[a-z]\w{1,63}){1,6}           # dotted.path, file.ext, example.com
    """,
    re.VERBOSE,
)

# Counted in case-folded text, by a part that is looked for first. What follows each is left open where no longer word
# begins with it.
_ANNOUNCEMENTS = {
    "example": ("for example", "an example"),
    "instance": ("for instance",),
    "e.g.": ("e.g.",),
    "such as ": ("such as ",),
    "illustrat": ("to illustrate", "way of illustration", "an illustration"),
    "case": ("case in point", "take the case of", "consider the case"),
    "consider a": ("consider a ", "consider an "),
    "imagine ": ("imagine a ", "imagine you", "imagine that"),
    "suppose ": ("suppose you", "suppose that"),
    "let's say": ("let's say",),
    "namely": ("namely",),
    "to name a few": ("to name a few",),
}
_ANNOUNCEMENTS_ELSEWHERE = (
    "zum beispiel", "beispielsweise", "z. b.", "z.b.", "par exemple", "p. ex.", "notamment", "por ejemplo", "p. ej.",
    "por exemplo", "per esempio", "ad esempio", "bijvoorbeeld", "till exempel", "t.ex.", "for eksempel", "f.eks.",
    "esimerkiksi", "de exemplu", "misalnya", "contohnya",
)  # fmt: skip
_ANNOUNCEMENTS_BEYOND_ASCII = (
    "na przykład", "například", "például", "örneğin", "ví dụ", "например", "к примеру", "наприклад", "例えば",
    "たとえば", "例如", "比如", "예를 들어", "على سبيل المثال", "उदाहरण के लिए", "לדוגמה",
)  # fmt: skip
_LETTERS_BEYOND_ASCII = tuple((max(phrase), phrase) for phrase in _ANNOUNCEMENTS_BEYOND_ASCII)
"""Each with the letter in it that English is least likely to have."""


@dataclass(frozen=True, slots=True)
class Specifics:
    """How many different concrete things of each kind an answer has."""

    numbers: int = 0
    names: int = 0
    quotes: int = 0
    identifiers: int = 0
    code_blocks: int = 0
    announcements: int = 0
    """How often an example is announced ("for instance")."""

    @property
    def total(self) -> int:
        """All kinds together."""
        return self.numbers + self.names + self.quotes + self.identifiers + self.code_blocks + self.announcements


def find_specifics(answer: Reading) -> Specifics:
    """Count the different specific things that an answer names.

    Sees, each once however often it is repeated: figures with what belongs to them (dates, money, percentages,
    measures, versions), proper names and acronyms that capital letters show, quotations, code identifiers, file
    names, addresses and inline code; and each code block and each announcement of an example ("for example", "such
    as" and their kin in some twenty languages). Only the first 20,000 characters count.
    Leaves out: list and step numbers ("Step 2"), "3 main reasons", citation marks ("[1]"), headings and bold labels,
    capitals that only begin a sentence.
    Cannot see: numbers in words, a name whose only place is the start of a sentence (unless two capitalised words
    stand together), names in scripts without capitals, names in German (where every noun has one), and whether an
    example is a good one, or true.
    """
    prose = answer.prose[:_READ_CHARS]
    parts = _INLINE_CODE.split(prose)
    plain, inline = " ".join(parts[::2]), parts[1::2]
    folded = plain.casefold()
    quotes = _QUOTE.findall(plain) if any(mark in plain for mark in '"“«„「') else []
    identifiers = {*inline, *_identifiers(plain)}
    return Specifics(
        numbers=len(_numbers(plain)),
        names=0
        if _nouns_have_capitals(folded)
        else len(_names(plain) - {identifier.casefold() for identifier in identifiers}),
        quotes=len(set(quotes)),
        identifiers=len(identifiers),
        code_blocks=sum(1 for fence in answer.fences if fence.code.strip()),
        announcements=_announcements(folded),
    )


def specific_examples(answer: Reading) -> int:
    """Count all kinds of `find_specifics` together."""
    return find_specifics(answer).total


def _identifiers(plain: str) -> set[str]:
    signs = [sign for sign in _SIGNS_OF_CODE if sign in plain]
    camel, dotted = _CAMEL.search(plain), _DOTTED.search(plain)
    if not (signs or camel or dotted):
        return set()
    words = set(plain.split())
    suspects = [word for sign in signs for word in words if sign in word]
    if camel:
        suspects += [word for word in words if not word.islower() and _CAMEL.search(word)]
    if dotted:
        suspects += [word for word in words if "." in word and _DOTTED.search(word)]
    bare = (word.lstrip("([{\"'“‘*<").rstrip(".,;:!?]}\"'”’*>") for word in suspects)
    candidates = {word.rstrip(")") if "(" not in word else word for word in bare}
    return {word for word in candidates if _IDENTIFIER.fullmatch(word)}


def _numbers(plain: str) -> set[str]:
    text = cut_from_lines(_LIST_NUMBER, plain)
    found: set[str] = set()
    taken = 0
    # The digits of all scripts take twice as long to find.
    for match in (_ASCII_NUMBER if text.isascii() else _NUMBER).finditer(text):
        start, end = match.span()
        if start < taken or (start and (text[start - 1] in _GLUE or text[start - 1].isalnum())):
            continue
        if _announces_a_list(text, end):
            continue
        sign = text[start - 1] if start and text[start - 1] in _SIGNS else ""
        if sign and start > 1 and text[start - 2].isalnum():
            if sign in "-−":  # a hyphen inside a word, as in GPT-4
                continue
            sign = ""
        before = text[max(0, start - 14) : start].rstrip(" ").rpartition(" ")[2].casefold() if not sign else ""
        if text[start - 1 : start] == " " and before in _LABELS:
            continue
        if text[start - 1 : start] == " " and before in _MONTHS:
            year = _YEAR_AFTER_DAY.match(text, end)
            taken = year.end() if year else end
            found.add(f"{before} {text[start:taken]}")
        else:
            unit = _UNIT.match(text, end)
            found.add(sign + text[start : unit.end() if unit else end].casefold())
    return found


def _announces_a_list(text: str, end: int) -> bool:
    if text[end : end + 1] != " ":
        return False
    following = text[end : end + 30].split(None, 2)
    if not following:
        return False
    noun = following[1:2] if following[0] in _COUNTED_ADJECTIVES else following[:1]
    return bool(noun) and noun[0].rstrip(".,:;!?*") in _COUNTED


def _nouns_have_capitals(folded: str) -> bool:
    """Whether this is German prose, where a capital letter says nothing about names."""
    german = sum(folded.count(word) for word in (" der ", " die ", " das ", " und ", " ist ", " nicht "))
    return german >= 3 and german > folded.count(" the ") + folded.count(" of ")


def _names(plain: str) -> set[str]:
    text = cut_from_lines(_HEADING, plain)
    if _capitals(text[:_SAMPLE_CHARS]) * 3 > min(len(text), _SAMPLE_CHARS):
        return set()  # capitals throughout: they mark nothing
    found: set[str] = set()
    for match in _NAME.finditer(text):
        name = match[0]
        if name in _CAPITALISED:
            continue  # as most words are that begin a sentence
        start, end = match.span()
        before = text[max(0, start - 12) : start]
        last = before[-1:]
        if last and (last.isalnum() or last in "_/.@-" or (name in _UNIT_NAMES and before[-2:-1].isdigit())):
            continue
        inside = last == " " and (before[-2:-1].isalnum() or before.endswith((", ", "; ")))
        if not inside and _begins_a_sentence(before):
            if end == len(text) or text[end] in "\n:":
                continue  # a title on a line of its own, or a label
            first, _, rest = name.partition(" ")
            if not rest and not name[:2].isupper():
                continue  # one capitalised word that begins a sentence: it may be any word
            if first.casefold().replace("’", "'") in _NOT_NAMES:
                name = rest
        if (trimmed := _trimmed(name.casefold().replace("’", "'"))) is not None:
            found.add(trimmed)
    return found


def _capitals(sample: str) -> int:
    if sample.isascii():
        return len(sample) - len(sample.encode().translate(None, _ASCII_CAPITALS))
    return sum(map(str.isupper, _CAPITAL_OR_BEYOND_ASCII.findall(sample)))


def _begins_a_sentence(before: str) -> bool:
    if before.endswith(_OPENING_MARKS):
        return True
    said = before.rstrip()
    if said != before and said.rstrip(_CLOSING_MARKS).endswith(_SENTENCE_ENDS):
        return True
    return _LINE_START.fullmatch(before.rpartition("\n")[2]) is not None


def _trimmed(name: str) -> str | None:
    words = name.removesuffix("'s").split()
    while words and words[0] in _NOT_NAMES:
        words.pop(0)
    trimmed = " ".join(words)
    return trimmed if len(trimmed) > 1 else None


def _announcements(folded: str) -> int:
    count = sum(sum(map(folded.count, phrases)) for part, phrases in _ANNOUNCEMENTS.items() if part in folded)
    if " the " not in folded:  # as good as any English text has it: most answers are spared the other languages
        count += sum(map(folded.count, _ANNOUNCEMENTS_ELSEWHERE))
    if not folded.isascii():
        count += sum(folded.count(phrase) for letter, phrase in _LETTERS_BEYOND_ASCII if letter in folded)
    return count
