"""The instructions that are recognised in prompts, as data: how each is said, how it must stand, what verifies it.

To add one, add a row, and to the corpus of the tests a prompt that has it and one that only looks like it. Patterns see
one sentence at a time, in lower case, with each quotation replaced by `QUOTE`; only English prompts are read.
"""

from __future__ import annotations

import re
from functools import partial

from worker.quality.instructions import checks, limits
from worker.quality.instructions.elements import ELEMENTS
from worker.quality.instructions.framing import Frame
from worker.quality.instructions.recogniser import (
    QUOTED,
    Instruction,
    Quotes,
    Recogniser,
    always,
    quoted,
    row,
    rows,
)
from worker.quality.phrases import any_of, compiled, lowered

ADDING_UP = frozenset({"contains", "excludes", "frequency", "letter"})
"""Groups of which several instructions may stand side by side."""

LANGUAGES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt",
    "dutch": "nl", "swedish": "sv", "danish": "da", "norwegian": "no", "finnish": "fi", "polish": "pl", "czech": "cs",
    "romanian": "ro", "hungarian": "hu", "turkish": "tr", "indonesian": "id", "vietnamese": "vi", "russian": "ru",
    "ukrainian": "uk", "bulgarian": "bg", "arabic": "ar", "persian": "fa", "farsi": "fa", "urdu": "ur", "hebrew": "he",
    "hindi": "hi", "swahili": "sw", "bengali": "bn", "punjabi": "pa", "gujarati": "gu", "tamil": "ta", "telugu": "te",
    "kannada": "kn", "malayalam": "ml", "georgian": "ka", "armenian": "hy",
    "chinese": "zh", "mandarin": "zh", "japanese": "ja", "korean": "ko", "thai": "th", "greek": "el",
}  # fmt: skip

# The parts that phrases are made of; the blank before a part belongs to it, so that it can be left out.
_QS = rf"[\[(]?(?P<quotes>{QUOTED}(?:(?:,|,?\sand|,?\sor|,?\snor)?\s{QUOTED}){{0,20}})"
_OUT = any_of(
    "answer, respond, reply, return, output, produce, generate, give, provide, write, print, emit, send, format"
)
_YOURS = r"your\s(?:(?:entire|whole|final)\s)?(?:answer|response|reply|output|result)s?"
_THEM = any_of("me, us, it, them, this, everything, back, the (?:results?|answer|output|response|data)")
_IT = rf"(?:\s(?:{_THEM}|{_YOURS})){{0,2}}"
_ARTICLES = any_of(
    "a, an, the, one, your, valid, single, raw, pure, minified, compact, well-formed, flat, plain, strict"
)
_A = rf"(?:\s{_ARTICLES}){{0,4}}"
_ONLY = r"\s" + any_of("only, just, strictly, solely, exclusively, nothing but")
_AS = r"(?:\s(?:with|in|as|using|to|be))?"
_ABOUT_JSON = any_of(r"schema, lines, path, patch, parser, files?, keys?, fields?, or, vs, to, and (?!nothing|no\b)")
_JSON = rf"\sjson(?![\w-]|\s{_ABOUT_JSON}\b)(?P<kind>\s(?:object|array|list))?(?:\sformat)?"
_NOTHING_ELSE = any_of(
    "only, and nothing else, and no other text, with no other text, no other text,"
    " without any (?:other|additional|extra) text"
)
_THESE = any_of(
    "the, these, this, both, all, of, following, exact, key, two, three, four, five, six, any, either, that"
)
_WHICH = rf"(?:{_THESE}\s){{0,5}}"
_TEXTS = any_of("words?, phrases?, terms?, keywords?, strings?, sentences?, texts?, hashtags?, expressions?") + r":?\s"
_TIMES = r"(?:\sat\sleast\s(?P<times>once|twice|\d{1,3}(?=\stimes)))?"
_NOT = any_of(
    "do not, don't, never, must not, mustn't, should not, shouldn't, not, avoid, refrain from,"
    " cannot, can't, you are not allowed to, you're not allowed to, not allowed to"
)
_USE = any_of("use, using, include, including, contain, containing, have, add, the use of")
_CASE = (
    any_of(r"caps, capitals, capital letters, upper\s?-?case, lower\s?-?case")
    + r"(?:\sletters)?(?!\s(?:for|to|when|in|the|each|every|first)\b)"
)
_COMMAS = r"commas?\b(?!\s(?:in\s(?!your|the)|between|to|as|when|inside|before|after))"
_FENCES = any_of("code blocks?, code fences?, triple backticks")
_BULLETS = any_of(r"bullet(?:ed)?[\s-](?:point )?lists?, bullet points, bullets")
_MARKDOWN = r"markdown(?:\s(?:formatting|syntax|format))?(?!\s\w)"
_ALL = rf"(?:{_YOURS}|(?:your|the)\s(?:entire|whole|full|complete)\s\w{{2,20}})"
_DOUBLE_QUOTES = r"double\s(?:quotation\smarks|quotes)\b"
_CAPITALS = any_of("capital letters, capitals, uppercase letters, upper case letters")
_OF_SOME_WORDS = compiled(r"\b(?:words|phrases|names|terms|lines|sections|parts|keywords)\s$")
_LANGUAGE_NAMES = any_of(",".join(LANGUAGES))
_IN_A_LANGUAGE = compiled(rf"(?:in|only|entirely)\s(?:the\s)?{_LANGUAGE_NAMES}")
_LANGUAGE = (
    rf"(?P<language>{_LANGUAGE_NAMES})\b(?:\slanguage\b)?"
    r"(?!\s(?!(?:only|please|using|with|without|in|so|regardless|no|at)\b)\w|\s?(?:/|,\s?(?-i:[A-Z])))"
)


