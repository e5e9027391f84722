"""Worker processes as they are started in earnest: the two commands, signals, the supervisor, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import orjson
import pytest
import structlog
from click.testing import CliRunner

from promptmill.queue import keys
from tests.integration.worker.test_redis_away import Server
from tests.support.engines import UNPACED, engines
from tests.support.processes import valkey
from tests.support.providers import Held
from tests.support.workers import make_job
from worker.__main__ import main

MODULE = (sys.executable, "-P", "-m", "worker")
ARQ = (str(Path(sys.executable).with_name("arq")), "worker.main.WorkerSettings")


class Process:
    """A running command and what it has logged. Reading its log is how tests wait for it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid
        self.log: list[str] = []

    async def says(self, event: str) -> dict:
        """Return the next log entry of this event."""
        while line := (await self.process.stderr.readline()).decode():
            self.log.append(line)
            with contextlib.suppress(orjson.JSONDecodeError):
                entry = orjson.loads(line)
                if entry["event"] == event:
                    return entry
        raise AssertionError(f"it ended without saying {event!r}; it said: {''.join(self.log)}")

    async def ends(self) -> int:
        """Return its exit code, once it and everything that it started has ended."""
        self.log.append((await self.process.stderr.read()).decode())
        return await self.process.wait()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


@contextlib.asynccontextmanager
async def running(command, environment):
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE, start_new_session=True
    )
    try:
        yield Process(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def environment_of(mill, **changes) -> dict[str, str]:
    names = {
        name: os.environ[name]
        for name in ("PATH", "PYTHONPATH", "HOME", "LANG", "COVERAGE_PROCESS_START")
        if name in os.environ
    }
    settings = {
        "PROMPTMILL_REDIS_URL": mill.settings.redis_url,
        "PROMPTMILL_DATA_DIR": str(mill.settings.data_dir),
        **{f"PROMPTMILL_{name.upper()}": str(limit) for name, limit in UNPACED.items()},
        "ANTHROPIC_API_KEY": "any",
        "ANTHROPIC_BASE_URL": mill.api.base_url,
    }
    return {**names, **settings, **changes}


def pid_of(entry: dict) -> int:
    return int(entry["worker"].rsplit("-", 2)[1])


@pytest.mark.parametrize("command", [MODULE, ARQ], ids=["module", "arq"])
async def test_a_burst_drains_the_queue_and_ends(mill, command):
    await mill.submit(*(make_job(f"job-{number}") for number in range(10)))
    async with running([*command, "--burst"], environment_of(mill)) as worker:
        assert await worker.ends() == 0, worker.log
    assert await mill.redis.zcard(keys.QUEUE) == 0
    assert sorted(mill.api.jobs) == sorted(f"job-{number}" for number in range(10))
    assert b"Traceback" not in "".join(worker.log).encode()


@pytest.mark.parametrize("command", [MODULE, ARQ], ids=["module", "arq"])
async def test_the_first_signal_lets_calls_finish_and_the_second_hands_them_back(mill, command):
    held = Held()
    mill.api.script = [held, Held()]
    async with running(command, environment_of(mill)) as worker:
        await worker.says("worker_started")
        await mill.submit(make_job("finishes"))
        await mill.api.arrival(1)
        await mill.submit(make_job("goes-back"))
        await mill.api.arrival(2)
        worker.signal(signal.SIGTERM)
        await worker.says("worker_stopping")
        held.release()
        await mill.ends.of("finishes")
        worker.signal(signal.SIGTERM)
        assert await worker.ends() == 0, worker.log
    assert await mill.redis.zrangebyscore(keys.QUEUE, 1, 1) == [b"goes-back"]
    assert (await mill.store.attempts(["goes-back"]))["goes-back"][0].outcome == "interrupted"


async def test_a_worker_warns_of_a_redis_that_forgets(mill):
    async with running([*MODULE, "--burst"], environment_of(mill)) as worker:
        warning = await worker.says("redis_unsafe")
        assert (warning["level"], warning["subject"]) == ("warning", "persistence")
        assert "appendonly yes" in warning["advice"]
        assert await worker.ends() == 0, worker.log


async def test_a_worker_has_nothing_to_say_about_a_redis_that_keeps_everything(tmp_path):
    with valkey(tmp_path / "valkey") as (url, _):
        async with engines(url, tmp_path) as mill, running([*MODULE, "--burst"], environment_of(mill)) as worker:
            await worker.says("worker_stopped")
            assert "redis_unsafe" not in "".join(worker.log)


async def test_arqs_health_check_asks_the_right_redis(mill):
    await mill.redis.set(keys.QUEUE + ":health-check", "alive")
    async with running([*ARQ, "--check"], environment_of(mill)) as check:
        assert await check.ends() == 0


async def test_a_burst_of_several_processes_ends_when_the_queue_is_empty(mill):
    await mill.submit(*(make_job(f"job-{number}") for number in range(50)))
    async with running([*MODULE, "--processes", "2", "--burst"], environment_of(mill)) as fleet:
        assert await fleet.ends() == 0, fleet.log
    assert sorted(mill.api.jobs) == sorted(f"job-{number}" for number in range(50))


PARENT = """
import subprocess, sys
worker = subprocess.Popen(sys.argv[1:])
worker.wait()
"""


async def test_workers_stop_when_whoever_started_them_is_gone(mill):
    command = [*MODULE, "--processes", "2", "--stop-with-parent"]
    async with running([sys.executable, "-c", PARENT, *command], environment_of(mill)) as parent:
        for _ in range(2):
            await parent.says("worker_started")
        parent.signal(signal.SIGKILL)
        assert await parent.ends() == -signal.SIGKILL  # the end of their common log: all of them are gone
    assert await mill.redis.hlen(keys.WORKERS) == 0, "in order, not killed"


async def test_workers_stop_when_their_supervisor_is_killed(mill):
    async with running([*MODULE, "--processes", "2"], environment_of(mill)) as fleet:
        for _ in range(2):
            await fleet.says("worker_started")
        fleet.signal(signal.SIGKILL)
        assert await fleet.ends() == -signal.SIGKILL
    assert await mill.redis.hlen(keys.WORKERS) == 0


WRONG = {
    # what is wrong: settings, what is told
    "no Redis": ({"PROMPTMILL_REDIS_URL": ""}, "PROMPTMILL_REDIS_URL"),
    "no key": ({"ANTHROPIC_API_KEY": ""}, "ANTHROPIC_API_KEY"),
    "an unknown setting": ({"PROMPTMILL_RMP": "5"}, "did you mean PROMPTMILL_RPM"),
    "a setting out of range": ({"PROMPTMILL_CONCURRENCY": "0"}, "concurrency"),
    "a malformed address": ({"PROMPTMILL_REDIS_URL": "localhost:6379"}, "redis_url"),
}


@pytest.mark.parametrize("what", WRONG)
def test_settings_that_cannot_work_are_one_message_and_exit_code_2(what, monkeypatch):
    wrong, told = WRONG[what]
    for name, value in {"PROMPTMILL_REDIS_URL": "redis://127.0.0.1:1", "ANTHROPIC_API_KEY": "any", **wrong}.items():
        monkeypatch.setenv(name, value)
    try:
        result = CliRunner().invoke(main, [])
    finally:
        structlog.reset_defaults()
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr
    assert result.stderr.startswith("promptmill: ")
    assert result.stderr.count("\n") == 1


async def test_a_fleet_that_cannot_begin_ends_with_exit_code_2(mill):
    nowhere = environment_of(mill, PROMPTMILL_REDIS_URL="unix:///nowhere.sock")
    async with running([*MODULE, "--processes", "2"], nowhere) as fleet:
        assert await fleet.ends() == 2
    said = "".join(fleet.log)
    assert "Redis does not answer" in said
    assert "Traceback" not in said


async def test_a_killed_worker_is_replaced_even_while_redis_is_away(tmp_path):
    """A replacement that finds no Redis refuses as if its settings were bad: they are not, and the fleet stays."""
    async with contextlib.AsyncExitStack() as stack:
        url, handle = stack.enter_context(valkey(tmp_path / "valkey"))
        server = Server(url, handle)
        mill = await stack.enter_async_context(engines(url, tmp_path))
        fleet = await stack.enter_async_context(running([*MODULE, "--processes", "2"], environment_of(mill)))
        first, second = await fleet.says("worker_started"), await fleet.says("worker_started")
        await server.stop()
        os.kill(pid_of(first), signal.SIGKILL)
        died = await fleet.says("worker_died")
        assert (died["pid"], died["exit_code"], died["restarts"]) == (pid_of(first), -signal.SIGKILL, 1)
        assert (await fleet.says("worker_died"))["exit_code"] == 2
        await server.start()
        third = await fleet.says("worker_started")
        assert len({pid_of(first), pid_of(second), pid_of(third)}) == 3
        fleet.signal(signal.SIGTERM)
        assert await fleet.ends() == 0, fleet.log
