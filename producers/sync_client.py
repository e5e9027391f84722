"""The client for code without asyncio: Django, Flask, scripts, notebooks.

client = SyncClient("redis://localhost")
print(client.ask("Why is the sky blue? One sentence.").text)
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from producers.client import Client, Prompt, Timeout
from producers.idempotency import check_answer
from producers.status import JobStatus
from promptmill.errors import QueueUnavailable
from promptmill.jobs import Lane
from promptmill.queue import Submitted
from promptmill.results import Result
from promptmill.settings import Settings
from promptmill.tasks import end

_T = TypeVar("_T")

_CLOSED: Final = "the client was closed while a call was under way"


@dataclass(frozen=True, slots=True)
class SyncHandle:
    """A job that was submitted."""

    client: SyncClient
    job_id: str
    submitted: Submitted
    """Whether it was queued now, was there already, or has ended already."""
    request_ref: str | None = None
    """Of a job with an idempotency key: the request that its answer must be to."""

    def result(self, timeout: Timeout = None) -> Result:
        """Return the job's result as soon as it is there; see `Handle.result`."""
        result = self.client.result(self.job_id, timeout)
        if self.request_ref is not None:
            check_answer(result, self.request_ref)
        return result

    def status(self) -> JobStatus:
        """Return where the job is; see `Client.status`."""
        return self.client.status(self.job_id)

    def time_left(self) -> timedelta | None:
        """Return the time until the job has ended; see `Client.time_left`."""
        return self.client.time_left(self.job_id)

    def cancel(self) -> str:
        """Stop the job; see `Client.cancel`."""
        return self.client.cancel([self.job_id])[self.job_id]


class SyncClient:
    """`Client`, with methods that block. Any number of threads may share one.

    An event loop in a background thread does the work, started at the first call. After a fork, as under gunicorn with
    preloading, the child starts its own with connections of its own; the parent's go on undisturbed.
    """

    def __init__(self, settings: Settings | str | None = None) -> None:
        if not isinstance(settings, Settings):
            settings = Settings.load(redis_url=settings)
        self.settings: Final = settings
        self._lock = threading.Lock()
        self._portal: _Portal | None = None
        self._left_behind: list[_Portal | None] = []
        _CLIENTS.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread; jobs stay queued. The next call starts anew."""
        with self._lock:
            portal, self._portal = self._portal, None
        if portal is not None:
            portal.close()

    def submit(self, prompt: Prompt | None = None, /, **fields: Any) -> SyncHandle:
        """Queue one job; see `Client.submit`."""
        handle = self._call(lambda client: client.submit(prompt, **fields))
        return SyncHandle(self, handle.job_id, handle.submitted, handle.request_ref)

    def submit_many(self, prompts: Iterable[Prompt], /, **fields: Any) -> list[SyncHandle]:
        """Queue any number of jobs; see `Client.submit_many`."""
        # Read here: an iterable may belong to this thread, as a database cursor does.
        given = list(prompts)
        handles = self._call(lambda client: client.submit_many(given, **fields))
        return [SyncHandle(self, handle.job_id, handle.submitted) for handle in handles]

    def ask(self, prompt: Prompt | None = None, /, *, timeout: Timeout = None, **fields: Any) -> Result:
        """Submit one job and return its result; see `Client.ask`."""
        return self._call(lambda client: client.ask(prompt, timeout=timeout, **fields))

    def result(self, job_id: str, timeout: Timeout = None) -> Result:
        """Return the result of a job as soon as it is there; see `Client.result`."""
        return self._call(lambda client: client.result(job_id, timeout))

    def status(self, job_id: str) -> JobStatus:
        """Return where a job is; see `Client.status`."""
        return self._call(lambda client: client.status(job_id))

    def time_left(self, job_id: str) -> timedelta | None:
        """Return about how long it will be until a job has ended; see `Client.time_left`."""
        return self._call(lambda client: client.time_left(job_id))

    def lane_time_left(self, lane: Lane | str, model: str | None = None) -> timedelta | None:
        """Return about how long all that is in a lane will take; see `Client.lane_time_left`."""
        return self._call(lambda client: client.lane_time_left(lane, model))

    def cancel(self, job_ids: str | Iterable[str]) -> dict[str, str]:
        """Stop jobs; see `Client.cancel`."""
        ids = [job_ids] if isinstance(job_ids, str) else list(job_ids)
        return self._call(lambda client: client.cancel(ids))

    def _call(self, ask: Callable[[Client], Coroutine[Any, Any, _T]]) -> _T:
        with self._lock:
            if self._portal is None:
                self._portal = _Portal(self.settings)
            portal = self._portal
        return portal.call(ask)

    def _after_fork_in_child(self) -> None:
        # The thread stayed with the parent, and the lock may be held by a thread that did. The parent's portal is kept
        # unused: collecting it would close sockets that are not this process' business.
        self._lock = threading.Lock()
        self._left_behind.append(self._portal)
        self._portal = None


class _Portal:
    """An event loop in a thread of its own, with a client that lives there."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings)
        self._lock = threading.Lock()
        self._closing = False
        """Written under the lock: a call that came later would wait for a loop that has stopped."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="promptmill client", daemon=True)
        self._thread.start()

    def call(self, ask: Callable[[Client], Coroutine[Any, Any, _T]]) -> _T:
        with self._lock:
            if self._closing:
                raise QueueUnavailable(_CLOSED)
            future = asyncio.run_coroutine_threadsafe(ask(self._client), self._loop)
        try:
            return future.result()
        except CancelledError:
            raise QueueUnavailable(_CLOSED) from None
        except BaseException:
            future.cancel()  # Ctrl-C in the calling thread: nobody waits for this any more
            raise

    def close(self) -> None:
        with self._lock:
            self._closing = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        await self._client.aclose()
        await end(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))


_CLIENTS: Final[weakref.WeakSet[SyncClient]] = weakref.WeakSet()


def _renew_clients() -> None:
    for client in list(_CLIENTS):
        client._after_fork_in_child()  # noqa: SLF001 - the other half of the class


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_clients)