def _limit_on(unit: str, hint: str) -> Recogniser:
    def read(match: re.Match[str], before: str, _quotes: Quotes) -> Instruction | None:
        limit = limits.bounds(match, before) if limits.unit_of(match) == unit else None
        if limit is None:
            return None
        return Instruction(limits.name_of(unit, limit), limits.check_of(unit, limit), limit)

    return Recogniser(unit, hint, limits.COUNT, Frame.LIMIT, read)


def _json_only(match: re.Match[str], _before: str, _quotes: Quotes) -> Instruction:
    kind = {"object": dict, "array": list, "list": list}.get((match["kind"] or "").strip())
    return Instruction("json_only", partial(checks.is_json, kind=kind, code_block_allowed=True), kind)


def _language(match: re.Match[str], _before: str, _quotes: Quotes) -> Instruction:
    code = LANGUAGES[lowered(match["language"])]
    return Instruction("language", checks.is_in(code), code)


def _include(match: re.Match[str], _before: str, quotes: Quotes) -> Instruction:
    words = quoted(match["quotes"], quotes)
    said = match["times"] or "once"
    times = {"once": 1, "twice": 2}.get(said) or int(said)
    return Instruction("contains", checks.has_words(words, times), (words, times))


def _exclude(match: re.Match[str], _before: str, quotes: Quotes) -> Instruction:
    words = quoted(match["quotes"], quotes)
    return Instruction("excludes", checks.has_no_words(words), words)


def _start(match: re.Match[str], _before: str, quotes: Quotes) -> Instruction:
    opening = quoted(match["quotes"], quotes)[0]
    return Instruction("starts_with", checks.starts_with(opening), opening)


def _end(match: re.Match[str], _before: str, quotes: Quotes) -> Instruction:
    closing = quoted(match["quotes"], quotes)[0]
    return Instruction("ends_with", checks.ends_with(closing), closing)


def _case(match: re.Match[str], before: str, _quotes: Quotes) -> Instruction | None:
    if _OF_SOME_WORDS.search(before):
        return None
    small = "lower" in match[0] and not match[0].startswith("no ")
    return Instruction("lowercase", checks.is_lowercase) if small else Instruction("uppercase", checks.is_uppercase)


def _any_choice(match: re.Match[str], _before: str, quotes: Quotes) -> Instruction:
    choices = quoted(match["quotes"], quotes)
    return Instruction("one_of", checks.has_any(choices), choices)


def _choice(match: re.Match[str], _before: str, quotes: Quotes) -> Instruction:
    choices = quoted(match["quotes"], quotes) if match["quotes"] else tuple(re.split(r"\s+or\s+|/", match["choices"]))
    alone = bool(match["only"] or match["only_after"])
    return Instruction("one_of", checks.is_one_of(choices, alone=alone), choices)


