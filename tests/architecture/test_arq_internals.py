"""What we rely on inside arq 0.28. Fails when it moves: read the change, worker/{engine,functions}.py, then this."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from dataclasses import fields
from datetime import timedelta
from importlib.metadata import version

import pytest
from arq import constants
from arq.connections import ArqRedis
from arq.cron import CronJob, cron
from arq.jobs import Job, serialize_job, serialize_result
from arq.worker import Function, Worker

from promptmill.queue import keys
from worker.engine import PacedWorker
from worker.functions import CRON_RESULT_KEPT


def test_arq_is_the_version_that_was_read():
    assert version("arq") == "0.28.0"


SOURCES = {
    Worker.run: "e683c7f402930145",
    Worker.heart_beat: "2e9959bea66dc551",
    Worker.run_cron: "7d2d3784e6567fb2",
    Worker.record_health: "108f4b8686c9402d",
    Worker._add_signal_handler: "7efddf3cba88b9d7",
    Worker.__init__: "edfb0cd7e05e77cf",
    ArqRedis.enqueue_job: "7da8706a747c1171",
    cron: "0a1f968cdb4e0e05",
    CronJob.calculate_next: "7f8bfac236ba13c1",
    Job.abort: "4dd2f914d8b776b7",
    Job.info: "b8892cec97a71606",
    Job.result: "004dc5100e554432",
    Job.result_info: "befb175894204ee6",
    Job.status: "b7b8d9da80a12c10",
    serialize_job: "1fc854cc50e16e5c",
    serialize_result: "709b9d4709d5aa08",
}
"""SHA-256 of what we call or stand in for, and have to stay in step with."""


@pytest.mark.parametrize("function", SOURCES, ids=lambda function: function.__qualname__)
def test_what_we_rely_on_reads_as_it_did(function):
    assert hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16] == SOURCES[function]


def test_we_override_what_we_mean_to_and_nothing_by_accident():
    own = {name for name in vars(PacedWorker) if not name.startswith("__")}
    assert own & set(dir(Worker)) == {"main", "handle_sig", "handle_sig_wait_for_completion", "close"}


@pytest.mark.parametrize("name", ["main", "handle_sig", "handle_sig_wait_for_completion", "close"])
def test_an_override_is_called_as_what_it_stands_in_for(name):
    ours, theirs = getattr(PacedWorker, name), getattr(Worker, name)
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)


async def test_a_worker_has_the_attributes_that_we_use():
    async def function(ctx):
        """Nothing."""

    worker = Worker(
        functions=[Function("f", function, None, None, None, None)],
        queue_name="q",
        redis_pool=ArqRedis(),
        handle_signals=False,
        max_jobs=7,
        poll_delay=timedelta(seconds=0.5),
        ctx={"a": 1},
    )
    assert (worker.tasks, worker.max_jobs, worker.burst, worker.ctx) == ({}, 7, False, {"a": 1})
    assert (worker.on_stop, worker.main_task, worker.cron_jobs) == (None, None, [])
    assert (worker.health_check_key, worker.job_timeout_s, worker.poll_delay_s) == ("q:health-check", 300, 0.5)
    assert worker.loop is asyncio.get_running_loop()
    assert worker.pool is worker._pool
    assert worker.functions["f"].coroutine is function
    ours = {"name", "leases", "claiming_paused", "holds_answers", "_parent", "_settings", "_queue", "_rounds", "_wake"}
    assert not set(vars(worker)) & ours


def test_functions_and_cron_jobs_have_the_fields_that_we_use():
    assert [field.name for field in fields(Function)] == [
        "name",
        "coroutine",
        "timeout_s",
        "keep_result_s",
        "keep_result_forever",
        "max_tries",
    ]
    assert {"name", "coroutine", "timeout_s", "next_run"} <= {field.name for field in fields(CronJob)}


def test_arqs_keys_are_those_of_our_table():
    assert (constants.job_key_prefix, constants.result_key_prefix) == (keys.PAYLOAD, keys.RESULT)
    assert constants.abort_jobs_ss == "arq:abort"
    assert timedelta(seconds=constants.keep_cronjob_progress) == CRON_RESULT_KEPT
    assert constants.health_check_key_suffix == ":health-check"


def test_arqs_client_takes_a_pool_and_serializers():
    parameters = inspect.signature(ArqRedis.__init__).parameters
    assert list(parameters)[:5] == ["self", "pool_or_conn", "job_serializer", "job_deserializer", "default_queue_name"]
