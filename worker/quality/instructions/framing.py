"""Whether a phrase that looks like an instruction is one, and speaks of the whole answer.

"in at most 50 words" is an instruction in "Explain closures in at most 50 words", and none in "Write about a man who
speaks in at most 50 words", "each in at most 50 words" or "Why is at most 50 words a bad limit?". The sentence around
the phrase tells; where it leaves doubt, the phrase is not counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import zip_longest
from typing import NamedTuple

from worker.quality.phrases import any_of, compiled, lowered

_MAX_SENTENCE_CHARS = 600

_ANSWER = r"(?:(?:your|the|this|entire|whole|full|final|complete|overall|generated)\s+){1,3}" + any_of(
    "answer, response, reply, output, explanation, summary, text, message, essay, story, poem, description,"
    " definition, email"
)
_WORK = r"(?:(?:your|the|this|entire|whole|full)\s+){1,2}(?:(?!letter)[a-z-]{1,20}\s){0,2}" + any_of(
    "resume, poem, pitch, song, rap, post, article, review, proposal, haiku, riddle, joke, tweet, limerick, itinerary,"
    " advertisement, ad, speech, quiz, template, biography, report, dialogue, conversation, list, script, plan, lyrics,"
    " rubric, guide, abstract, introduction letter, cover letter, description, caption, slogan, note, result, content"
)
_MODALS = any_of("must, should, will, shall, need to, needs to, have to, has to, are to, is to, can, may")
_LEAD = (  # what may stand before a command without changing it
    "(?:(?:"
    + any_of(
        "please, kindly, now, also, just, always, only, so, then, and, but, remember to, be sure to, try to,"
        " make sure to, make sure that, make sure, ensure that, ensure, briefly, concisely, clearly, simply, strictly,"
        " keep in mind to, you, (?:can|could|would|will) you please, (?:can|could|would|will) you,"
        " i (?:want|need|would like) you to, i'd like you to, in (?:your|the) (?:answer|response|reply|output),"
        r" in (?:plain|simple|clear|everyday|your own) \w+"
    )
    + rf"|(?:(?:make\ssure|ensure)\s)?(?:that\s)?(?:you|it|{_ANSWER}|{_WORK})\s{_MODALS}(?:\s(?:only|always))?"
    + rf"|(?:{_ANSWER}|{_WORK}|it)(?=\s*$)"  # what follows is "must not ..."
    + r"|there\s(?:should|must)(?=\sbe\b)"
    + rf"|{_ANSWER}\s(?=is\b|are\b)"
    + r")[\s,]+)"
)
_LEADS = compiled(rf"^{_LEAD}{{0,4}}$")
_LEADING = compiled(rf"{_LEAD}{{1,4}}")

_WHOLE_VERB = compiled(  # speaks of the answer itself
    any_of(
        "answer, respond, reply, keep, limit, restrict, use, be, stay, do not exceed, don't exceed, aim for, speak,"
        " write your, write it"
    )
    + r"\b"
)
_HOLDS = compiled(any_of("have, include, contain") + r"\b")
_ENDS_THERE = compiled(  # "include exactly three bullets about cats" may speak of a part
    r"^\s*(?:[.;,]|$|(?:and|in|with|throughout|using)\b(?!\s(?:each|every|the\s(?:first|last|middle|end))\b))"
)
_TASKS = (  # each sets a task; with two of them in a message nobody knows which one a limit is meant for
    any_of(
        "explain, say, summari[sz]e, describe, define, write, give, provide, tell, list, compose, draft, create,"
        " generate, produce, outline, discuss, compare, translate, rewrite, paraphrase, rephrase, condense,"
        " shorten, introduce, review, critique, analy[sz]e, sketch, state, name, present, make, return, output,"
        " report, show, suggest, propose, argue, justify, recommend, complete, convert, expand, simplify,"
        " clarify, interpret, identify, classify, recap, extract, find, design, develop, evaluate, assess,"
        " examine, brainstorm, pick, choose, sum up, help, invent, imagine, elaborate, contrast, format, put,"
        " wrap"
    )
    + r"\b"
)
_TASK_VERB = compiled(_TASKS)
_ANOTHER_TASK = compiled(rf"\b(?:and|then|plus)\s{_TASKS}")
_QUESTION = compiled(any_of("what, why, how, who, when, where, which, is, are, does, do, can, should") + r"\b")
_LABEL = compiled(
    r"^(?:(?:word|length|size|output|response|answer)\s+)?"
    + any_of(
        "length, limit, format, formatting, style, note, important, constraints?, requirements?, rules?, output, task,"
        " instructions?, maximum, minimum, language, question"
    )
    + r"\s*:\s*"
)
_ANSWER_FIRST = compiled(rf"{_ANSWER}\b")

_SEQUENCE = compiled(
    "^"
    + any_of("then, next, after that, afterwards?, secondly, finally, lastly, second, third, following that")
    + r"\b"
)
_CONDITION = compiled(
    r"\b"
    + any_of("if(?! possible), unless, when(?! to), whenever, whether, except, in case, while, until, depending")
    + r"\b"
)
_INDIRECT = compiled(  # what follows is said of somebody or something else, or is not demanded
    r"\b"
    + any_of(
        "who, whose, whom, which, where, that(?! follows), why you, function, program, script, api,"
        " endpoint, code to, said, says, say, saying, asked, asks, told, tells, wants?, wrote, writes, claims?,"
        " thinks?, need not, no need, don't (?:need|have), do not (?:need|have),"
        " not (?:limited|required|necessary|have to), needn't, instead of, rather than, used to, imagine,"
        " pretend, suppose"
    )
    + r"\b"
)
_HOW_TO = compiled(r"\bhow\sto\b")
_HOW_TO_WRITE = compiled(  # "explain how to write a story in at most 50 words": which of the two has the limit?
    r"\bhow\sto\s"
    + any_of(
        "write, say, summari[sz]e, describe, express, tell, explain, answer, compose, draft, respond, reply,"
        " put, speak, talk, ask, introduce, present, pitch, return, output, print, format, produce, generate,"
        " make, create"
    )
    + r"\b"
)
_PART = compiled(  # what is demanded holds for a part of the answer
    r"\b"
    + any_of(
        "each, every, per, apiece, respectively, titles?, headlines?, headings?, captions?, subject, taglines?,"
        " slogans?, labels?, questions, introduction, conclusion, preamble, thinking, reasoning, scratchpad,"
        " (?:first|second|third|fourth|last|next|opening|closing|introductory|concluding)"
        " (?:sentence|paragraph|section|line|part|bullet|word)"
    )
    + r"\b"
)
_FOR_EACH = compiled(r"\b(?:for|of|in|on|to)\s(?:each|every)\b|\bper\b")
_GOES_ON_ELSEWHERE = compiled(
    r"^\s*(?:(?:in\s(?:the|your)\s\w+\s)?"
    + any_of("should, must, shall, may")
    + "|"
    + any_of("is, are, was, were, has, had, can, could, would, might, makes?, from, per, too, be")
    + "|"
    + any_of(
        "at a time, in a row, on each, on every, in the (?:text|document|article|code|file|title|first|last),"
        " of(?! (?:at|up to|no more|no longer|fewer|less|under|exactly))"
    )
    + r"|(?:,\s)?(?:and|plus|along\swith|followed\sby|then|or)\s(?:then\s)?(?:an?|one|two|three|another|the)"
    + r")\b"
)
_ATTACHED = compiled(  # words that lead to a limit: "in at most 50 words", "keep it under 50 words"
    r"(?:\b"
    + any_of(
        "in, within, using, with, to, into, as, under, below, be, is, are, use, write, give, provide, list,"
        " contains?, have, has, stay, give me, give us, keep (?:it|this|that|them), than, and, but, or,"
        " keep it (?:short|brief|concise), of length, answers?, responses?, reply, replies, output, summary,"
        " yourself, include, for, in total"
    )
    + r"|[,;:(—–-])\s*$"  # noqa: RUF001
)
_OF_WHOLE = compiled(  # "write a summary of at most 50 words"
    r"^(?:write|give|provide|compose|draft|create|generate|produce|make)\s(?:(?:me|us)\s)?(?:a|an|one|your)\s"
    r"(?:[\w-]{1,20}\s){0,3}"
    + any_of(
        "answer, summary, explanation, story, poem, essay, paragraph, description, reply, response, text, post,"
        " article, note, email, letter, tweet, review, abstract, overview, definition, report, bio, biography,"
        " speech, message, haiku, joke, fable, tale, monologue, analysis, argument, sentence"
    )
    + r"\sof$"
)
_LEADS_ALONE = compiled("in|within|using|with|use|is|be")
_ASIDE = compiled(r"(?:,|,\sin|,\susing|\()\s*$")
_CLAUSE_END = re.compile(r"[,;(]")
_CLAUSE_BREAKS = (", ", "; ", ": ", " and ", " but ", " then ", " - ", " — ", " – ")  # noqa: RUF001
_SENTENCE_BREAK = re.compile(r"([.!?\n])(?:(?<=\n)\s*|[\"')\]\ue001]*\s+)")
_LIST_MARK = re.compile(r"^(?:[-*+•]|\(?\d{1,2}[.)]|#{1,6})\s+")
_EMPHASIS = re.compile(r"\*\*|__|(?<!\w)[*_]|[*_](?!\w)")


class Frame(Enum):
    """How a recognised phrase must stand in its sentence."""

    LIMIT = "limit"
    """Added to a command: "explain X *in at most 50 words*", "your answer must be *under 50 words*"."""
    CLAUSE = "clause"
    """The command itself, at the beginning of a clause: "Extract the names and *return them as JSON*"."""
    TASK = "task"
    """As `CLAUSE`, where the message sets one task only: "*Write a poem in French*"."""
    ADDED = "added"
    """Added to a command, anywhere in it: "explain X *without using the word Y*"."""


class Sentence(NamedTuple):
    """One sentence of what a text says in its own voice."""

    text: str
    lowered: str
    """What patterns are matched with: the text in lower case, place by place the same."""
    in_list: bool
    """Whether this is one item of a list."""


def sentences(text: str) -> Iterator[Sentence]:
    """Split a text."""
    parts = _SENTENCE_BREAK.split(text)
    for said, end in zip_longest(parts[::2], parts[1::2], fillvalue=""):
        line = (said + end).strip()
        mark = _LIST_MARK.match(line)
        sentence = line[mark.end() :] if mark else line
        if "*" in sentence or "_" in sentence:
            sentence = _EMPHASIS.sub("", sentence)
        if sentence and len(sentence) <= _MAX_SENTENCE_CHARS:
            yield Sentence(sentence, lowered(sentence), in_list=mark is not None)


def set_one_task(text: Iterable[Sentence]) -> bool:
    """Whether the sentences of a text set one task at most, so that a limit cannot be meant for another."""
    tasks = 0
    for sentence in text:
        tasks += _sets_a_task(sentence.lowered)
        if tasks > 1 or _SEQUENCE.match(sentence.lowered):
            return False
    return True


def _sets_a_task(sentence: str) -> bool:
    start = _after_leads(sentence)
    return _TASK_VERB.match(sentence, start) is not None and not _WHOLE_VERB.match(sentence, start)


def _after_label(sentence: str) -> int:
    label = _LABEL.match(sentence) if ":" in sentence else None
    return label.end() if label else 0


def _after_leads(sentence: str) -> int:
    start = _after_label(sentence)
    leads = _LEADING.match(sentence, start)
    return leads.end() if leads else start


def _after_verb(sentence: str) -> int:
    start = _after_leads(sentence)
    verb = _TASK_VERB.match(sentence, start) or _WHOLE_VERB.match(sentence, start)
    return verb.end() if verb else start


def is_instruction(sentence: Sentence, start: int, end: int, frame: Frame, *, only_whole: bool) -> bool:
    """Whether the phrase at `start`..`end` is said to the model, of its whole answer, and without condition.

    `only_whole` is whether only what plainly speaks of the whole answer is believed: there are several tasks, or this
    is one item of a list of them, or it comes after a document.
    """
    before, after = sentence.lowered[:start], sentence.lowered[end:]
    if _CONDITION.search(before) or _CONDITION.search(after):
        return False
    if _PART.search(before) or _PART.search(_CLAUSE_END.split(after, 1)[0]) or _FOR_EACH.search(after):
        return False
    if _INDIRECT.search(before, _after_verb(before)):
        return False
    if frame is Frame.CLAUSE or frame is Frame.TASK:
        alone = frame is Frame.CLAUSE or not only_whole
        return alone and _HOW_TO.search(before) is None and _begins_a_clause(sentence, start)
    if _GOES_ON_ELSEWHERE.match(after) or _ANOTHER_TASK.search(after) or _HOW_TO_WRITE.search(before):
        return False
    return (frame is Frame.ADDED or _is_attached(before)) and _is_commanded(before, after, only_whole=only_whole)


def _begins_a_clause(sentence: Sentence, start: int) -> bool:
    before = sentence.lowered[:start]
    begin = _after_label(before)
    if _LEADS.match(before[begin:]):
        return True
    # Of several clauses the last one counts; what leads into it may stand between. Breaks count as they are written.
    ends = ((sentence.text.rfind(mark, begin, start), len(mark)) for mark in _CLAUSE_BREAKS)
    return any(_LEADS.match(before[place + length :]) for place, length in ends if place >= 0)


def _is_attached(before: str) -> bool:
    stripped = before.strip()
    if not stripped or _ATTACHED.search(before):
        return True
    leads = _LEADING.match(stripped)
    return (
        _OF_WHOLE.match(stripped[leads.end() :] if leads else stripped) is not None or _LEADS.match(before) is not None
    )


def _is_commanded(before: str, after: str, *, only_whole: bool) -> bool:
    head = before[_after_leads(before) :].strip()
    if not head or _LEADS_ALONE.fullmatch(head):
        # The phrase comes first: "In at most 50 words, explain X". What follows may be one task of several.
        return not (only_whole and _TASK_VERB.match(after.lstrip(" ,:")))
    if _HOLDS.match(head) and _ENDS_THERE.match(after):
        return True
    if _WHOLE_VERB.match(head) or _ANSWER_FIRST.match(head) or _ANSWER_FIRST.match(before.strip()):
        return True
    if only_whole:
        return False
    if _TASK_VERB.match(head):
        return True
    # "What is a closure, in at most 20 words?"
    return _QUESTION.match(head) is not None and _ASIDE.search(before) is not None and not after.strip(" ).?!")
