"""Memory of a whole file run, from the check to the answers file, by the size of the file.

Each size runs in a process of its own against a real Valkey and a SQLite store; a worker in another process answers at
once. Measured is the peak resident memory of the process that follows the run.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import resource
import tempfile
from pathlib import Path

from tests.bench.rows import Row
from tests.support.processes import valkey

SIZES = (10_000, 1_000_000)


def write_prompts(path: Path, lines: int) -> None:
    with path.open("w") as file:
        for number in range(lines):
            prompt = f"Explain in at most forty words what the number {number} is good for. " * 3
            file.write(json.dumps({"id": f"question-{number}", "prompt": prompt, "tags": {"part": "a"}}) + "\n")


def work(url: str, store_url: str) -> None:
    from promptmill.queue import Queue, connect
    from promptmill.store import ResultStore
    from tests.unit.producers.tiny_worker import TinyWorker

    async def serve() -> None:
        async with await ResultStore.open(store_url) as store:
            await TinyWorker(Queue(connect(url)), store).serve(most=1_000)

    asyncio.run(serve())


def follow(directory: Path, url: str, store_url: str, answer: multiprocessing.SimpleQueue) -> None:
    from producers.runs import run_file
    from promptmill.queue import Queue, connect
    from promptmill.settings import Settings
    from promptmill.store import ResultStore

    async def run() -> None:
        redis = connect(url)
        async with await ResultStore.open(store_url) as store:
            await run_file(directory / "in.jsonl", directory / "out.jsonl", Settings(), queue=Queue(redis), store=store)
        await redis.aclose()

    asyncio.run(run())
    answer.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peak_of(lines: int) -> float:
    """Return the peak in MB of the process that follows a run of that many lines."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, valkey(Path(name) / "valkey") as (url, _):
        directory = Path(name)
        store_url = f"sqlite:///{directory / 'results.sqlite'}"
        write_prompts(directory / "in.jsonl", lines)
        answer = spawn.SimpleQueue()
        worker = spawn.Process(target=work, args=(url, store_url), daemon=True)
        runner = spawn.Process(target=follow, args=(directory, url, store_url, answer))
        worker.start()
        runner.start()
        runner.join()
        worker.kill()
        worker.join()
        assert runner.exitcode == 0, f"the run of {lines:,} lines failed"
        with (directory / "out.jsonl").open("rb") as out:
            assert sum(1 for _ in out) == lines
        return answer.get()


async def measure(_folder: Path) -> list[Row]:
    few, many = SIZES
    small, large = peak_of(few), peak_of(many)
    further = (large - small) * 1024 * 1024 / (many - few)
    return [
        Row(
            f"memory of a run of {many:,} lines (baseline: {few:,}), {further:.0f} bytes a further line",
            f"{large:.0f} MB",
            f"{small:.0f} MB",
            f"{large / small:.2f} x",
            "flat, under 300 MB",
        )
    ]
