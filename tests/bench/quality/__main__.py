"""`make bench-quality`: the incident of 2025 replayed on measured answers, and false alarms where nothing happened.

    python -m tests.bench.quality [seeds]

`seeds` names the random answers, `report` unless told otherwise. The detectors' constants were set on `tuning` alone.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import metrics
from tests.bench.quality import replays, unchanged
from tests.bench.quality.pools import SCENARIOS
from worker.quality import METRICS

RUNS = 100
POOL = 2_000


def main(seed: str) -> None:
    table = Table("what happens: kind of prompt", "aim", "median", "P95", "bound", "onset off by", "shown by")
    for scenario in SCENARIOS:
        print(f"{scenario.name}: {scenario.before.name} ...", file=sys.stderr)
        (row,) = replays.describe([replays.summarise(scenario, runs=RUNS, pool=POOL, seed=seed)])
        table.add_row(*map(str, row.values()))
    console = Console(width=140)
    console.print(table)
    print("unchanged answers ...", file=sys.stderr)
    quiet = unchanged.watch(answers=1_000_000, series=200, pool=1_200, seed=seed)
    alarms = len(quiet.false_alarms)
    console.print(
        f"{alarms} false alarms on {quiet.answers:,} unchanged answers of {quiet.series} series "
        f"({len(METRICS)} metrics each), aim: at most {round(quiet.answers / replays.FALSE_ALARM_EVERY)}"
    )
    for number, change in quiet.false_alarms:
        console.print(f"  series {number}: {change}", highlight=False)
    print("whole jobs ...", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-") as folder:
        job = asyncio.run(metrics.whole_jobs(Path(folder)))
    detecting = 1e6 * quiet.seconds / quiet.answers
    console.print(
        f"CPU of an answer: metrics {job.measuring:.0f} µs, detection {detecting:.0f} µs, together "
        f"{(job.measuring + detecting) / job.whole:.0%} of a job's {job.whole:,.0f} µs; aim: under 10 %"
    )


if __name__ == "__main__":
    main(*sys.argv[1:] or ["report"])
