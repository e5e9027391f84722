"""One line of the benchmark table, and what several benchmarks share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from promptmill import Job


@dataclass(frozen=True)
class Row:
    """Texts: a number without its unit says nothing."""

    what: str
    ours: str
    baseline: str
    ratio: str
    aim: str


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of `values` do not exceed."""
    return quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]


def small_job(number: int) -> Job:
    """A prompt as the demo makes them: an instruction and the beginning of a docstring, 500 characters."""
    text = (
        f"Explain this module to a newcomer in at most 40 words ({number}):\n\n{json.__name__}\n\n"
        f"{(json.__doc__ or '')[:420]}"
    )
    request = {"model": "claude-haiku-5-5", "max_tokens": 512, "messages": [{"role": "user", "content": text}]}
    return Job(request=request)