RECOGNISERS: tuple[Recogniser, ...] = (
    *ELEMENTS,
    _limit_on("words", "word"),
    _limit_on("sentences", "sentence"),
    _limit_on("paragraphs", "paragraph"),
    _limit_on("bullets", "bullet"),
    _limit_on("characters", "character"),
    # Of phrases that overlap in a sentence the first row counts: the stricter reading stands above the looser one.
    row(
        "json", "json",
        rf"""\b(?:{_OUT}{_IT}{_ONLY}{_AS}{_A} | only\s{_OUT}{_IT}{_AS}{_A} | be(?:{_ONLY})?{_A}
               | ^(?:only|just){_A}){_JSON}""",
        Frame.CLAUSE, _json_only,
    ),
    row(
        "json", "json",
        rf"(?:\b{_OUT}{_IT}{_AS}{_A}|^(?:valid)?){_JSON},?\s{_NOTHING_ELSE}\b",
        Frame.CLAUSE, _json_only,
    ),
    row(
        "json", "json",
        rf"""\b(?:wrap|put|provide|present|give|format|want|enclose|make)\s(?:your|the)\s(?:entire|whole|full|complete|final)\s
             (?:answer|response|reply|output|result)\s(?:is\s|be\s)?(?:wrapped\s|formatted\s)?
             (?:in|as|into|inside|with|using){_A}{_JSON}""",
        Frame.CLAUSE, always("json", checks.holds_json),
    ),
    row("json", "json", rf"\b{_OUT}{_IT}{_AS}{_A}{_JSON}", Frame.CLAUSE, always("json", checks.holds_json)),
    row("json", "json", rf"\bas{_A}{_JSON}", Frame.ADDED, always("json", checks.holds_json)),
    row(
        "json", "json", rf"\b(?:list|name|{_OUT})\b[^.,;:]{{1,60}}\sin\s(?:valid\s)?json\sformat\b(?P<kind>)",
        Frame.TASK, always("json", checks.holds_json),
    ),
    row(
        "code_block", "code",
        rf"\b{_NOT}\s(?:use|using|wrap|wrapping|include|put|add)\b[^.;]{{0,40}}?\b{_FENCES}",
        Frame.CLAUSE, always("no_code_block", checks.has_no_code_block),
    ),
    row(
        "code_block", "code",
        rf"\b(?:without|no)\s(?:(?:any|using|markdown)\s){{0,2}}{_FENCES}",
        Frame.ADDED, always("no_code_block", checks.has_no_code_block),
    ),
    row(
        "code_block", "code",
        rf"""\b(?:put|wrap|place|enclose|show|include|present|{_OUT})\b[^.,;:]{{0,60}}?
               \s(?:in|inside|within|with|using|as)\s(?:(?:a|one)\s)?(?:single\s)?(?:[\w+\#]{{1,12}}\s)?{_FENCES}
           | \buse\s(?:(?:a|one)\s)?(?:single\s)?(?:fenced\s|markdown\s)?{_FENCES}""",
        Frame.CLAUSE, always("code_block", checks.has_code_block),
    ),
    row(
        "language", _IN_A_LANGUAGE,
        rf"""\b(?:answer|respond|reply|write|speak|explain|summari[sz]e|describe)
             (?:\s(?:to\s)?(?:me|us|the\suser|all\squestions))?(?:\s(?:it|this|everything|{_YOURS}))?
             (?:\s(?:only|exclusively|entirely|always|strictly))?\sin\s(?:the\s)?{_LANGUAGE}""",
        Frame.CLAUSE, _language, as_written=True,
    ),
    row(
        "language", _IN_A_LANGUAGE,
        rf"""\bbe\s(?:written\s)?(?:(?:entirely|only|completely|fully)\s)?in\s(?:(?:entirely|only)\s)?(?:the\s)?{_LANGUAGE}""",
        Frame.CLAUSE, _language, as_written=True,
    ),
    row(
        "language", _IN_A_LANGUAGE, rf"\buse\sonly\s(?:the\s)?{_LANGUAGE}",
        Frame.CLAUSE, _language, as_written=True,
    ),
    row(
        "language", _IN_A_LANGUAGE,
        rf"\b(?:(?:entirely|completely|exclusively)\sin|using\sonly|in\s(?:only|entirely))\s(?:the\s)?{_LANGUAGE}",
        Frame.ADDED, _language, as_written=True,
    ),
    row(
        "language", _IN_A_LANGUAGE,
        rf"\b(?:write|compose|draft)\s(?:me\s)?(?:a|an|your|the)\s(?:[\w-]{{1,20}}\s){{1,3}}in\s{_LANGUAGE}",
        Frame.TASK, _language, as_written=True,
    ),
    row(
        "language", "translate",
        rf"\btranslate\b[^.?!;]{{0,120}}?\s(?:in)?to\s(?:[\w-]{{1,20}}\s)?{_LANGUAGE}",
        Frame.TASK, _language, as_written=True,
    ),
    row(
        "excludes", "\ue000",
        rf"""\bwithout\s(?:ever\s)?(?:(?:using|including|mentioning|saying|writing)\s{_WHICH}(?:{_TEXTS})?
                                    | {_WHICH}{_TEXTS}){_QS}""",
        Frame.ADDED, _exclude,
    ),
    row(
        "excludes", "\ue000",
        rf"""\b{_NOT}\s(?:ever\s)?(?:(?:{_USE}|mention|mentioning|say|saying|contain)\s{_WHICH}(?:{_TEXTS})?
                                   | {_WHICH}{_TEXTS}){_QS}""",
        Frame.CLAUSE, _exclude,
    ),
    row(
        "contains", "\ue000",
        rf"""\b(?:(?:include|mention|contain|incorporate)\s{_WHICH}(?:{_TEXTS})?
                | (?:use|feature|work\sin|insert)\s{_WHICH}{_TEXTS}){_QS}{_TIMES}""",
        Frame.CLAUSE, _include,
    ),
    row(
        "contains", "\ue000",
        rf"\bthe\s{_TEXTS}{_QS}\s(?:must|should)\s(?:appear|be\s(?:included|used|mentioned)){_TIMES}",
        Frame.CLAUSE, _include,
    ),
    row(
        "start", "\ue000",
        rf"""\b(?:start|begin|open)(?:\s(?:{_YOURS}|(?:the|your)\s(?:(?:entire|whole)\s)?\w{{2,20}}|it))?\swith\s
             (?:exactly\s)?{_WHICH}(?:{_TEXTS})?{_QS}""",
        Frame.CLAUSE, _start,
    ),
    row(
        "end", "\ue000",
        rf"""\b(?:end|finish|close|conclude)(?:\s(?:{_YOURS}|(?:the|your)\s(?:(?:entire|whole)\s)?\w{{2,20}}|it))?\swith\s
             (?:exactly\s)?{_WHICH}(?:{_TEXTS})?{_QS}""",
        Frame.CLAUSE, _end,
    ),
    row(
        "case", "cap",
        rf"\b{_NOT}\s{_USE}\s(?:any\s)?{_CAPITALS}|(?:^|\b(?:contain|have|use|with|be|and)\s)no\s{_CAPITALS}\b(?!\s(?:in|for|at)\b)",
        Frame.CLAUSE, always("lowercase", checks.is_lowercase),
    ),
    row(
        "case", "cap", rf"\bwithout\s(?:using\s)?(?:any\s)?{_CAPITALS}\b",
        Frame.ADDED, always("lowercase", checks.is_lowercase),
    ),
    *rows(
        "case", "case,cap",
        rf"""\b(?:only\suse|contain\sonly)\s{_CASE}
           | \bbe\sin\s(?:all\s)?(?:lower\s?-?cases?|upper\s?-?case|caps|capitals)\b(?!\s\w)
           | \b(?:be|is)\s(?:written\s)?in\s\w{{2,20}}(?:,|,?\sand)\s(?:in\s)?all\s{_CASE}""",
        Frame.CLAUSE, _case,
    ),
    *rows("case", "case,cap", rf"\bin\s(?:all|only)[\s-]{_CASE}", Frame.ADDED, _case),
    *rows(
        "case", "case,cap",
        rf"""\b(?:answer|respond|reply|write|speak)(?:\s(?:everything|{_YOURS}))?
               (?:\s(?:only|entirely|exclusively))?\sin\s{_CASE}
           | \b(?:use|be)\s(?:only|all|in)[\s-]{_CASE} | ^all\s{_CASE}\W*$
           | ^no\slower\s?-?case\sletters\b""",
        Frame.CLAUSE, _case,
    ),
    row(
        "commas", "comma", rf"\bwithout\s(?:using\s|the\suse\sof\s)?(?:any\s|a\ssingle\s)?{_COMMAS}",
        Frame.ADDED, always("no_commas", checks.has_no_comma),
    ),
    row(
        "commas", "comma", rf"""\b{_NOT}\s{_USE}\s(?:any\s|a\s(?:single\s)?)?{_COMMAS}
           | (?:^|\b(?:contain|have|use|with|be|and)\s)no\s{_COMMAS}
           | ^commas\sare\snot\sallowed""",
        Frame.CLAUSE, always("no_commas", checks.has_no_comma),
    ),
    row(
        "choice", "one of",
        rf"""\b(?:answer|respond|reply|contain|include|return|output|say)\s(?:with\s)?(?:exactly\s|only\s)?
             one\sof\s(?:the|these)\b(?:\sfollowing)?(?:\sexact)?
             (?:\s(?:phrases|options|words|answers|labels|categories|values|sentences))?:?\s{_QS}""",
        Frame.CLAUSE, _any_choice,
    ),
    *rows(
        "choice", "yes,true,\ue000",
        rf"""\b(?:answer|respond|reply|say|return|output)(?:\swith)?
             (?P<only>\s(?:only|just|strictly|simply)(?:\swith)?)?\s(?:either\s)?
             (?:{_QS}|(?P<choices>yes(?:\sor\s|/)no\b|true(?:\sor\s|/)false\b))
             (?P<only_after>,?\s(?:only|and\snothing\selse)\b)?""",
        Frame.CLAUSE, _choice, as_written=True,
    ),
    row(
        "markup", "plain text",
        rf"\b(?:{_OUT}{_IT}(?:\sonly)?\sin|use(?:\sonly)?)\splain\stext(?:\sonly)?\b|^plain\stext\sonly\b",
        Frame.CLAUSE, always("plain_text", checks.is_plain_text),
    ),
    row(
        "markup", "markdown", rf"(?:\b{_NOT}\s{_USE}|^no)\s(?:any\s)?{_MARKDOWN}",
        Frame.CLAUSE, always("plain_text", checks.is_plain_text),
    ),
    row(
        "markup", "markdown", rf"\bwithout\s(?:(?:any|using)\s){{0,2}}{_MARKDOWN}",
        Frame.ADDED, always("plain_text", checks.is_plain_text),
    ),
    row(
        "markup", "markdown", rf"\b(?:{_OUT}{_IT}\s(?:in|as|with|using)|use)\s(?:valid\s)?{_MARKDOWN}",
        Frame.CLAUSE, always("markdown", checks.is_markdown),
    ),
    row(
        "lists", "bullet", rf"(?:\b{_NOT}\s{_USE}|^no)\s(?:any\s)?{_BULLETS}",
        Frame.CLAUSE, always("no_list", checks.has_no_list),
    ),
    row(
        "lists", "bullet", rf"\bwithout\s(?:(?:any|using)\s){{0,2}}{_BULLETS}",
        Frame.ADDED, always("no_list", checks.has_no_list),
    ),
    row(
        "lists", "bullet", rf"\b(?:as|in|using|with)\s(?:a\s)?{_BULLETS}(?!\s(?:for|where|below|above|that|of)\b)",
        Frame.ADDED, always("bullets", checks.has_bullets),
    ),
    row(
        "lists", "bullet", rf"\buse\s(?:a\s)?{_BULLETS}(?!\s(?:for|where|sparingly)\b)",
        Frame.CLAUSE, always("bullets", checks.has_bullets),
    ),
    row(
        "lists", "numbered list", r"\b(?:as|in|using|with)\sa\snumbered\slist\b",
        Frame.ADDED, always("numbered_list", checks.has_numbered_list),
    ),
    row(
        "lists", "numbered list", r"\buse\sa\snumbered\slist\b(?!\s(?:for|where)\b)",
        Frame.CLAUSE, always("numbered_list", checks.has_numbered_list),
    ),
    row(
        "table", "table", r"\b(?:as\san?\s(?:markdown\s)?table|in\sa\smarkdown\stable|in\stable\sform(?:at)?)\b",
        Frame.ADDED, always("table", checks.shows_table),
    ),
    row(
        "wrapping", "double quot",
        rf"""\b(?:(?:wrap|enclose|put|surround)\s{_ALL}\s(?:with|in|inside|within)\s{_DOUBLE_QUOTES}
               |(?:put|add|place|use)\s{_DOUBLE_QUOTES}\saround\s{_ALL}|be\s(?:wrapped|enclosed)\s(?:with|in|inside)\s{_DOUBLE_QUOTES})""",
        Frame.CLAUSE, always("in_quotes", checks.is_wrapped_in_quotes),
    ),
)  # fmt: skip
