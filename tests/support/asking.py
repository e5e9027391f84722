"""A producer process that asks everything at once, each twice, as a web app does whose users click again.

It reads the fields of its jobs from standard input and writes what it was answered to standard output, both as JSON.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import orjson

from producers import Client


async def ask_all(url: str, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what each job came to, in order; each was asked for twice at the same time."""
    async with Client(url) as client:
        results = await asyncio.gather(*(client.ask(**fields) for fields in asked for _ in range(2)))
    return [{"id": result.job_id, "status": result.status.value, "text": result.text} for result in results]


if __name__ == "__main__":
    answers = asyncio.run(ask_all(sys.argv[1], orjson.loads(sys.stdin.buffer.read())))
    sys.stdout.buffer.write(orjson.dumps(answers))
