"""A process that records results: `python -m tests.conformance.store.writer_process URL WRITER RESULTS`.

Says `ready`, waits for a line, then opens the store and names each job on a line of its own once its result is kept.
"""

from __future__ import annotations

import asyncio
import sys

from promptmill.results import Status
from promptmill.store import ResultStore
from tests.conformance.store.samples import answer, failed


async def main(url: str, writer: int, count: int) -> None:
    print("ready", flush=True)
    sys.stdin.readline()
    async with await ResultStore.open(url) as store:
        for number in range(count):
            own = answer(f"writer-{writer}-{number}", worker=str(writer))
            # Every writer also ends the same jobs, but only one of them, each time another, has the answer.
            shared = f"shared-{number}"
            if number % 3 == writer:
                ended = answer(shared, worker=str(writer))
            else:
                ended = failed(shared, status=Status.EXPIRED, worker=str(writer))
            await store.record([ended, own])
            print(own.job_id, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
