"""The built-in metrics of answers by name, and what their values are. How each is measured is the worker's business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Kind = Literal["flag", "amount", "score"]
"""Which values there are, and so how a change in them is found: `flag` is true or false, a proportion over many
answers; `amount` is 0 or more without an upper end, with a long tail (a length, a count); `score` lies in 0..1."""
Worse = Literal["lower", "higher", "either"]
"""Which way the values of a series move when its answers get worse."""


class Declared(NamedTuple):
    """What is known of a metric without measuring anything."""

    kind: Kind
    worse: Worse
    whole: bool = False
    """Whether an amount is counted in whole numbers."""


OVERALL: Final = "overall"
"""Not measured but reckoned: how bad an answer is in all metrics together, as the sum of their surprises. Many metrics
that move a little show here long before one of them could be told from chance."""

BUILT_IN: Final[Mapping[str, Declared]] = {
    "chars": Declared("amount", "either", whole=True),
    "words": Declared("amount", "either", whole=True),
    "output_tokens": Declared("amount", "either", whole=True),
    "code_block": Declared("flag", "lower"),
    "code_parses": Declared("flag", "lower"),
    "specific_examples": Declared("amount", "lower", whole=True),
    "instruction_following": Declared("score", "lower"),
    "similarity": Declared("score", "lower"),
    "token_f1": Declared("score", "lower"),
    "tool_calls": Declared("amount", "either", whole=True),
    "tool_calls_fit": Declared("flag", "lower"),
    "truncated": Declared("flag", "higher"),
    "refusal": Declared("flag", "higher"),
    "hedging": Declared("amount", "higher"),
    "compression": Declared("score", "lower"),
    "distinct_trigrams": Declared("score", "lower"),
    "stray_script": Declared("flag", "higher"),
    "broken_text": Declared("flag", "higher"),
    "grade": Declared("score", "lower"),
}
"""In the order of the columns wherever they are exported."""
