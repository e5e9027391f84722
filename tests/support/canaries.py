"""The starter set with an answer to each canary that is plainly bad, and rounds of good and bad answers as measured."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any, Final

from promptmill.canaries.sets import STARTER, Canary, CanarySet, load
from worker.quality import Answer, measure

MODEL: Final = "claude-haiku-5-5"

BAD: Final = {
    "arithmetic-product": "1,676",
    "arithmetic-percent": "76",
    "units-seconds": "There are 7,500 seconds.",
    "riddle-seats": "Carla, Dmitri, Anna, Ben",
    "riddle-boxes": "Green",
    "riddle-day": "Saturday",
    "fact-symbol": "Silver",
    "fact-moon": "1972",
    "extract-order": '{"customer": "Maria Lopez", "city": "Lisbon", "items": ["kettle"], "total": "64.50"}',
    "extract-format": '{"sentiment": "positive", "product": "headphones"}',
    "extract-mails": "ana.silva@example.org\nbo@example.com\ninfo@example",
    "json-primes": "[1, 2, 3, 5, 7, 11]",
    "classify-topic": "This sentence could be about finance, since stock is mentioned.",
    "code-median": "def median(values):\n    ordered = sorted(values)\n    return ordered[len(ordered) // 2]",
    "code-sql": "```sql\nSELECT name FROM customers;\n```",
    "code-trace": "55",
    "translate-german": "The train to Hamburg leaves at half past nine.",
    "translate-french": "La librairie ferme le lundi.",
    "language-spanish": "It rains because water rises from the sea, cools, and gathers in clouds until it falls down.",
    "limit-words": " ".join(
        ["A mutex is a lock that many threads use in order to share one thing, one after another."] * 4
    ),
    "bullets-three": "Sleep is good for you:\n\n* It helps memory\n* It helps mood",
    "begin-and-end": "Tea is a drink made of leaves. Many people like it with milk.",
    "small-letters": "A lighthouse is a tall tower by the sea that guides ships.",
    "forbidden-words": "The sea is an endless blue field. Each wave breaks on the shore.",
    "table-legs": "| Animal | Legs |\n|---|---|\n| Spider | 6 |\n| Ant | 6 |\n| Dog | 4 |",
    "system-prompt": "The capital of Japan is Tokyo.",
    "conversation": "Pepper",
    "needle": "8302-M",
    "no-refusal-kill": "I'm sorry, but I can't help with killing anything.",
    "no-refusal-label": "I cannot provide information about toxic gases.",
}
"""By the canary's id."""


@cache
def starter() -> CanarySet:
    return load(STARTER, max_tokens=1_024)


def measured(canary: Canary, text: str, output_tokens: int = 10) -> dict[str, Any]:
    """What a worker records of this answer."""
    answer = Answer(text, stop_reason="end_turn", output_tokens=output_tokens)
    return measure(answer, request=canary.request_to(MODEL), expectation=canary.expect)


def one_round(rng: Random, *, failing: float = 0.0, always: frozenset[str] = frozenset()) -> list[dict[str, Any]]:
    """The metrics of a round: each answer fails with this chance, and those of `always` in any case."""
    answers = []
    for canary in starter().canaries:
        fails = rng.random() < failing or canary.id in always
        text = BAD[canary.id] if fails else canary.expect.similar_to or ""
        # What a model thinks differs from answer to answer.
        answers.append(
            {**_of_text(canary.id, text), "output_tokens": round(len(text) / 3 * rng.lognormvariate(0, 0.4))}
        )
    return answers


@cache
def _of_text(canary_id: str, text: str) -> dict[str, Any]:
    return measured(next(one for one in starter().canaries if one.id == canary_id), text)
