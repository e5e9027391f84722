"""Tells how a run goes: gathers the figures and calls back, not more often than anybody can read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Final

from redis.asyncio import Redis

from producers.runs.counters import Spent, read_counters
from producers.runs.ledger import Ledger
from producers.runs.progress import Phase, RateMeter, RunProgress, time_left
from producers.runs.window import Window
from promptmill.results import Status

TICK: Final = timedelta(milliseconds=250)
"""How often progress is told, at most."""

OnProgress = Callable[[RunProgress], None]


class Throttle:
    """Calls back at most once a tick, and has made up what it tells only then."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.time()

    def tell(self, progress: Callable[[], RunProgress], *, now: bool = False) -> None:
        """Tell if a tick has passed, or `now`."""
        time = self._loop.time()
        if now or time >= self._next:
            self._next = time + TICK.total_seconds()
            self._on_progress(progress())


class Teller:
    """The figures of one run. `budget` is in requests a minute."""

    def __init__(
        self,
        throttle: Throttle,
        *,
        run: str,
        ledger: Ledger,
        window: Window,
        redis: Redis,
        model_classes: Collection[str],
        budget: float,
        skipped: int,
    ) -> None:
        self._throttle = throttle
        self._run = run
        self._ledger = ledger
        self._window = window
        self._redis = redis
        self._model_classes = model_classes
        self._budget = budget
        self._skipped = skipped
        self._loop = asyncio.get_running_loop()
        self._meter = RateMeter()
        self._before = Spent()
        self._counted_before = Spent()
        self._spent = Spent()
        self._blocked: str | None = None
        self.done_before = 0
        self.notes: tuple[str, ...] = ()
        self.held: str | None = None
        """Why nothing can be done at all just now."""

    async def begin(self, spent: Spent) -> None:
        """Start counting from what the store says was spent before. Raises QueueUnavailable."""
        self.done_before = self._done
        self._before = self._spent = spent
        self._counted_before, self._blocked = await read_counters(self._redis, self._run, self._model_classes)
        self._meter.note(self._done, self._loop.time())

    async def look(self) -> None:
        """Read what has been spent since. Raises QueueUnavailable."""
        counted, self._blocked = await read_counters(self._redis, self._run, self._model_classes)
        self._spent = self._before + counted.since(self._counted_before)

    def tell(self, phase: Phase, *, share: float | None = None, now: bool = False) -> None:
        """Call back if it is time."""
        self._throttle.tell(lambda: self._progress(phase, share), now=now)

    @property
    def _done(self) -> int:
        return self._ledger.total - self._ledger.open

    def _progress(self, phase: Phase, share: float | None) -> RunProgress:
        self._meter.note(self._done, self._loop.time())
        rate = self._meter.per_minute()
        return RunProgress(
            phase=phase,
            run=self._run,
            share=self._done / self._ledger.total if share is None else share,
            total=self._ledger.total,
            done=self._done,
            failed=self._done - self._ledger.ended[Status.SUCCEEDED],
            before=self.done_before,
            in_queue=len(self._window),
            skipped=self._skipped,
            rate_per_minute=rate,
            budget_per_minute=self._budget,
            input_tokens=self._spent.input_tokens,
            output_tokens=self._spent.output_tokens,
            cost_usd=self._spent.cost_usd,
            time_left=time_left(self._ledger.open, rate, self._budget),
            held=self.held or self._blocked,
            notes=self.notes,
        )
