"""A worker of a few lines: it claims, answers and settles through the contract, and calls nobody."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from promptmill.jobs import Job
from promptmill.pacing import Pace
from promptmill.queue import Claim, Disposition, Queue, Settlement, keys
from promptmill.results import Attempt, DeadLetter, Failure, Result, Status, Usage
from promptmill.wire import pack_result, unpack_envelope, unpack_job

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
FAST = {"requests": Pace(1e9, 1e6), "input": Pace(1e12, 1e9), "output": Pace(1e12, 1e9)}


class TinyWorker:
    """Answers every job with its prompt in capitals; a prompt that holds `fail` becomes a dead letter."""

    _numbers = itertools.count()

    def __init__(self, queue: Queue, store=None, *, model_class: str = "haiku-5-5") -> None:
        self.queue = queue
        self.store = store
        self.model_class = model_class
        self.name = f"tiny-{next(self._numbers)}"
        self.requests: list[str] = []
        """Ids of the jobs that were really asked for, in order."""
        self.failing = "fail"
        self._claims = itertools.count()

    async def claim(self, most: int = 100) -> list[Claim]:
        await self.queue.configure(self.model_class, FAST)
        claims = await self.queue.claim(
            worker=self.name, lease=timedelta(minutes=10), most=most, token_prefix=f"{self.name}.{next(self._claims)}"
        )
        return list(claims.jobs)

    async def work(self, most: int = 100) -> int:
        """Claim and answer at most that many jobs; return how many there were."""
        claims = await self.claim(most)
        await self.answer(claims)
        return len(claims)

    async def drain(self) -> int:
        """Work until nothing can be claimed; return how many jobs were answered."""
        total = 0
        while done := await self.work():
            total += done
        return total

    async def serve(self, most: int = 100) -> None:
        """Work until cancelled; woken as a real worker is."""
        async with self.queue.redis.pubsub() as pubsub:
            await pubsub.subscribe(keys.WAKE_CHANNEL + self.name)
            while True:
                if not await self.work(most):
                    await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)

    async def answer(self, claims: list[Claim]) -> None:
        results = [await self._result(claim) for claim in claims]
        await self.record(results)
        await self.settle(claims, results)

    async def record(self, results: list[Result]) -> None:
        if self.store is not None:
            letters = [letter(result) for result in results if result.status is Status.FAILED]
            await self.store.record([*results, *letters])

    async def settle(self, claims: list[Claim], results: list[Result]) -> None:
        await self.queue.settle(
            [
                Settlement(
                    claim=claim,
                    status=result.status,
                    result=pack_result(result, queue="promptmill:queue", enqueued_at=START),
                    keep=timedelta(hours=1) if _job(claim).keep_result is None else _job(claim).keep_result,
                    run=result.run,
                    cost_nano_usd=1_000,
                )
                for claim, result in zip(claims, results, strict=True)
            ]
        )

    async def _result(self, claim: Claim) -> Result:
        job = _job(claim)
        if self.store is not None and (stored := (await self.store.finished([job.id])).get(job.id)):
            return stored
        if claim.disposition is not Disposition.RUN:
            return Result(job_id=job.id, status=Status(claim.disposition.value), **_about(job))
        self.requests.append(job.id)
        prompt = job.request["messages"][0]["content"]
        attempt = Attempt(claim.number, job.model, START, START + timedelta(seconds=2), "succeeded")
        if self.failing in prompt:
            return Result(
                job_id=job.id,
                status=Status.FAILED,
                attempts=(attempt,),
                error=Failure("invalid_request", "the provider refused it"),
                **_about(job),
            )
        return Result(
            job_id=job.id,
            status=Status.SUCCEEDED,
            text=prompt.upper(),
            message={"type": "message", "content": [{"type": "text", "text": prompt.upper()}]},
            model=job.model,
            usage=Usage(input_tokens=10, output_tokens=5),
            cost_usd=Decimal("0.000001"),
            quality={"words": 3, "code_block": False, "specific_examples": 1, "instruction_following": 1.0},
            attempts=(attempt,),
            queue_time=timedelta(seconds=1),
            latency=timedelta(seconds=2),
            **_about(job),
        )


def letter(result: Result) -> DeadLetter:
    return DeadLetter(
        job_id=result.job_id,
        reason=result.error.name,
        message=result.error.message,
        payload=b"{}",
        died_at=datetime.now(UTC),
        attempts=1,
        redrivable=True,
    )


def _job(claim: Claim) -> Job:
    return unpack_job(unpack_envelope(claim.payload), job_id=claim.job_id)


def _about(job: Job) -> dict:
    return {
        "run": job.run,
        "position": job.position,
        "request_ref": job.request_ref,
        "lane": job.lane.value,
        "tags": job.tags,
    }
