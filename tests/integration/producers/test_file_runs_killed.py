"""A file run killed with SIGKILL at every step, and the same command again: whole, in order, nothing paid for twice."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import pytest

from producers.runs import run_file
from promptmill.queue import Queue, connect
from promptmill.tasks import end

LINES = 1_000

PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
import producers.runs.answers, producers.runs.file_run, producers.runs.window, producers.files.checking
from producers.runs import RunOptions, run_file
from promptmill.queue import Queue, connect
from promptmill.settings import Settings
from promptmill.store import ResultStore

owner_name, name, when, calls, prompts, out, url, store_url = sys.argv[1:]
module_name, _, class_name = owner_name.partition(":")
owner = sys.modules[module_name]
owner = getattr(owner, class_name) if class_name else owner
real, left = getattr(owner, name), int(calls)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def count():
    global left
    left -= 1
    return left == 0

if asyncio.iscoroutinefunction(real):
    async def killed(*args, **options):
        last = count()
        if last and when == "before":
            die()
        answer = await real(*args, **options)
        if last:
            die()
        return answer
else:
    def killed(*args, **options):
        last = count()
        if last and when == "before":
            die()
        answer = real(*args, **options)
        if last:
            die()
        return answer

setattr(owner, name, killed)

async def main():
    settings = Settings(redis_url=url)
    async with await ResultStore.open(store_url) as store:
        await run_file(
            Path(prompts), Path(out), settings, queue=Queue(connect(url)), store=store, options=RunOptions(window=400)
        )

asyncio.run(main())
"""

STEPS = {
    "while the file is checked": ("producers.runs.file_run:LineJobs", "__call__", "before", LINES // 2),
    "when the run was written down": ("promptmill.store:ResultStore", "save_run", "after", 1),
    "before the first jobs are sent": ("producers.runs.window:Window", "send", "before", 1),
    "when the first jobs were sent": ("producers.runs.window:Window", "send", "after", 1),
    "in the middle of sending": ("producers.runs.window:Window", "send", "after", 3),
    "between submitting and noting it": ("promptmill.queue:Queue", "submit", "after", 2),
    "when something has ended": ("producers.runs.window:Window", "hear", "after", 1),
    "while the answers are written": ("producers.runs.answers:AnswersFile", "write", "after", LINES // 2),
    "before the answers take their place": ("producers.runs.answers:AnswersFile", "publish", "before", 1),
    "when the answers are in their place": ("producers.runs.answers:AnswersFile", "publish", "after", 1),
    "before the end is written down": ("promptmill.store:ResultStore", "save_run", "before", 2),
}


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f'{{"id":"q{n}","prompt":"prompt {n}"}}\n' for n in range(1, LINES + 1)))
    return path


@pytest.mark.parametrize("step", STEPS)
async def test_a_run_that_is_killed_goes_on_where_it_stopped(step, prompts, settings, server, store, store_url, worker):  # noqa: PLR0917
    out = prompts.with_name("answers.jsonl")
    owner, name, when, calls = STEPS[step]
    working = asyncio.create_task(worker.serve())
    killed = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM),
        *(owner, name, when, str(calls), str(prompts), str(out), server.url, store_url),
    )
    assert await killed.wait() == -signal.SIGKILL
    if out.exists():
        assert len(out.read_bytes().splitlines()) == LINES

    redis = connect(server.url)
    summary = await run_file(prompts, out, settings, queue=Queue(redis), store=store)
    await redis.aclose()
    await end(working)

    answers = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert [answer["id"] for answer in answers] == [f"q{n}" for n in range(1, LINES + 1)]
    assert [answer["text"] for answer in answers] == [f"PROMPT {n}" for n in range(1, LINES + 1)]
    assert len(worker.requests) == LINES == len(set(worker.requests))
    assert summary.ok
    assert sorted(path.name for path in out.parent.glob("answers*")) == ["answers.jsonl"]
