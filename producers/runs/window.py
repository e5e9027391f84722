"""The jobs of a run that are in Redis: put in, and taken out of the books once the store has their results."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from producers.runs.ledger import Ledger, Line
from producers.runs.store_lookup import settled_lines
from promptmill.errors import BadSettings
from promptmill.queue import Queue, Submission, Submitted, keys
from promptmill.queue.connection import redis_errors
from promptmill.store import ResultStore

WINDOW_BYTES: Final = 256_000_000
"""Payload in Redis at a time, however few jobs that is."""
_ASKED_AT_A_TIME: Final = 1_000


@dataclass(frozen=True, slots=True)
class _Sent:
    line: int
    size: int


class Window:
    """Keeps the jobs in Redis below a bound, so that memory stays flat on both sides.

    A job leaves the window when the store has its result, whoever said that it ended: a message, a look at the queue,
    or an earlier session. Every method may be called again after QueueUnavailable or StoreUnavailable.
    """

    def __init__(self, run: str, *, queue: Queue, store: ResultStore, ledger: Ledger, most: int) -> None:
        self._run = run
        self._queue = queue
        self._store = store
        self._ledger = ledger
        self._most = most
        self._sent: dict[str, _Sent] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    def has_room(self, piece: Collection[Submission]) -> bool:
        """Whether `piece` may be sent now. Into an empty window everything may."""
        size = sum(len(submission.payload) for submission in piece)
        return not self._sent or (len(self._sent) + len(piece) <= self._most and self._bytes + size <= WINDOW_BYTES)

    async def send(self, piece: Iterable[Submission]) -> None:
        """Put jobs into the queue, save those that have ended in the meantime."""
        by_line = {submission.job.position or 0: submission for submission in piece}
        # Between the look at the store that opened the run and this moment, a job of an earlier session may have ended:
        # queued once more, one that failed would be paid for again.
        await self._settle(line for line in by_line if self._ledger[line] is Line.OPEN)
        going = {line: submission for line, submission in by_line.items() if self._ledger.is_open(line)}
        again = [submission.job.id for line, submission in going.items() if self._ledger[line] is Line.AGAIN]
        earlier = await self._store.earlier(again) if again else {}
        answers = await self._queue.submit(
            submission.after(earlier.get(submission.job.id)) for submission in going.values()
        )
        for (line, submission), answer in zip(going.items(), answers, strict=True):
            if answer is not Submitted.ENDED_ALREADY and submission.job.id not in self._sent:
                self._sent[submission.job.id] = _Sent(line, len(submission.payload))
                self._bytes += len(submission.payload)
        if again:
            await self._store.mark_redriven(again)

    async def hear(self, job_ids: Iterable[str]) -> None:
        """Take in that jobs are said to have ended.

        Raises BadSettings where one has left the queue and its result is not in the store: a result is stored before
        its job leaves, so it must be in another store.
        """
        named = [job_id for job_id in job_ids if job_id in self._sent]
        await self._settle_sent(named)
        unknown = [job_id for job_id in named if job_id in self._sent]
        if unknown and (gone := await self._gone(unknown)):
            raise BadSettings(
                f"store_url: {len(gone):,} jobs of this run have ended, but their results are not in this store; "
                "the workers write to another one: give both the same PROMPTMILL_STORE_URL"
            )

    async def recount(self) -> None:
        """Look at every job of the window: messages may have been missed.

        A job that is neither in the queue nor in the store was lost together with Redis' data. It leaves the window,
        and its line stays open, for the next pass over the file.
        """
        gone = await self._gone(list(self._sent))
        await self._settle_sent(gone)
        for job_id in gone:
            self._drop(job_id)

    async def _gone(self, job_ids: list[str]) -> list[str]:
        """Return those that are not in the queue."""
        gone: list[str] = []
        waiting = iter(job_ids)
        while some := list(islice(waiting, _ASKED_AT_A_TIME)):
            with redis_errors():
                scores = await self._queue.redis.zmscore(keys.QUEUE, some)
            gone += [job_id for job_id, score in zip(some, scores, strict=True) if score is None]
        return gone

    async def _settle_sent(self, job_ids: Iterable[str]) -> None:
        by_line = {self._sent[job_id].line: job_id for job_id in job_ids if job_id in self._sent}
        for line in await self._settle(by_line):
            self._drop(by_line[line])

    async def _settle(self, lines: Iterable[int]) -> Collection[int]:
        """Note in the ledger which of `lines` have their result; return them."""
        statuses = await settled_lines(self._store, self._run, lines)
        for line, status in statuses.items():
            self._ledger.settle(line, status)
        return statuses

    def _drop(self, job_id: str) -> None:
        sent = self._sent.pop(job_id, None)
        if sent is not None:
            self._bytes -= sent.size
