"""The asynchronous client: jobs in, results out.

async with Client("redis://localhost") as client:
    result = await client.ask("Why is the sky blue? One sentence.")
    print(result.text)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

from redis.asyncio import Redis

from producers.idempotency import check_answer, job_id_of, refuse_another
from producers.listener import RECHECK, ResultListener
from producers.outbox import Outbox
from producers.outlook import job_time_left
from producers.status import JobStatus, read_status
from promptmill.errors import BadInput, BadJob, BadSettings
from promptmill.foresight import lane_left
from promptmill.jobs import Job, Lane
from promptmill.lines import job_from_line
from promptmill.queue import Queue, Submission, Submitted, connect, prepare
from promptmill.queue.queue import SUBMIT_CHUNK
from promptmill.queue.submission import TENANT_TAG
from promptmill.results import Result
from promptmill.settings import Settings

Prompt = str | Job | Mapping[str, Any]
"""A prompt's text, a job, or the fields of one as in a line of a prompt file."""

Timeout = float | timedelta | None
"""A number is in seconds; None waits as long as it takes."""

_PREPARED_AT_A_TIME: Final = 250
"""Jobs checked between two turns of the event loop: some ten milliseconds."""
_CANCELLED_AT_A_TIME: Final = 1_000


@dataclass(frozen=True, slots=True)
class Handle:
    """A job that was submitted."""

    client: Client
    job_id: str
    submitted: Submitted
    """Whether it was queued now, was there already, or has ended already."""
    request_ref: str | None = None
    """Of a job with an idempotency key: the request that its answer must be to."""

    async def result(self, timeout: Timeout = None) -> Result:  # noqa: ASYNC109 - see Client.result
        """Return the job's result as soon as it is there; see `Client.result`. Raises KeyReused, too."""
        result = await self.client.result(self.job_id, timeout)
        if self.request_ref is not None:
            check_answer(result, self.request_ref)
        return result

    async def status(self) -> JobStatus:
        """Return where the job is; see `Client.status`."""
        return await self.client.status(self.job_id)

    async def time_left(self) -> timedelta | None:
        """Return the time until the job has ended; see `Client.time_left`."""
        return await self.client.time_left(self.job_id)

    async def cancel(self) -> str:
        """Stop the job; see `Client.cancel`."""
        return (await self.client.cancel([self.job_id]))[self.job_id]


