"""The models the simulator knows, and how it counts their tokens."""

import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

_SUFFIX = re.compile(r"-(?:\d{8}|latest)$")


class ModelClass(StrEnum):
    """Models that share one set of rate limits."""

    HAIKU_5_5 = "haiku-5-5"
    HAIKU_4_5 = "haiku-4-5"
    SONNET_5 = "sonnet-5"
    OPUS_5 = "opus-5"
    FABLE_5 = "fable-5"


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of the catalogue. Dates and context sizes are plausible rather than published."""

    id: str
    name: str
    model_class: ModelClass
    created_at: datetime
    chars_per_token: float = 2.5
    max_input_tokens: int = 1_000_000
    max_tokens: int = 128_000
    lifecycle: Literal["active", "deprecated", "retired"] = "active"
    retires_at: datetime | None = None
    line: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", self.model_class.partition("-")[0])

    def tokens(self, chars: int) -> int:
        """Tokens of a text of `chars` characters, by the local rule."""
        return math.ceil(chars / self.chars_per_token)

    def chars(self, tokens: int) -> int:
        """Characters of the longest text that is still `tokens` long."""
        return math.floor(tokens * self.chars_per_token)

    def describe(self) -> dict[str, Any]:
        """Return what `GET /v1/models/{id}` answers."""
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.name,
            "line": self.line,
            "created_at": self.created_at,
            "lifecycle": self.lifecycle,
            "deprecated_at": None,
            "retires_at": self.retires_at,
            "max_input_tokens": self.max_input_tokens,
            "max_tokens": self.max_tokens,
        }


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, tzinfo=UTC)


CATALOGUE: dict[str, Model] = {
    model.id: model
    for model in (
        Model("claude-haiku-5-5", "Claude Haiku 5.5", ModelClass.HAIKU_5_5, _day(2026, 10, 1)),
        Model("claude-sonnet-5-5", "Claude Sonnet 5.5", ModelClass.SONNET_5, _day(2026, 9, 1)),
        Model("claude-opus-5-5", "Claude Opus 5.5", ModelClass.OPUS_5, _day(2026, 9, 1)),
        Model("claude-fable-5-2", "Claude Fable 5.2", ModelClass.FABLE_5, _day(2026, 8, 1)),
        Model("claude-fable-5-1", "Claude Fable 5.1", ModelClass.FABLE_5, _day(2026, 6, 1)),
        Model("claude-fable-5", "Claude Fable 5", ModelClass.FABLE_5, _day(2026, 4, 1)),
        Model("claude-sonnet-5", "Claude Sonnet 5", ModelClass.SONNET_5, _day(2026, 4, 1)),
        Model("claude-opus-5", "Claude Opus 5", ModelClass.OPUS_5, _day(2026, 4, 1)),
        Model(
            "claude-haiku-4-5",
            "Claude Haiku 4.5",
            ModelClass.HAIKU_4_5,
            _day(2025, 10, 1),
            chars_per_token=3.5,
            max_input_tokens=200_000,
            max_tokens=64_000,
        ),
        Model(
            "claude-3-5-haiku",
            "Claude 3.5 Haiku",
            ModelClass.HAIKU_4_5,
            _day(2024, 10, 22),
            chars_per_token=3.5,
            max_input_tokens=200_000,
            max_tokens=8_192,
            lifecycle="retired",
            retires_at=_day(2026, 2, 19),
        ),
    )
}


def find_model(name: str) -> Model | None:
    """Look a model up; `-latest` or a date at the end of its name (`-20251001`) makes no difference."""
    return CATALOGUE.get(name) or CATALOGUE.get(_SUFFIX.sub("", name))
