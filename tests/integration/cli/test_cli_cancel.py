"""`promptmill cancel` on a real Valkey."""

from __future__ import annotations

import pytest

from promptmill.queue import keys


def record(machine, job_id: str) -> bytes:
    return machine.on_queue(lambda queue: queue.redis.hget(keys.JOBS, job_id))


def test_queued_jobs_are_cancelled_by_id(machine, make_job):
    machine.submit(make_job("a"), make_job("b"))
    done = machine.run("cancel", "a")
    assert (done.exit_code, done.stdout) == (0, "1 cancelled, 0 being stopped by their workers\n")
    assert b"cancelled" in record(machine, "a")
    assert b"cancelled" not in record(machine, "b")


def test_an_id_that_is_not_queued_is_said_and_ends_with_1(machine, make_job):
    machine.submit(make_job("a"))
    done = machine.run("cancel", "a", "never-heard-of")
    assert (done.exit_code, done.stdout) == (
        1,
        "1 cancelled, 0 being stopped by their workers, 1 not in the queue\n",
    )


@pytest.mark.parametrize("run", ["nightly", "we*rd[1]?\\"])
def test_a_run_is_cancelled_whole_and_no_other(machine, make_job, run):
    machine.submit(*(make_job(f"{run}/{n}") for n in range(3)), make_job(f"{run}-2/1"), make_job("weird1/1"))
    done = machine.run("cancel", "--run", run)
    assert (done.exit_code, done.stdout) == (0, "3 cancelled, 0 being stopped by their workers\n")
    assert b"cancelled" not in record(machine, f"{run}-2/1")
    assert b"cancelled" not in record(machine, "weird1/1")


def test_a_run_without_queued_jobs_is_said(machine):
    done = machine.run("cancel", "--run", "over")
    assert (done.exit_code, done.stdout) == (1, "no job of run 'over' is queued\n")


@pytest.mark.parametrize("args", [(), ("a", "--run", "r")])
def test_ids_and_run_exclude_each_other(machine, args):
    assert machine.run("cancel", *args).exit_code == 2
