"""The way into the queue: what many tasks submit at the same time goes in one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice

from promptmill.errors import QueueUnavailable
from promptmill.queue import Queue, Submission, Submitted
from promptmill.tasks import end

_Waiting = tuple[Sequence[Submission], "asyncio.Future[list[Submitted]]"]


class Outbox:
    """Sends submissions in the order in which they were handed in, one call at a time.

    While a call is on its way, further submissions gather for the next one. A web app with thousands of requests in
    flight therefore uses one connection and a few round trips, and an idle one waits for nobody.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._waiting: list[_Waiting] = []
        self._sender: asyncio.Task[None] | None = None

    async def submit(self, submissions: Sequence[Submission]) -> list[Submitted]:
        """Queue jobs; for each, in order, what became of it.

        Raises QueueUnavailable: some may be queued then, and submitting all of them again is safe. The same holds
        when the calling task is cancelled meanwhile.
        """
        answer: asyncio.Future[list[Submitted]] = asyncio.get_running_loop().create_future()
        self._waiting.append((submissions, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all(), name="promptmill outbox")
        return await answer

    async def aclose(self) -> None:
        """Stop sending; whoever waits gets QueueUnavailable."""
        if self._sender is not None:
            await end(self._sender)

    async def _send_all(self) -> None:
        gathered: list[_Waiting] = []
        error: Exception = QueueUnavailable("the client was closed before the job was queued")
        try:
            while self._waiting:
                gathered, self._waiting = self._waiting, []
                try:
                    await self._send(gathered)
                except Exception as problem:  # noqa: BLE001 - each caller raises it; the next ones are tried anew
                    _refuse(gathered, problem)
        finally:
            # The task that ends here takes no more: the next submission starts another.
            self._sender = None
            _refuse([*gathered, *self._waiting], error)
            self._waiting = []

    async def _send(self, gathered: list[_Waiting]) -> None:
        answers = iter(await self._queue.submit(one for submissions, _ in gathered for one in submissions))
        for submissions, answer in gathered:
            mine = list(islice(answers, len(submissions)))
            if not answer.done():
                answer.set_result(mine)


def _refuse(gathered: Sequence[_Waiting], problem: Exception) -> None:
    for _, answer in gathered:
        if not answer.done():
            answer.set_exception(problem)