class Client:
    """Submits jobs and waits for their results. One for an event loop is enough; it holds two connections.

    `settings` may be a Redis URL; without either, the environment and `promptmill.toml` are read. Connects at the first
    call. `redis`, a client of one's own, replaces the URL and is not closed. Raises BadSettings.
    """

    def __init__(
        self, settings: Settings | str | None = None, *, redis: Redis | None = None, recheck: timedelta = RECHECK
    ) -> None:
        if not isinstance(settings, Settings):
            settings = Settings.load(redis_url=settings)
        self.settings = settings
        self._own: tuple[Redis, ...] = ()
        subscriptions = redis
        if redis is None or subscriptions is None:
            url = settings.redis_url
            if url is None:
                raise BadSettings("redis_url: expected the address of a Redis; set PROMPTMILL_REDIS_URL or pass a URL")
            redis, subscriptions = connect(url), connect(url, reply_timeout=None)
            self._own = (redis, subscriptions)
        self._redis = redis
        self.queue: Final = Queue(redis)
        self._outbox = Outbox(self.queue)
        self._listener = ResultListener(redis, subscriptions, recheck=recheck)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; jobs stay queued. Whoever still waits gets QueueUnavailable."""
        await self._outbox.aclose()
        await self._listener.aclose()
        for redis in self._own:
            await redis.aclose()

    async def submit(
        self, prompt: Prompt | None = None, /, *, idempotency_key: str | None = None, **fields: Any
    ) -> Handle:
        """Queue one job: a prompt's text, a Job, or a mapping; `fields` as in a line of a prompt file are added.

        A job whose id is queued already, or has a result that is kept, is not queued again: this handle and the first
        get the same result. The same holds for `idempotency_key`, any text of up to 255 characters that a retry
        repeats, in place of an id; tenants have keys of their own. Raises BadJob, KeyReused (a BadJob: the key came
        with another request before), UnknownModel or QueueUnavailable; submitting again is safe if id or key is one's
        own.
        """
        job = self._job(prompt, fields)
        if idempotency_key is not None:
            if "id" in job.model_fields_set:
                raise BadJob("idempotency_key: expected it in place of an id, got both")
            key_id = job_id_of(idempotency_key, tenant=job.tags.get(TENANT_TAG, ""))
            job = job.model_copy(update={"id": key_id})
        (submitted,) = await self._outbox.submit([prepare(job, self.settings)])
        if idempotency_key is None:
            return Handle(self, job.id, submitted)
        if submitted is not Submitted.QUEUED:
            await refuse_another(self._redis, job.id, job.request_ref)
        return Handle(self, job.id, submitted, job.request_ref)

    async def submit_many(self, prompts: Iterable[Prompt], /, **fields: Any) -> list[Handle]:
        """Queue any number of jobs, a thousand in a round trip; handles in the same order.

        `fields` are added to every job. All are checked before the first is queued: BadJob, which names the job by its
        place counted from 1, leaves nothing behind. After QueueUnavailable some may be queued.
        """
        submissions: list[Submission] = []
        for number, prompt in enumerate(prompts, start=1):
            try:
                submissions.append(prepare(self._job(prompt, fields), self.settings))
            except BadInput as problem:
                raise BadJob(f"job {number}: {problem}") from None
            if number % _PREPARED_AT_A_TIME == 0:
                await asyncio.sleep(0)
        answers: list[Submitted] = []
        for start in range(0, len(submissions), SUBMIT_CHUNK):  # one by one, so that single jobs get in between
            answers += await self._outbox.submit(submissions[start : start + SUBMIT_CHUNK])
        return [Handle(self, s.job.id, answer) for s, answer in zip(submissions, answers, strict=True)]

    async def ask(self, prompt: Prompt | None = None, /, *, timeout: Timeout = None, **fields: Any) -> Result:  # noqa: ASYNC109 - see `result`
        """Submit one job and return its result; in the interactive lane unless told otherwise.

        With a `timeout` the job gets it as its deadline too, unless it has one or an `idempotency_key`: an answer that
        nobody waits for any more, and nobody comes back for, is not asked for. A result is returned whatever its
        status; see `Result.ok`. Raises as `submit` and `result` do.
        """
        if not isinstance(prompt, Job):
            beside = prompt if isinstance(prompt, Mapping) else {}
            if "lane" not in beside:
                fields.setdefault("lane", Lane.INTERACTIVE)
            comes_back = fields.get("idempotency_key") is not None
            if timeout is not None and "deadline" not in beside and not comes_back:
                fields.setdefault("deadline", datetime.now(UTC) + timedelta(seconds=_seconds(timeout)))
        handle = await self.submit(prompt, **fields)
        return await handle.result(timeout)

    async def result(self, job_id: str, timeout: Timeout = None) -> Result:  # noqa: ASYNC109 - callers of a client expect one
        """Return the result of a job as soon as it is there, whoever submitted it.

        Goes on waiting while Redis is away. Raises TimeoutError; ResultNotFound where Redis knows neither the job nor a
        result of it, as after `keep_result` has passed.
        """
        try:
            async with asyncio.timeout(None if timeout is None else _seconds(timeout)) as limit:
                return await self._listener.result(job_id)
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(
                f"job {job_id!r} has not ended within {_seconds(timeout or 0):g} s; it can be waited for again"
            ) from None

    async def status(self, job_id: str) -> JobStatus:
        """Return where a job is, with its place in its lane. Raises ResultNotFound or QueueUnavailable."""
        return await read_status(self._redis, job_id)

    async def time_left(self, job_id: str) -> timedelta | None:
        """Return about how long it will be until a job has ended; zero where it has.

        Reckoned from what goes before it, what such prompts took so far, and the budget, as if nothing more came in
        above it. None where nobody can know: no worker is there, the budget is parked, a cap of these settings is
        reached, or a running call takes longer than others do. Raises ResultNotFound or QueueUnavailable.
        """
        return await job_time_left(self.queue, job_id, self.settings.caps)

    async def lane_time_left(self, lane: Lane | str, model: str | None = None) -> timedelta | None:
        """Return about how long it will be until all that is now in a lane is answered: see `time_left`.

        Of the budget that `model` draws on, or the model of the settings. What waits for a time more than a minute
        away is left out. Raises UnknownModel or QueueUnavailable.
        """
        model_class = self.settings.class_of(model or self.settings.model)
        backlog = await self.queue.backlog(model_class, caps=self.settings.caps)
        return lane_left(backlog, Lane(lane))

    async def cancel(self, job_ids: str | Iterable[str]) -> dict[str, str]:
        """Stop jobs; for each id `CANCELLED` (it was queued), `STOPPING` (it runs) or `UNKNOWN`.

        A cancelled job ends like any other: whoever waits for it gets a result whose status says so. Raises
        QueueUnavailable.
        """
        ids = [job_ids] if isinstance(job_ids, str) else list(job_ids)
        answers: dict[str, str] = {}
        for start in range(0, len(ids), _CANCELLED_AT_A_TIME):
            answers |= await self.queue.cancel(ids[start : start + _CANCELLED_AT_A_TIME])
        return answers

    def _job(self, prompt: Prompt | None, fields: Mapping[str, Any]) -> Job:
        match prompt:
            case Job():
                if fields:
                    raise BadJob(
                        f"expected a Job alone, got {', '.join(sorted(fields))} beside it; put them into the Job"
                    )
                return prompt
            case None:
                line: Mapping[str, Any] = fields
            case str():
                line = {"prompt": prompt, **fields}
            case Mapping():
                line = {**prompt, **fields}
            case _:
                raise BadJob(f"expected a prompt, a Job or a mapping, got {type(prompt).__name__}")
        return job_from_line(line, model=self.settings.model, max_tokens=self.settings.max_tokens)


def _seconds(timeout: float | timedelta) -> float:
    return timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
