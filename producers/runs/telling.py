"""Tells how a run goes: gathers the figures and calls back, not more often than anybody can read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from producers.files import Demand
from producers.finish import say_finish
from producers.runs.counters import Spent, read_counters
from producers.runs.foresight import RunForesight
from producers.runs.ledger import Ledger
from producers.runs.progress import Phase, RateMeter, RunProgress
from producers.runs.window import Window
from promptmill.caps import SpendCap
from promptmill.errors import QueueUnavailable
from promptmill.queue import Queue
from promptmill.queue.held import why_held
from promptmill.results import Status

TICK: Final = timedelta(milliseconds=250)
"""How often progress is told, at most."""
LOOK_AHEAD_EVERY: Final = timedelta(seconds=2)

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
        queue: Queue,
        demand: Demand,
        budget: float,
        caps: Sequence[SpendCap],
        skipped: int,
    ) -> None:
        self._throttle = throttle
        self._run = run
        self._ledger = ledger
        self._window = window
        self._queue = queue
        self._demand = demand
        self._model_classes = demand.model_classes
        self._budget = budget
        self._caps = caps
        self._skipped = skipped
        self._loop = asyncio.get_running_loop()
        self._meter = RateMeter()
        self._foresight = RunForesight(demand)
        self._finish: float | None = None
        """When the run will be done, on the loop's clock; None where nobody can know."""
        self._look_ahead_at = 0.0
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
        self._counted_before = await read_counters(self._queue.redis, self._run)
        self._meter.note(self._done, self._loop.time())

    async def look(self) -> None:
        """Read what has been spent since, and now and then look ahead. Raises QueueUnavailable."""
        counted = await read_counters(self._queue.redis, self._run)
        self._spent = self._before + counted.since(self._counted_before)
        lanes = {part.lane for part in self._demand.parts if part.open_lines}
        blocked = await why_held(self._queue.redis, self._model_classes, caps=self._caps, lanes=lanes)
        self._blocked = "; ".join(blocked) or None
        if self._loop.time() >= self._look_ahead_at:
            await self._look_ahead()
            self._look_ahead_at = self._loop.time() + LOOK_AHEAD_EVERY.total_seconds()

    async def _look_ahead(self) -> None:
        backlogs = {name: await self._queue.backlog(name, caps=self._caps) for name in self._model_classes}
        left = self._foresight.look(backlogs, self._spent, len(self._window))
        self._finish = None if left is None else self._loop.time() + left.total_seconds()
        now = datetime.fromtimestamp(max(backlog.now for backlog in backlogs.values()) / 1000, UTC)
        with suppress(QueueUnavailable):  # of a Redis without memory, say: the run goes on without it
            await say_finish(self._queue.redis, self._run, left, now)

    def tell(self, phase: Phase, *, share: float | None = None, now: bool = False) -> None:
        """Call back if it is time."""
        self._throttle.tell(lambda: self._progress(phase, share), now=now)

    @property
    def _done(self) -> int:
        return self._ledger.total - self._ledger.open

    def _progress(self, phase: Phase, share: float | None) -> RunProgress:
        self._meter.note(self._done, self._loop.time())
        left = None if self._finish is None else timedelta(seconds=max(0.0, self._finish - self._loop.time()))
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
            rate_per_minute=self._meter.per_minute(),
            budget_per_minute=self._budget,
            input_tokens=self._spent.input_tokens,
            output_tokens=self._spent.output_tokens,
            cost_usd=self._spent.cost_usd,
            time_left=left if phase is Phase.SENDING and self.held is None else None,
            held=self.held or self._blocked,
            notes=self.notes,
        )
