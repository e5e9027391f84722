"""The result store as the rest of promptmill sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Final, Self

from promptmill.results import Attempt, DeadLetter, Earlier, Result, Status
from promptmill.store import aggregates, failures, letters, migrate, runs
from promptmill.store.acting import Acting
from promptmill.store.aggregates import Grouping, Latency, Spend
from promptmill.store.canary_answers import CanaryAnswer, canary_answers
from promptmill.store.columns import key_of
from promptmill.store.database import Database, connect
from promptmill.store.entries import Entry, Run, RunTotals, SettledLine
from promptmill.store.failures import Fallbacks, Outcomes
from promptmill.store.quality import Chosen, SeriesMetric, read_quality
from promptmill.store.reading import Reading, Selection
from promptmill.store.recording import Batch, Recording
from promptmill.store.sums import HOUR
from promptmill.store.watching import Watching

LOCK_WAIT: Final = timedelta(seconds=30)
"""How long other processes may hold a SQLite file's write lock, each for milliseconds, before that is a failure."""

_IDS_A_STATEMENT: Final = 500


class ResultStore:
    """Results, attempts, dead letters and runs, in SQLite or PostgreSQL.

    Every method raises StoreUnavailable where the database does not answer or cannot write; the store reconnects by
    itself, so the same call may be made again later. One store serves any number of tasks of one event loop.
    """

    def __init__(self, database: Database) -> None:
        """Use `ResultStore.open`."""
        self._database = database
        self._recording = Recording(database)
        self._reading = Reading(database)
        self.watching = Watching(database)
        """What the watcher of answers reads and writes, and alarms."""
        self.acting = Acting(database)
        """What is done about alarms."""

    @classmethod
    async def open(cls, url: str, *, migrate: bool = True, make: bool = True, lock_wait: timedelta = LOCK_WAIT) -> Self:
        """Return the store at `url`: sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE.

        With `migrate`, a new or older schema is brought up to date; any number of processes may do so at once. Without
        it, the caller sees to it with `upgrade`. Whoever only reads, or knows that there was one, does not `make` one.

        Raises BadSettings for an address that cannot be used, MissingExtra where the database's driver is not
        installed, StoreTooNew where a later promptmill wrote the schema, StoreMissing where there is none and none is
        to be made, and StoreUnavailable.
        """
        store = cls(connect(url, lock_wait=lock_wait))
        try:
            await (store.upgrade(make=make) if migrate else store.schema_version())
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Wait for what is being written, then close every connection."""
        await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def schema_version(self) -> str | None:
        """Return the last migration that was made; None where there is no schema yet. Raises StoreTooNew."""
        return await migrate.check(self._database)

    async def upgrade(self, *, make: bool = True) -> None:
        """Bring the schema up to date. Raises StoreTooNew; StoreMissing where there is none and none is to be made."""
        await migrate.upgrade(self._database, make=make)

    # Writing

    async def record(self, entries: Sequence[Entry]) -> None:
        """Write `entries` in one transaction; they are kept for good when this returns.

        The same entries again change nothing, so after a failure, or a cancellation, of which nobody knows whether the
        transaction was committed, they are simply recorded again. A result that succeeded is never overwritten; a
        failed, cancelled or expired one gives way to what a redriven job came to. A success takes the job's dead letter
        away. Raises BadInput, having written nothing, where a value can never be stored.
        """
        batch = Batch.of(entries)
        await self._database.write(partial(self._recording.write, batch=batch))

    # Results

    async def finished(self, job_ids: Collection[str]) -> dict[str, Result]:
        """Return, by job id, the results that must not be paid for again: those that succeeded."""
        return await self._by_id(job_ids, succeeded=True)

    async def result(self, job_id: str) -> Result | None:
        """Return the final result of a job, whatever its status."""
        return (await self._by_id([job_id], succeeded=False)).get(job_id)

    async def attempts(self, job_ids: Collection[str]) -> dict[str, tuple[Attempt, ...]]:
        """Return, by job id, the attempts recorded so far, in order; a job without any is missing."""
        names = {key_of(job_id): job_id for job_id in job_ids}
        found: dict[str, tuple[Attempt, ...]] = {}
        for ids in _chunks(list(names)):
            part = await self._database.read(partial(self._reading.attempts, ids=ids))
            found.update((names[key], tuple(tried)) for key, tried in part.items())
        return found

    async def earlier(self, job_ids: Collection[str]) -> dict[str, Earlier]:
        """Return what is known of jobs that are to be sent again; one that never was is missing."""
        tried, ended = await self.attempts(job_ids), await self._by_id(job_ids, succeeded=False)
        return {
            job_id: Earlier(
                requests=tried[job_id][-1].number if job_id in tried else 0,
                status=ended[job_id].status if job_id in ended else None,
                cost_usd=ended[job_id].cost_usd if job_id in ended else None,
            )
            for job_id in {*tried, *ended}
        }

    def results(
        self,
        *,
        run: str | None = None,
        status: Status | None = None,
        since: datetime | None = None,
        lane: str | None = None,
        model: str | None = None,
        tag: tuple[str, str] | None = None,
        canaries: bool = True,
        in_input_order: bool = False,
    ) -> AsyncIterator[Result]:
        """Yield the results that satisfy every condition given, in the order in which their jobs first ended.

        `since` is compared with `finished_at`; `tag` is a name and its value; `canaries` says whether theirs are among
        them. With `in_input_order`, which needs a run, they come by position instead, those without one last. Read in
        pages, so memory stays flat for millions; results that are recorded meanwhile may or may not be among them, none
        comes twice.
        """
        chosen = Selection(run=run, status=status, since=since, lane=lane, model=model, tag=tag, canaries=canaries)
        return self._reading.stream(chosen, in_input_order=in_input_order)

    # What it comes to

    async def spend(self, *, since: datetime, by: Grouping = "model") -> list[Spend]:
        """Return tokens and money of every request that ended since then, by the hour and by model, lane or tag.

        `by` is "model" (each request counts for the model that it asked, also before a fallback), "lane", or ("tag",
        its name).
        """
        return await self._database.read(partial(aggregates.spend, database=self._database, since=since, by=by))

    async def latency(self, *, since: datetime) -> list[Latency]:
        """Return exact percentiles of how long the answers since then took, by model and lane, canaries left out."""
        return await self._database.read(partial(aggregates.latency, since=since))

    async def outcomes(self, *, since: datetime) -> list[Outcomes]:
        """Return what the requests that ended since then came to, and whose fault it was, by model and hour."""
        return await self._database.read(partial(failures.outcomes, database=self._database, since=since))

    async def fallbacks(self, *, since: datetime) -> list[Fallbacks]:
        """Return which answers since then came from another model than was asked first, and why, by the hour."""
        return await self._database.read(partial(failures.fallbacks, database=self._database, since=since))

    async def quality(
        self,
        *,
        since: datetime,
        every: timedelta = HOUR,
        model: str | None = None,
        kind: str | None = None,
        lane: str | None = None,
    ) -> list[SeriesMetric]:
        """Return what the metrics of answers since then come to, by series and metric, in spans of whole hours.

        `model` is the one that answered. The span that `since` is in counts as a whole.
        """
        return await read_quality(self._database, Chosen(since, model, kind, lane), every)

    async def canary_answers(self, *, since: datetime) -> list[CanaryAnswer]:
        """Return how the canaries ended that did since then, in order; see `promptmill.canaries.standing`."""
        return await self._database.read(partial(canary_answers, database=self._database, since=since))

    # Runs

    async def save_run(self, run: Run) -> None:
        """Write down a run, over what was known of it."""
        await self._database.write(partial(runs.save, database=self._database, run=run))

    async def run(self, run_id: str) -> Run | None:
        """Return the run of this id."""
        return await self._database.read(partial(runs.load, run_id=run_id))

    async def runs(self, *, limit: int = 100) -> list[Run]:
        """Return the runs that started last, the newest first."""
        return await self._database.read(partial(runs.newest, limit=limit))

    async def run_totals(self, run_id: str) -> RunTotals:
        """Return how many results of each status a run has, the tokens used and the exact cost."""
        return await self._database.read(partial(runs.totals, run_id=run_id))

    def settled(self, run_id: str, *, after: int = 0) -> AsyncIterator[SettledLine]:
        """Yield the lines of a run behind position `after` that have a final result, by position.

        In step with the input file, which is in the same order, this tells what a resumed run need not submit again
        without holding either in memory.
        """
        return self._reading.settled(run_id, after)

    # Dead letters

    async def dead_letters(
        self, *, reason: str | None = None, limit: int = 100, after: DeadLetter | None = None
    ) -> list[DeadLetter]:
        """Return dead letters that are open, neither redriven nor answered since; the oldest first, behind `after`."""
        return await self._database.read(partial(letters.page, reason=reason, limit=limit, after=after))

    async def dead_letter_reasons(self) -> dict[str, int]:
        """Return how many dead letters of each reason are open, the most frequent first."""
        return await self._database.read(letters.reasons)

    async def count_dead_letters(self) -> int:
        """Return how many dead letters are open."""
        return await self._database.read(letters.count)

    async def dead_letter(self, job_id: str) -> DeadLetter | None:
        """Return the open dead letter of a job."""
        return await self._database.read(partial(letters.load, job_id=job_id))

    async def mark_redriven(self, job_ids: Collection[str]) -> int:
        """Close the dead letters of jobs that are back in the queue; return how many were open."""
        count = 0
        for ids in _chunks(sorted(job_ids)):
            mark = partial(letters.mark_redriven, database=self._database, ids=ids)
            count += await self._database.write(mark)
        return count

    async def purge_dead(self, *, before: datetime, reason: str | None = None) -> int:
        """Delete the dead letters, open or redriven, of jobs that died before this time; return how many there were.

        Their payloads, which hold prompts, are gone then; their results stay.
        """
        return await self._database.write(partial(letters.purge, before=before, reason=reason))

    async def _by_id(self, job_ids: Collection[str], *, succeeded: bool) -> dict[str, Result]:
        names = {key_of(job_id): job_id for job_id in job_ids}
        found: dict[str, Result] = {}
        for ids in _chunks(list(names)):
            read = partial(self._reading.by_id, ids=ids, succeeded=succeeded)
            found.update((names[result.job_id], result) for result in await self._database.read(read))
        return found


def _chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _IDS_A_STATEMENT] for start in range(0, len(ids), _IDS_A_STATEMENT)]
