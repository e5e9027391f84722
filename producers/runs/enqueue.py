"""A file put into the queue as a whole, for whoever works it off."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from producers.files import Problem, PromptFile, check
from producers.finish import note_last_jobs, run_time_left
from producers.runs.feed import feed
from producers.runs.identity import LineJobs, run_id
from producers.runs.ledger import Ledger
from producers.runs.options import RunOptions
from producers.runs.progress import Phase, RateMeter, RunProgress
from producers.runs.telling import OnProgress, Throttle
from promptmill.jobs import Lane
from promptmill.queue import Queue, Submitted
from promptmill.queue.connection import redis_errors
from promptmill.settings import Settings


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of a file's jobs."""

    run: str
    """By which the store finds their results."""
    total: int
    queued: int
    there_already: int
    """Queued by the same command before, or ended with a result that Redis still keeps."""
    skipped: int
    """Bad lines that were left out; `problems` holds the first of them."""
    problems: tuple[Problem, ...]
    time_left: timedelta | None
    """Until the last of them is answered; None where nobody can know."""


async def enqueue_file(
    path: Path,
    settings: Settings,
    *,
    queue: Queue,
    options: RunOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> Enqueued:
    """Put every prompt of the file `path` into the queue, each once however often this is called.

    The whole file is checked first. Results go to the store, under the run. Raises BadInput (BadFile with the problems
    of each line) before anything is sent, and QueueUnavailable: the same call again queues the rest.
    """
    options = options or RunOptions()
    file = PromptFile(path, format=options.format, template=options.template)
    with redis_errors():
        await queue.redis.ping()
    throttle = Throttle(on_progress)
    checked = await check(
        file,
        LineJobs(settings, options=options),
        skip_bad=options.skip_bad,
        on_progress=lambda share: throttle.tell(lambda: RunProgress(Phase.CHECKING, share=share)),
    )
    run = run_id(path, checked.digest, file, settings)
    ledger = Ledger(checked.usable)
    answers: Counter[Submitted] = Counter()
    last: dict[tuple[str, Lane], str] = {}
    meter, loop = RateMeter(), asyncio.get_running_loop()
    with file.reading() as reading:
        async with aclosing(feed(reading, LineJobs(settings, run=run, options=options), ledger.is_open)) as pieces:
            async for piece in pieces:
                answers.update(await queue.submit(piece))
                last |= {(submission.budget, submission.job.lane): submission.job.id for submission in piece}
                sent = answers.total()
                meter.note(sent, loop.time())
                throttle.tell(
                    lambda sent=sent: RunProgress(  # type: ignore[misc]
                        Phase.SENDING,
                        run=run,
                        share=sent / ledger.total,
                        total=ledger.total,
                        in_queue=sent,
                        time_left=meter.time_left(ledger.total - sent),
                    )
                )
    await note_last_jobs(queue.redis, run, last.values())
    return Enqueued(
        run=run,
        total=ledger.total,
        queued=answers[Submitted.QUEUED],
        there_already=answers[Submitted.THERE_ALREADY] + answers[Submitted.ENDED_ALREADY],
        skipped=checked.bad,
        problems=checked.problems,
        time_left=await run_time_left(queue, run, settings.caps),
    )
