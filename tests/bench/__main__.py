"""`make bench`: every benchmark, as ratios measured side by side in one run. `python -m tests.bench NAME` runs one.

`make bench-pacing` is `python -m tests.bench pacing`, a table of its own: it takes half an hour.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import file_memory, metrics, queue_memory, submitting, throughput, waking
from tests.bench.pacing.command import compare
from tests.bench.rows import Row

BENCHMARKS = {
    "submitting": submitting.measure,
    "waking": waking.measure,
    "throughput": throughput.measure,
    "metrics": metrics.measure,
    "queue-memory": queue_memory.measure,
    "file-memory": file_memory.measure,
}


async def main(names: list[str]) -> int:
    if names[:1] == ["pacing"]:
        return await compare(names[1:])
    unknown = set(names) - BENCHMARKS.keys()
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in names or BENCHMARKS:
        print(f"{name} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="promptmill-bench-") as folder:
            rows += await BENCHMARKS[name](Path(folder))
    table = Table("what", "promptmill", "baseline", "ratio", "aim")
    for row in rows:
        table.add_row(row.what, row.ours, row.baseline, row.ratio, row.aim)
    Console(width=140).print(table)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(sys.argv[1:])))
    except asyncio.CancelledError:
        sys.exit(130)
