"""What a good answer to a job looks like, as its owner states it. Checked by `worker.quality` after the call."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_PATTERN_CHARS = 1_000


class Expectation(BaseModel):
    """Checks on an answer's text. Every check is optional; an empty expectation expects nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    similar_to: str | None = None
    """A known good answer: similarity to it is measured on 0..1."""
    contains: tuple[str, ...] = ()
    """Each must appear, letter case ignored."""
    excludes: tuple[str, ...] = ()
    """None may appear, letter case ignored."""
    matches: str | None = Field(default=None, max_length=MAX_PATTERN_CHARS)
    """A Python regular expression that must be found somewhere in the text."""
    format: Literal["text", "json", "markdown", "code"] | None = None
    """The form of the whole answer; `json` must parse, `code` must hold a fenced block."""
    json_schema: dict[str, Any] | None = None
    """A JSON Schema that the parsed answer must satisfy; implies `format="json"`."""
    min_words: Annotated[int, Field(ge=0)] | None = None
    max_words: Annotated[int, Field(ge=1)] | None = None
    language: Annotated[str, Field(pattern=r"^[a-z]{2}$")] | None = None
    """ISO 639-1 code of the language that the answer should be in."""

    @field_validator("contains", "excludes", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("matches")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"expected a regular expression, got {pattern!r}: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _words_in_order(self) -> Expectation:
        if self.min_words is not None and self.max_words is not None and self.min_words > self.max_words:
            raise ValueError(f"min_words ({self.min_words}) is above max_words ({self.max_words})")
        return self
