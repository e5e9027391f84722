"""Two hundred workers in a few processes: as many processes of the real worker do not fit on one machine.

Each has its own connections and claims for itself; between claim and settle there is a bare HTTP call instead of the
SDK, the store and quality. What Redis has to do is the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import aiohttp
import orjson

from producers import Client
from promptmill.pacing import Cost, paces
from promptmill.queue import Claim, Queue, Settlement, Snooze, connect, keys
from promptmill.results import Status, Usage
from promptmill.tasks import end
from promptmill.wire import unpack_envelope, unpack_job
from tests.bench.pacing.cases import Case
from tests.bench.pacing.children import Children, children
from tests.bench.pacing.ours import jobs, settings_for
from tests.bench.pacing.systems import Tally, entered, to_the_end
from tests.support.processes import valkey

LEASE = timedelta(seconds=12)
SLOTS = 5
"""Jobs that one worker runs at a time: 200 need a slot for 80 ms each 1.2 s."""


@dataclass(frozen=True)
class Place:
    """Which workers of all, and whom they talk to."""

    base_url: str
    redis_url: str
    numbers: range


async def work(place: Place) -> int:
    """Be one process of workers until cancelled; how many jobs they settled."""
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"authorization": "Bearer any"}
    async with aiohttp.ClientSession(place.base_url, connector=connector, headers=headers) as session:
        workers = [LightWorker(f"light-{number}", place.redis_url, session) for number in place.numbers]
        loops = [asyncio.create_task(loop) for worker in workers for loop in (worker.listen(), worker.work())]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*loops)
        await end(*loops)
        await asyncio.gather(*(job for worker in workers for job in worker.running))
        return sum(worker.settled for worker in workers)


class LightWorker:
    """Claims as the engine does: after a wait, when woken, or when a slot comes free."""

    def __init__(self, name: str, redis_url: str, session: aiohttp.ClientSession) -> None:
        self.settled = 0
        self.running: set[asyncio.Task[None]] = set()
        self._name = name
        self._queue = Queue(connect(redis_url))
        self._subscription = connect(redis_url, reply_timeout=None).pubsub()
        self._session = session
        self._free = SLOTS
        self._wake = asyncio.Event()

    async def listen(self) -> None:
        """Be woken."""
        await self._subscription.subscribe(keys.WAKE_CHANNEL + self._name)
        async for _ in self._subscription.listen():
            self._wake.set()

    async def work(self) -> None:
        """Claim until cancelled."""
        for number in itertools.count(1):
            self._wake.clear()
            claims = await self._queue.claim(
                worker=self._name, lease=LEASE, most=self._free, token_prefix=f"{self._name}.{number}"
            )
            self._free -= len(claims.jobs)
            for claim in claims.jobs:
                job = asyncio.create_task(self._run(claim))
                self.running.add(job)
                job.add_done_callback(self.running.discard)
            if claims.wait is None and self._free:
                continue  # slots came free while the claim was under way
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if claims.wait is None else claims.wait.total_seconds()):
                    await self._wake.wait()

    async def _run(self, claim: Claim) -> None:
        body = orjson.dumps(unpack_job(unpack_envelope(claim.payload or b""), job_id=claim.job_id).request)
        async with self._session.post("/v1/messages", data=body) as response:
            answer = orjson.loads(await response.read())
        if response.status == 429:
            pause = timedelta(seconds=int(response.headers["retry-after"]))
            await self._queue.block(claim.budget, pause, "rate_limited", refused=claim)
            await self._queue.snooze(Snooze(claim, used=Cost(1, 0, 0)))
        else:
            usage = Usage.from_api(answer["usage"])
            used = Cost(1, usage.limited_input_tokens, usage.output_tokens)
            await self._queue.settle([Settlement(claim, Status.SUCCEEDED, used=used)])
            self.settled += 1
        self._free += 1
        if self._free == 1:
            self._wake.set()


class LightWorkers:
    """All of them, as the system that the others are compared with."""

    def __init__(self, case: Case, base_url: str, folder: Path, stack: contextlib.ExitStack) -> None:
        self.redis_url: str | None = None
        self._case = case
        self._base_url = base_url
        self._folder = folder
        self._stack = stack
        self._running = Children()

    async def start(self) -> None:
        """Fill the queue, set the limits, start the processes."""
        url, _ = await entered(self._stack, valkey(self._folder / "valkey"))
        self.redis_url = url
        settings = settings_for(self._case, url, self._folder)
        async with Client(settings) as client:
            await client.submit_many(jobs(self._case))
            pace = paces(
                settings.limits("haiku-5-5"),
                headroom=settings.headroom,
                request_burst=settings.request_burst,
                token_burst=settings.token_burst,
            )
            await client.queue.configure("haiku-5-5", pace)
        workers, processes = self._case.connections or 0, self._case.processes
        places = [Place(self._base_url, url, range(number, workers, processes)) for number in range(processes)]
        self._running = await entered(self._stack, children(work, [(place,) for place in places]))

    async def finish(self) -> Tally:
        """Stop the processes, then count what became of the jobs."""
        settled = sum(await to_the_end(self._running.stop))
        assert self.redis_url is not None
        async with connect(self.redis_url) as redis:
            queued = await redis.zcard(keys.QUEUE)
        return Tally(lost=self._case.waiting - settled - queued)
