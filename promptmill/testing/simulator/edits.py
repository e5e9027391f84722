"""Answers that are wrong in themselves: odd endings, missing parts, and the quality of a bad day."""

import re
from dataclasses import replace
from random import Random

from promptmill.testing.simulator.answer import Answer

_STRAY = ("สวัสดี", "ครับ", "ความ", "ได้", "的", "谢谢", "问题", "因此", "数据")
_VAGUE = (
    "It is important to note that there are many factors to consider.",
    "This can vary depending on a number of different things.",
    "As mentioned before, it is important to consider many factors.",
    "Overall, this is something that can be very important.",
)


def without_content(answer: Answer, _rng: Random) -> Answer:
    """End the turn without having said anything."""
    return replace(answer, blocks=(), stop_reason="end_turn", stop_sequence=None)


def without_stop_reason(answer: Answer, _rng: Random) -> Answer:
    """Leave open why the answer ended."""
    return replace(answer, stop_reason=None, stop_sequence=None)


def without_usage(answer: Answer, _rng: Random) -> Answer:
    """Do not tell what was used."""
    return replace(answer, tells_usage=False)


def refusing(answer: Answer, _rng: Random) -> Answer:
    """Stop for policy reasons, before the first word."""
    details = {"type": "refusal", "category": "bio", "explanation": "The request was declined by a safety filter."}
    return replace(answer, blocks=(), stop_reason="refusal", stop_sequence=None, stop_details=details)


def cut_at_max_tokens(answer: Answer, rng: Random) -> Answer:
    """Reach max_tokens half-way."""
    return replace(_half(answer, rng), stop_reason="max_tokens", stop_sequence=None)


def with_unfit_tool_input(answer: Answer, _rng: Random) -> Answer:
    """Call tools with arguments that nobody asked for; an answer without a call stays as it is."""
    unfit = tuple(
        replace(block, text='{"nobody_asked_for":[null]}') if block.kind == "tool_use" else block
        for block in answer.blocks
    )
    return replace(answer, blocks=unfit)


def out_of_context(answer: Answer, rng: Random) -> Answer:
    """Run out of context window half-way."""
    return replace(_half(answer, rng), stop_reason="model_context_window_exceeded", stop_sequence=None)


def pausing(answer: Answer, rng: Random) -> Answer:
    """Pause a long turn half-way: the client is to send it back and go on."""
    return replace(_half(answer, rng), stop_reason="pause_turn", stop_sequence=None)


def with_stray_script(answer: Answer, rng: Random) -> Answer:
    """Corrupt an otherwise good answer with characters of other scripts, at least one."""
    words = re.split(r"(?<=\s)", answer.text)
    for at in {rng.randrange(len(words)), *(at for at in range(len(words)) if rng.random() < 0.05)}:
        words[at] = rng.choice(_STRAY) + words[at]
    return answer.with_text("".join(words))


def shortened(answer: Answer, _rng: Random) -> Answer:
    """Give up after five words."""
    return replace(answer.with_text(" ".join(answer.text.split()[:5])), stop_reason="end_turn", stop_sequence=None)


def by_a_worse_model(answer: Answer, rng: Random) -> Answer:
    """Say little at length, and break whatever format was asked for."""
    start = answer.text[: max(len(answer.text) // 3, 1)]
    waffle = " ".join(rng.choice(_VAGUE) for _ in range(rng.randint(4, 8)))
    return replace(answer.with_text(f"Sure! Here you go: {start} {waffle}"), stop_reason="end_turn", stop_sequence=None)


def _half(answer: Answer, _rng: Random) -> Answer:
    return answer.with_text(answer.text[: len(answer.text) // 2])
