"""One file of prompts worked off, from the first look at it to the answers file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from producers.files import Checked, PromptFile, check
from producers.runs.answers import AnswersFile
from producers.runs.counters import Spent
from producers.runs.feed import feed
from producers.runs.follower import RunFollower
from producers.runs.identity import LineJobs, run_id
from producers.runs.ledger import Ledger
from producers.runs.options import RunOptions
from producers.runs.progress import Phase, RunProgress
from producers.runs.summary import RunSummary, SummaryCollector
from producers.runs.telling import TICK, OnProgress, Teller, Throttle
from producers.runs.window import Window
from promptmill.errors import QueueUnavailable, StoreUnavailable, Unavailable
from promptmill.queue import Queue
from promptmill.queue.connection import redis_errors
from promptmill.results import Status
from promptmill.settings import Settings
from promptmill.store import ResultStore, Run

RECOUNT: Final = timedelta(seconds=30)
"""How often the whole window is looked at although nothing says that a message was missed."""
PAUSE: Final = timedelta(seconds=1)
"""Between two attempts while Redis or the store is away."""

_FRUITLESS_PASSES: Final = 3
_RUNS_LOOKED_AT: Final = 1_000


async def run_file(
    path: Path,
    out: Path,
    settings: Settings,
    *,
    queue: Queue,
    store: ResultStore,
    options: RunOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> RunSummary:
    """Put the prompts of the file `path` through the queue and write the answers, in the same order, to `out`.

    Workers, Redis and the store are the caller's. The same command again goes on where this one stopped, wherever that
    was: when it is cancelled, its jobs stay queued and nothing is written. `on_progress` is called at most four times a
    second.

    Raises, before anything is sent, BadInput (BadFile with the problems of each line), CannotWrite, QueueUnavailable
    and StoreUnavailable. When Redis or the store goes away later, the run waits for them.
    """
    options = options or RunOptions()
    file = PromptFile(path, format=options.format, template=options.template)
    with AnswersFile.reserve(out, prompts=path) as answers:
        with redis_errors():
            await queue.redis.ping()
        throttle = Throttle(on_progress)
        checked = await check(
            file,
            LineJobs(settings, options=options),
            skip_bad=options.skip_bad,
            on_progress=lambda share: throttle.tell(lambda: RunProgress(Phase.CHECKING, share=share)),
        )
        run = FileRun(file, out, checked, settings, queue=queue, store=store, options=options, throttle=throttle)
        await run.begin()
        await run.work_off()
        return await run.write(answers)


class FileRun:
    """A run whose file has been checked: `begin`, `work_off`, `write`."""

    def __init__(
        self,
        file: PromptFile,
        out: Path,
        checked: Checked,
        settings: Settings,
        *,
        queue: Queue,
        store: ResultStore,
        options: RunOptions,
        throttle: Throttle,
    ) -> None:
        self.id: Final = run_id(out, checked.digest, file, settings)
        self._file = file
        self._out = out
        self._checked = checked
        self._queue = queue
        self._store = store
        self._retry_failed = options.retry_failed
        self._make = LineJobs(settings, run=self.id, options=options)
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        self._began_at = self._loop.time()
        self._recount_at = 0.0
        self._budget = budget_per_minute(checked.demand.model_classes, settings)
        self._ledger = Ledger(checked.usable, on_end=checked.demand.end)
        self._window = Window(self.id, queue=queue, store=store, ledger=self._ledger, most=options.window)
        self._teller = Teller(
            throttle,
            run=self.id,
            ledger=self._ledger,
            window=self._window,
            queue=queue,
            demand=checked.demand,
            budget=self._budget,
            caps=settings.caps,
            skipped=checked.bad,
        )
        self._record = Run(
            id=self.id,
            input_name=os.path.abspath(file.path),  # noqa: PTH100 - a link keeps its own name
            output_name=os.path.abspath(out),  # noqa: PTH100
            started_at=datetime.now(UTC),
            total_lines=checked.good,
            options={
                "format": file.format,
                "template": None if file.template is None else file.template.text,
                "model": settings.model,
                "max_tokens": settings.max_tokens,
                "lane": options.lane.value,
            },
        )
        self._session_began = self._record.started_at

    async def begin(self) -> None:
        """Find out what earlier sessions have done. Raises StoreUnavailable or QueueUnavailable."""
        known = await self._store.run(self.id)
        replaced = None if known else await self._run_of_the_same_output()
        if known is not None:
            self._record = replace(self._record, started_at=known.started_at)
        await self._store.save_run(self._record)
        async for line in self._store.settled(self.id):
            if self._retry_failed and line.status is not Status.SUCCEEDED:
                self._ledger.try_again(line.position)
            else:
                self._ledger.settle(line.position, line.status)
        spent = Spent()
        if known is not None:
            totals = await self._store.run_totals(self.id)
            spent = Spent(totals.usage.limited_input_tokens, totals.usage.output_tokens, totals.cost_usd)
        await self._teller.begin(spent)
        self._teller.notes = tuple(self._notes(known, replaced))
        self._teller.tell(Phase.SENDING, now=True)

    async def work_off(self) -> None:
        """Send every open line and return when each has its result in the store.

        Raises BadFile where somebody writes to the file meanwhile, and BadSettings where workers use another store.
        """
        async with RunFollower(self._queue.redis, self.id) as follower:
            fruitless = 0
            while self._ledger.open:
                before = self._ledger.open
                await self._pass(follower)
                # Left open by a whole pass are only lines whose jobs were lost together with Redis' data.
                fruitless = 0 if self._ledger.open < before else fruitless + 1
                if fruitless == _FRUITLESS_PASSES:
                    raise QueueUnavailable(
                        f"{self._ledger.open:,} jobs disappeared from Redis {fruitless} times without a result; "
                        "promptmill doctor checks its persistence and eviction policy"
                    )

    async def write(self, answers: AnswersFile) -> RunSummary:
        """Write the answers in the order of the file; return what the run came to.

        Raises CannotWrite and StoreUnavailable.
        """
        collector = SummaryCollector(since=self._session_began)
        async for result in self._store.results(run=self.id, in_input_order=True):
            if result.position is not None and self._ledger.has_ended(result.position):
                answers.write(result)
                collector.add(result)
                self._teller.tell(Phase.WRITING, share=collector.results / self._ledger.total)
        if collector.results != self._ledger.total:
            raise StoreUnavailable(
                f"expected {self._ledger.total:,} results of run {self.id}, got {collector.results:,}: "
                "somebody has removed some; the same command sends what is missing again"
            )
        await asyncio.to_thread(answers.publish)
        await self._store.save_run(replace(self._record, finished_at=datetime.now(UTC)))
        self._teller.tell(Phase.DONE, now=True)
        return collector.summary(
            run=self.id,
            output=self._out,
            skipped=self._checked.bad,
            problems=self._checked.problems,
            budget_per_minute=self._budget,
            answered_before=self._teller.done_before,
            wall_time=timedelta(seconds=self._loop.time() - self._began_at),
        )

    async def _pass(self, follower: RunFollower) -> None:
        """Go through the file once, sending every line that is open, and wait until nothing is under way."""
        with self._file.reading() as reading:
            async with aclosing(feed(reading, self._make, self._ledger.is_open)) as pieces:
                async for piece in pieces:
                    while not self._window.has_room(piece):
                        await self._patiently(partial(self._follow, follower), follower)
                    await self._patiently(partial(self._window.send, piece), follower)
                    self._teller.tell(Phase.SENDING)
        while self._window:
            await self._patiently(partial(self._follow, follower), follower)

    async def _follow(self, follower: RunFollower) -> None:
        """Wait a moment, then take in what has ended."""
        await follower.hear(enough=len(self._window), longest=TICK)
        await self._window.hear(follower.take())
        if follower.gaps or self._loop.time() >= self._recount_at:
            follower.gaps = False
            await self._window.recount()
            self._recount_at = self._loop.time() + RECOUNT.total_seconds()
        await self._teller.look()
        self._teller.tell(Phase.SENDING)

    async def _patiently(self, step: Callable[[], Awaitable[None]], follower: RunFollower) -> None:
        """Do `step`, again and again while Redis or the store is away."""
        while True:
            try:
                await step()
            except Unavailable as error:
                follower.gaps = True  # what was announced and taken may not have been looked up
                self._teller.held = str(error)
                self._teller.tell(Phase.SENDING)
                await asyncio.sleep(PAUSE.total_seconds())
            else:
                self._teller.held = None
                break
        if self._task is not None and self._task.cancelling() > self._cancelling:
            # Redis' client may have lost the cancellation on the way: see `promptmill.tasks.end`.
            raise asyncio.CancelledError

    async def _run_of_the_same_output(self) -> Run | None:
        runs = await self._store.runs(limit=_RUNS_LOOKED_AT)
        return next((run for run in runs if run.output_name == self._record.output_name), None)

    def _notes(self, known: Run | None, replaced: Run | None) -> list[str]:
        done, total = self._ledger.total - self._ledger.open, self._ledger.total
        notes = []
        if self._checked.bad:
            notes.append(f"{self._checked.bad:,} bad lines are left out; first {self._checked.problems[0]}")
        if replaced is not None:
            changed = "the prompts" if replaced.input_name == self._record.input_name else "the prompt file"
            notes.append(
                f"{changed} or how requests are made of them changed since run {replaced.id}, "
                f"which wrote to {self._out.name}: this is a new run"
            )
        elif done == total:
            notes.append(f"all {total:,} lines have their result already: the answers are written again")
        elif known is not None:
            notes.append(f"going on: {done:,} of {total:,} lines have their result already")
        return notes


def budget_per_minute(model_classes: Iterable[str], settings: Settings) -> float:
    """Return the requests a minute that the settings allow for models of these classes together."""
    return sum(settings.limits(name).requests for name in model_classes) * (1 - settings.headroom)
