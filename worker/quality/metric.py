"""What a metric is: one number or truth about one answer, and which way it moves when answers get worse."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from promptmill.expectations import Expectation
from promptmill.metrics import Kind, Worse
from worker.quality import instructions
from worker.quality.answer import Answer
from worker.quality.reading import Reading

__all__ = ["Kind", "Metric", "Subject", "Worse"]


class Subject:
    """An answer, what was asked, and what was expected: everything that a metric may look at."""

    def __init__(
        self,
        answer: Answer,
        request: Mapping[str, Any],
        expectation: Expectation | None,
        tags: Mapping[str, str],
    ) -> None:
        self.answer = answer
        self.request = request
        """The Messages API body that was sent: of any shape, never trusted."""
        self.expectation = expectation
        self.tags = tags
        """The job's."""
        self.reading = Reading(answer.text)

    @cached_property
    def verdicts(self) -> tuple[instructions.Verdict, ...]:
        """What was asked for, and whether the answer does it."""
        return instructions.verdicts(
            self.reading,
            request=self.request,
            expectation=self.expectation,
            stop_reason=self.answer.stop_reason,
        )


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of an answer."""

    name: str
    kind: Kind
    worse: Worse
    of: Callable[[Subject], bool | float | None]
    """None where the metric does not apply to this answer."""
    explained_by: Callable[..., Any] | None = None
    """Whose docstring says what the metric sees and what it cannot see; None: `of` itself."""

    @property
    def explanation(self) -> str:
        """What the metric sees and cannot see."""
        return inspect.getdoc(self.explained_by or self.of) or ""
