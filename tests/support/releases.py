"""Programs of an earlier release, taken out of the repository's history and run beside those of today."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
FIRST: Final = "e5b4faac7b09da65e32e29a00f2154f062979bae"
"""0.1.0, the commit behind the tag v0.1.0."""

PRODUCER: Final = """
import asyncio, sys
from producers import Client

async def main(name, url):
    loop, submitted = asyncio.get_running_loop(), 0
    async with Client(url) as client:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            numbers = range(submitted, submitted + int(line))
            submitted = numbers.stop
            handles = await client.submit_many([job(name, number) for number in numbers])
            results = [await handle.result() for handle in handles]
            print(sum(result.ok for result in results), flush=True)

def job(name, number):
    fault = " [[fault:api_error*1]]" if number % 20 == 7 else ""
    return {
        "id": f"{name}-{number}",
        "prompt": f"Say in at most ten words what {name}-{number} is.{fault}",
        "model": "claude-haiku-5-5",
        "max_tokens": 50,
        "run": "rolling",
        "system": f"You are terse. {number % 2}",
        "lane": ("interactive", "standard", "overnight")[number % 3],
        "tags": {"tenant": f"t{number % 4}"},
        "expect": {"max_words": 50},
        "fallbacks": ["claude-sonnet-5-5"] if number % 5 == 0 else [],
        "for_claude_code": number % 7 == 0,
    }

asyncio.run(main(*sys.argv[1:]))
"""
"""Submits as many jobs as each line of its input says, waits for their results, and prints how many are answers."""


def export(commit: str, folder: Path) -> Path:
    """Put the tree of `commit` into `folder`. Skips the test where this is no clone that has it."""
    archive = subprocess.run(
        ["git", "-C", ROOT, "archive", "--format=zip", commit, "promptmill", "producers", "worker"],
        capture_output=True,
        check=False,
    )
    if archive.returncode:
        pytest.skip(f"the release of commit {commit} is not in this clone: git fetch --unshallow --tags")
    with zipfile.ZipFile(io.BytesIO(archive.stdout)) as packed:
        packed.extractall(folder)
    return folder


def runs_from(tree: Path) -> dict[str, str]:
    """The environment in which a program is the one of `tree`, whatever is installed."""
    return {"PYTHONPATH": str(tree)}


def tree_of(environment: dict[str, str]) -> Path:
    """Where a program that is started with `environment` really has its code from."""
    code = "import producers, promptmill, worker; print(worker.__file__)"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return Path(run.stdout.strip()).parents[1]


class Producer:
    """A producer process."""

    def __init__(self, name: str, url: str, environment: dict[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", PRODUCER, name, url],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def submit(self, jobs: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{jobs}\n")
        self.process.stdin.flush()

    def answers(self) -> int:
        """Return, when all have ended, how many of the jobs submitted last were answered."""
        assert self.process.stdout is not None
        return int(self.process.stdout.readline() or "-1")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
