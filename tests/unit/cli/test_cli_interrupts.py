"""Stopping in order, also where a cancellation gets lost on its way."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from producers.cli.fleet import WorkersEnded, needing
from producers.cli.interrupts import cancellable
from promptmill import tasks
from promptmill.tasks import end


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(tasks, "_CANCELLED_AGAIN_AFTER", timedelta(0))


class Deaf:
    """Does not hear its first cancellation, as a call through redis' client on Python 3.11 may not."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.missed = 0

    async def work(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.missed += 1
        await asyncio.Event().wait()


async def test_what_does_not_hear_the_first_cancellation_hears_the_next():
    deaf = Deaf()
    task = asyncio.create_task(deaf.work())
    await deaf.began.wait()
    await end(task)
    assert (task.cancelled(), deaf.missed) == (True, 1)


async def test_who_is_cancelled_ends_its_work_before_it_goes():
    deaf = Deaf()
    outer = asyncio.create_task(cancellable(deaf.work()))
    await deaf.began.wait()
    outer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outer
    assert deaf.missed == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_work_that_is_not_cancelled_returns_and_raises_as_ever():
    async def fails():
        raise KeyError("x")

    assert await cancellable(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(KeyError):
        await cancellable(fails())


async def test_workers_that_end_end_the_run_although_it_does_not_hear_at_first(tmp_path: Path):
    log = tmp_path / "worker.log"
    log.write_text("first\nno room\n\n")
    deaf = Deaf()

    async def workers_end() -> int:
        await deaf.began.wait()
        return 3

    workers = SimpleNamespace(wait=workers_end, returncode=3)
    with pytest.raises(WorkersEnded, match=r"\(code 3\): no room"):
        await needing(workers, deaf.work(), log)
    assert deaf.missed == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


WAITS = """
    import asyncio, signal
    signal.signal(signal.SIGINT, {sigint})
    from producers.cli.interrupts import run_until_stopped
    async def work():
        print("ready", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            print("tidied up", flush=True)
            {at_the_end}
    try:
        run_until_stopped(work())
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


@pytest.mark.parametrize("sigint", ["signal.default_int_handler", "signal.SIG_IGN"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("at_the_end", ["pass", "await asyncio.Event().wait()"])
def test_who_is_told_to_stop_does_so_in_order_even_where_a_script_made_it_deaf_to_ctrl_c(sigint, number, at_the_end):
    program = textwrap.dedent(WAITS).format(sigint=sigint, at_the_end=at_the_end)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT if sigint.endswith("SIG_IGN") else signal.SIGCONT)
            process.send_signal(number)
            assert process.stdout.readline() == "tidied up\n"
            if at_the_end != "pass":
                process.send_signal(number)  # does not wait for that
            assert process.stdout.readline() == "stopped\n"
            assert process.wait(10) == 0
        finally:
            process.kill()
