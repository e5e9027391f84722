"""How an answer came to its end: cut off, or refused."""

from __future__ import annotations

import re

from worker.quality.phrases import any_of, compiled, lowered
from worker.quality.reading import Reading

_CUT = frozenset({"max_tokens", "model_context_window_exceeded"})
_OPENING_CHARS = 400
_MAX_REFUSAL_WORDS = 200
"""A longer text that opens with a refusal goes on to something else: it is an answer with a reservation."""

_CANNOT = any_of("can't, cannot, can not, won't, will not, 'm unable to, 'm not able to, am unable to, am not able to")
_WILL_NOT = any_of(
    "'m not going to, am not going to, 'm not willing to, am not willing to, must decline to, have to decline to,"
    " need to decline to"
)
_HELP = any_of(
    "help, assist, provide, comply, fulfill?, answer, respond, share, create, generate, write, produce,"
    " discuss, continue, engage, support, participate, give, offer, do that, do this, complete, translate,"
    " reproduce, go along, process, facilitate, advise, role-?play, disclose, reveal, describe, explain"
)
_REFUSALS = compiled(
    rf"""
      \bi(?:'m|\sam)?\s(?:(?:really|very|so|truly)\s)?(?:sorry|afraid),?\s(?:but\s)?(?:that\s)?i\s?{_CANNOT}\b
    | \bi\s?(?:(?:just|simply|really)\s)?(?:{_CANNOT}|{_WILL_NOT})\s(?:be\sable\sto\s)?{_HELP}\b(?!\sbut\b|\senough\b)
    | \bi(?:'m|\sam)\snot\scomfortable\s\w+ing\b
    | \bi\s(?:must|have\sto|need\sto|will\shave\sto)\s(?:respectfully\s)?(?:decline|refuse)\b
    | \bas\san\sai(?:\s(?:language\s)?model|\sassistant)?,?\si\s(?:{_CANNOT}|don't|do\snot)\b
    | \bich\skann\s(?:ihnen|dir|dabei|dieser|diese|das|hierbei|leider)\b[^.!?\n]{{0,80}}\bnicht\b
    | \bje\sne\s(?:peux|puis)\spas\s(?:vous\s|t'|te\s)?(?:aider|répondre|fournir|accéder|satisfaire)\b
    | \blo\ssiento,?\s(?:pero\s)?no\spuedo\b
    | \bno\spuedo\s(?:ayudar|proporcionar|cumplir|responder)
    | \b(?:desculpe|sinto\smuito|lamento),?\s(?:mas\s)?não\sposso\b
    | \bmi\sdispiace,?\s(?:ma\s)?non\sposso\b
    """
)
_DECLINING = ("not", "n't", "unable", "decline", "refuse", "nicht", "peux", "puis", "puedo", "posso")
"""Each of `_REFUSALS` has one of these; most answers have none so early, and need no search."""
_QUOTED = re.compile(r'"[^"]{0,400}"|“[^“”]{0,400}”|«[^«»]{0,400}»')


def truncated(stop_reason: str | None) -> bool:
    """Whether the answer was cut off.

    Sees: the stop reasons `max_tokens` and `model_context_window_exceeded`. Cannot see: an answer that ends in the
    middle of a thought by itself, or one that a stop sequence ended too early.
    """
    return stop_reason in _CUT


def refusal(answer: Reading, stop_reason: str | None) -> bool:
    """Whether the model declined to answer.

    Sees: the stop reason `refusal`, and a text of at most 200 words that opens with declining in the first person
    (English, and the commonest forms in German, French, Spanish, Portuguese and Italian). Cannot see: polite evasion,
    an answer to another question, a refusal in another language, or one that comes after a long preamble; a character
    in a story who refuses in the first person and without quotation marks is taken for the model.
    """
    if stop_reason == "refusal":
        return True
    if answer.words > _MAX_REFUSAL_WORDS:
        return False
    opening = lowered(answer.text[:_OPENING_CHARS].strip()).replace("’", "'")  # noqa: RUF001
    if not any(word in opening for word in _DECLINING):
        return False
    if '"' in opening or "“" in opening or "«" in opening:
        opening = _QUOTED.sub(" ", opening)
    return _REFUSALS.search(opening) is not None
