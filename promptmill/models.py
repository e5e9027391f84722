"""Model names, the classes whose budget they share, and the local rule for tokens.

Source of limits and of the token rule: the provider's documentation as of November 2026; every figure can be
overridden in settings.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from promptmill.errors import BadInput


@dataclass(frozen=True, slots=True)
class Limits:
    """What an account may spend on one model class, a minute."""

    requests: int
    input_tokens: int
    output_tokens: int


START_TIER: Final = Limits(requests=1_000, input_tokens=2_000_000, output_tokens=400_000)
START_TIER_FABLE: Final = Limits(requests=1_000, input_tokens=500_000, output_tokens=100_000)

CLASS_LIMITS: Final[Mapping[str, Limits]] = {
    "haiku-5-5": START_TIER,
    "haiku-4-5": START_TIER,
    "sonnet-5": START_TIER,
    "opus-5": START_TIER,
    "fable-5": START_TIER_FABLE,
}
"""Model classes that are known without being told, with the limits of the lowest tier."""

_CLASS_OF_NAME: Final = (
    (re.compile(r"claude-haiku-5-5\b"), "haiku-5-5"),
    (re.compile(r"claude-haiku-4-5\b"), "haiku-4-5"),
    (re.compile(r"claude-sonnet-5(-\d)?\b"), "sonnet-5"),
    (re.compile(r"claude-opus-5(-\d)?\b"), "opus-5"),
    (re.compile(r"claude-fable-5(-\d)?\b"), "fable-5"),
)

_DATE: Final = re.compile(r"-(\d{8}|latest)$")

KNOWN_MODELS: Final = (
    "claude-haiku-5-5",
    "claude-haiku-4-5",
    "claude-sonnet-5-5",
    "claude-opus-5-5",
    "claude-fable-5",
)


class UnknownModel(BadInput):
    """A model that belongs to no known class and to none in the settings."""

    def __init__(self, model: str, known: tuple[str, ...]) -> None:
        shown = model[:80]
        near = difflib.get_close_matches(shown, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        super().__init__(
            f"no rate limits are known for model {shown!r}{hint} Expected one of {', '.join(known)}, "
            f'or its limits in promptmill.toml: [budgets."{shown}"] with rpm, itpm and otpm'
        )


def class_of(model: str, declared: Mapping[str, str] | None = None) -> str:
    """Return the model class whose budget `model` draws on.

    `declared` maps a model's name to its class and wins; names with a date or `-latest` share the class of
    the bare name. Raises UnknownModel.
    """
    if declared and (own := declared.get(model) or declared.get(_DATE.sub("", model))):
        return own
    for pattern, name in _CLASS_OF_NAME:
        if pattern.match(model):
            return name
    raise UnknownModel(model, (*KNOWN_MODELS, *(declared or ())))


def chars_per_token(model: str) -> float:
    """Return how many characters a token holds: 3.5 up to Haiku 4.5, 2.5 for models 4.7 and later."""
    return 3.5 if "-4-5" in model else 2.5


def estimate_input_tokens(request: Mapping[str, Any]) -> int:
    """Return the input tokens that `request` is likely to be charged: `ceil(characters / chars_per_token)`.

    Everything but `max_tokens` and the like counts as text, images and documents as their base64 length capped
    at what the provider charges for a page; real usage corrects the budget afterwards.
    """
    size = sum(_characters(request.get(part)) for part in ("system", "messages", "tools", "output_config"))
    return max(1, math.ceil(size / chars_per_token(str(request.get("model", "")))))


_BINARY_CHARS: Final = 5_000
"""An image or page costs about 1,600 tokens however many bytes it has: as many characters as that is text."""

_NUMBER_CHARS: Final = 5
_OBJECTS: Final = (dict, Mapping)  # an abstract class takes long to say that a dict is one
_LISTS: Final = (list, tuple)


def _characters(value: Any) -> int:
    """Count without recursion: a request may be nested as deep as its sender likes."""
    size = 0
    inside = [value]
    while inside:
        part = inside.pop()
        if isinstance(part, str):
            size += len(part)
        elif isinstance(part, _OBJECTS):
            if part.get("type") == "base64":
                size += _BINARY_CHARS
            else:
                inside += part.values()
        elif isinstance(part, _LISTS):
            inside += part
        elif part is not None:
            size += _NUMBER_CHARS
    return size
