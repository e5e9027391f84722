"""What is asked, the same of every system: the n-th request of a case is always the same one."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from itertools import accumulate
from typing import Any

from tests.bench.pacing.cases import Case, Prompts

MEAN_ESSAY = 500
"""Tokens; what a pacer that must guess the answer's length is told."""
_CHARACTERS_PER_TOKEN = 2.5


def request(prompts: Prompts, number: int) -> dict[str, Any]:
    """Return the n-th Messages API body."""
    match prompts:
        case Prompts.SHORT:
            return _body(f"Tell me something about the number {number}.", max_tokens=200)
        case Prompts.ESSAYS:
            return _body(f"Tell me everything about the number {number}.", max_tokens=4_096)
        case Prompts.ANY_SIZE:
            tokens = math.exp(random.Random(number).uniform(math.log(50), math.log(50_000)))
            return _body(f"{number} ".ljust(int(_CHARACTERS_PER_TOKEN * tokens), "x"), max_tokens=100)


def _body(text: str, *, max_tokens: int) -> dict[str, Any]:
    return {"model": "claude-haiku-5-5", "max_tokens": max_tokens, "messages": [{"role": "user", "content": text}]}


def arrivals(case: Case) -> Iterator[float]:
    """Yield when somebody at a screen asks something, in seconds from the start: 1.1 to 6 slots apart."""
    chance = random.Random(2)
    slot = case.slot.total_seconds()
    return accumulate(chance.uniform(1.1, 6) * slot for _ in range(10_000))


def simulator_options(case: Case) -> list[str]:
    """Return the simulator's command line: the account of `case`, and how it answers."""
    limits = case.limits
    given = {"--rpm": limits.rpm, "--itpm": limits.itpm, "--otpm": limits.otpm}
    account = ["--tier", "none", "--depth", f"{limits.depth.total_seconds():g}"]
    for name, limit in given.items():
        account += [] if limit is None else [name, str(limit)]
    if case.others is not None:
        account += ["--foreign-load", str(case.others.share)]
        account += [] if case.others.period is None else ["--foreign-period", f"{case.others.period.total_seconds():g}"]
    if case.prompts is Prompts.ESSAYS:  # nine in ten take 5 to 20 s
        return [
            *account,
            *("--tokens", str(MEAN_ESSAY), "--tokens-sigma", "1"),
            *("--latency", "4.5", "--latency-sigma", "0.2", "--per-token", "8"),
        ]
    return [*account, "--tokens", "40", "--latency", "0.08", "--latency-sigma", "0.3", "--per-token", "0"]
