"""Sends canaries on a schedule. `python -P -m worker.canaries FILE` checks a set, and says what a round costs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from promptmill.canaries.rounds import models_asked, round_name, send_more_rounds, send_present_round
from promptmill.canaries.schedule import round_at
from promptmill.canaries.sets import STARTER, Canary, CanarySet, bad_set, load
from promptmill.errors import BadSettings, PromptmillError
from promptmill.models import UnknownModel
from promptmill.queue import Queue
from promptmill.results import Usage
from promptmill.settings import Settings
from worker import events
from worker.pricing import cost_usd
from worker.quality import Answer, measure


def load_canaries(settings: Settings) -> CanarySet:
    """Return the set that `settings` name, else the starter set: alarms may ask for canaries that no schedule sends.

    Raises BadFile for one that cannot be used or contradicts itself, and BadSettings for a model without limits.
    """
    for model in settings.canary_models:
        try:
            settings.class_of(model)
        except UnknownModel as error:
            raise BadSettings(f"canary_models: {error}") from None
    return load_checked(settings.canaries or STARTER, settings)


def load_checked(name: str, settings: Settings) -> CanarySet:
    """Return a set in which each known good answer passes the checks that stand beside it. Raises BadFile."""
    found = load(name, max_tokens=settings.max_tokens)
    problems = [
        (
            one.line,
            "expect",
            f"expected similar_to to pass them and do what the prompt asks for, got one that fails {failed}",
        )
        for one in found.canaries
        if (failed := _failed_by_its_own(one, settings.model))
    ]
    if problems:
        raise bad_set(name, problems)
    return found


def _failed_by_its_own(canary: Canary, model: str) -> str:
    """Return the names of the checks that the known good answer fails, those that the prompt's own words make too."""
    known = canary.expect.similar_to
    if known is None:
        return ""
    quality = measure(
        Answer(known, stop_reason="end_turn"), request=canary.request_to(model), expectation=canary.expect
    )
    return ", ".join(verdict["name"] for verdict in quality["instructions"] if verdict["followed"] is False)


class Canaries:
    """Sees to it that rounds are in the queue. One for a worker; the rounds of a fleet are the same jobs."""

    def __init__(
        self,
        queue: Queue,
        settings: Settings,
        canaries: CanarySet,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._canaries = canaries
        self._now = now
        self._log = structlog.get_logger()

    async def send_round(self) -> None:
        """Queue what is not queued yet of the present round, for each model. Raises QueueUnavailable."""
        now = self._now()
        for model in models_asked(self._settings):
            queued = await send_present_round(self._queue, self._settings, self._canaries, model, now)
            if queued:
                began = round_name(round_at(now, self._settings.canary_every))
                self._log.info(events.CANARIES_SENT, model=model, round=began, canaries=queued)

    async def send_more(self, model: str, alarm_at: datetime, rounds: int) -> None:
        """Queue so many rounds beside those that are due, for all alarms between two of these: they come in swarms.

        Raises BadInput where nothing can be sent to `model`, and QueueUnavailable.
        """
        name, now = f"alarm-{round_name(round_at(alarm_at, self._settings.canary_every))}", self._now()
        await send_more_rounds(self._queue, self._settings, self._canaries, model, name=name, rounds=rounds, now=now)


def main(name: str) -> int:
    """Check a set of canaries; say what a round of it costs, or what is wrong; return the exit code."""
    try:
        settings = Settings.load()
        found = load_checked(name, settings)
    except PromptmillError as error:
        _say(f"promptmill: {error}", *(_line(*problem) for problem in getattr(error, "problems", ())[1:20]))
        return 2
    print(f"{len(found.canaries)} canaries in {name}; a round takes about")  # noqa: T201 - the output proper
    for model in models_asked(settings):
        given, good, most = found.tokens(model)
        usual, worst = (cost_usd(Usage(given, output), model, at=datetime.now(UTC)) for output in (good, most))
        usd = "" if usual is None or worst is None else f": USD {usual:.4f}, at most {worst:.4f}"
        print(f"  {model}: {given:,} tokens in, {good:,} out and what it thinks (at most {most:,}){usd}")  # noqa: T201
    return 0


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr)  # noqa: T201 - the command line's own way of refusing


def _line(line: int, field: str, reason: str) -> str:
    return f"  line {line}: {field}: {reason}" if field else f"  line {line}: {reason}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
