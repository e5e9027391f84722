"""What the answers to canaries come to: how many pass, which fail that used to pass, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from promptmill.store.canary_answers import CanaryAnswer


@dataclass(frozen=True, slots=True)
class Passed:
    """How many of so many answers passed."""

    passed: int
    answers: int

    @property
    def share(self) -> float | None:
        """On 0..1; None of no answer."""
        return self.passed / self.answers if self.answers else None


@dataclass(frozen=True, slots=True)
class Failing:
    """A canary whose newest answer failed."""

    canary: str
    since: datetime
    """When the first of its failed answers ended that no good one followed."""
    fails: int
    passed_before: int
    """How often in a row it had passed until then."""
    job_id: str
    """Of its newest answer."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one model does, by the newest set that it was asked."""

    model: str
    kind: str
    """Of the set: the series of its answers are of this kind."""
    round: str
    """The newest that was answered."""
    at: datetime
    """When its last answer came."""
    unanswered: int
    """Of that round: expired, cancelled or failed."""
    now: Passed
    """That round."""
    before: Passed
    """All earlier ones."""
    fails: tuple[int, ...]
    """Of each round, the newest last."""
    failing: tuple[Failing, ...]
    """Those that passed before first, the longest first: what a model never could says little."""


def standings(answers: Iterable[CanaryAnswer]) -> list[Standing]:
    """Return how each model does; `answers` are in order."""
    by_model: dict[str, list[CanaryAnswer]] = {}
    for answer in answers:
        by_model.setdefault(answer.model, []).append(answer)
    return [_standing(model, of_it) for model, of_it in sorted(by_model.items())]


def _standing(model: str, answers: Sequence[CanaryAnswer]) -> Standing:
    kind = answers[-1].kind
    of_the_set = [answer for answer in answers if answer.kind == kind]
    newest = of_the_set[-1].round
    last = [answer for answer in of_the_set if answer.round == newest]
    fails = dict.fromkeys((answer.round for answer in of_the_set), 0)
    by_canary: dict[str, list[CanaryAnswer]] = {}
    for answer in of_the_set:
        fails[answer.round] += answer.passed is False
        if answer.passed is not None:
            by_canary.setdefault(answer.canary, []).append(answer)
    failing = [_failing(one) for one in by_canary.values() if not one[-1].passed]
    return Standing(
        model=model,
        kind=kind,
        round=newest,
        at=last[-1].finished_at,
        unanswered=sum(not answer.answered for answer in last),
        now=_passed(last),
        before=_passed(answer for answer in of_the_set if answer.round != newest),
        fails=tuple(fails.values()),
        failing=tuple(sorted(failing, key=lambda one: (-one.passed_before, one.canary))),
    )


def _passed(answers: Iterable[CanaryAnswer]) -> Passed:
    known = [answer.passed for answer in answers if answer.passed is not None]
    return Passed(sum(known), len(known))


def _failing(answers: Sequence[CanaryAnswer]) -> Failing:
    verdicts = [answer.passed for answer in answers]
    fails = _run_at_the_end(verdicts, of=False)
    return Failing(
        canary=answers[-1].canary,
        since=answers[-fails].finished_at,
        fails=fails,
        passed_before=_run_at_the_end(verdicts[:-fails], of=True),
        job_id=answers[-1].job_id,
    )


def _run_at_the_end(verdicts: Sequence[bool | None], *, of: bool) -> int:
    return next((count for count, one in enumerate(reversed(verdicts)) if one is not of), len(verdicts))
