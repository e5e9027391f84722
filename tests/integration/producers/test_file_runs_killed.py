"""A file run killed with SIGKILL, and the same command again: whole, in order, nothing paid for twice.

A short file is killed at each step to the outside, one life after the other, until one runs through; a long one at a
few moments within the steps.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter

import pytest

from producers.runs import run_file
from promptmill.queue import Queue, connect
from promptmill.tasks import end
from tests.support.mortal import mortals

LINES = 1_000
SHORT = 12

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


def write_prompts(path, lines):
    path.write_text("".join(f'{{"id":"q{n}","prompt":"prompt {n}"}}\n' for n in range(1, lines + 1)))
    return path


def assert_whole(out, lines):
    answers = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert [answer["id"] for answer in answers] == [f"q{n}" for n in range(1, lines + 1)]
    assert [answer["text"] for answer in answers] == [f"PROMPT {n}" for n in range(1, lines + 1)]
    assert sorted(path.name for path in out.parent.glob(f"{out.name}*")) == [out.name]


@pytest.fixture
def prompts(tmp_path):
    return write_prompts(tmp_path / "prompts.jsonl", LINES)


@pytest.fixture(scope="module")
def run():
    with mortals() as run:
        yield run


async def test_a_run_killed_at_each_step_goes_on_where_it_stopped(tmp_path, run, settings, server, store, worker):  # noqa: PLR0917
    """Each life has a file of its own name: another run, with jobs of its own."""
    working = asyncio.create_task(worker.serve())
    redis = connect(server.url)
    environment = {
        "redis_url": server.url,
        "data_dir": settings.data_dir,
        "store_url": f"sqlite:///{tmp_path}/results.sqlite",
    }
    deaths = Counter()
    died = True
    while died:
        number = deaths.total() + 1
        prompts, out = write_prompts(tmp_path / f"prompts-{number}.jsonl", SHORT), tmp_path / f"answers-{number}.jsonl"
        worker.requests.clear()
        life = await asyncio.to_thread(
            run, "produce", environment, dies_at=number, prompts=str(prompts), out=str(out), piece=4
        )
        died = life.died
        try:
            if died:
                assert not out.exists() or len(out.read_bytes().splitlines()) == SHORT
                assert (await run_file(prompts, out, settings, queue=Queue(redis), store=store)).ok
                deaths[life.steps[-1]] += 1
            assert_whole(out, SHORT)
            assert sorted(worker.requests) == sorted(set(worker.requests))
            assert len(worker.requests) == SHORT
        except AssertionError as error:
            raise AssertionError(f"it died at the end of {life.steps}") from error
    await end(working)
    left = {key.decode() for key in await redis.keys("*") if key.startswith((b"arq:job:", b"promptmill:lane:"))}
    await redis.aclose()
    assert left == set()
    print(f"\n{deaths.total()} deaths: {dict(deaths)}")
    kinds = {"ping", "evalsha", "read", "write", "publish", "fsync", "replace"}
    assert deaths.keys() >= kinds | {f"{kind}: done" for kind in kinds} | {"write: not committed"}


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

    assert_whole(out, LINES)
    assert len(worker.requests) == LINES == len(set(worker.requests))
    assert summary.ok
