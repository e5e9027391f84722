"""Where a job is, in each state that it can be in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest

from producers import JobState, JobStatus, Lane, ResultNotFound, Status
from promptmill.queue import Snooze, keys
from promptmill.queue.records import RECORD

FUTURE = datetime(2099, 1, 1, tzinfo=UTC)


def test_records_are_read_in_the_order_in_which_the_scripts_write_them():
    script = (files("promptmill.queue") / "lua" / "_record.lua").read_text()
    fields = re.search(r"local FIELDS = \{(.*?)\}", script, re.DOTALL)[1]
    assert tuple(re.findall(r"'(\w+)'", fields)) == RECORD


async def test_a_ready_job_has_a_place_in_its_lane(client):
    await client.submit("first", lane="overnight")
    second = await client.submit("second", lane="overnight")
    await client.submit("elsewhere", lane="interactive")

    assert await second.status() == JobStatus(
        second.job_id, JobState.READY, lane=Lane.OVERNIGHT, model_class="haiku-5-5", place=2
    )


async def test_a_waiting_job_says_until_when(client):
    handle = await client.submit("later", not_before=FUTURE)

    status = await handle.status()

    assert (status.state, status.until, status.place) == (JobState.WAITING, FUTURE, None)


async def test_a_running_job_says_when_its_lease_runs_out(client, worker):
    handle = await client.submit("now")
    await worker.claim()

    status = await handle.status()

    assert status.state is JobState.LEASED
    assert status.until > datetime.now(UTC) + timedelta(minutes=9)


async def test_attempts_that_were_used_up_are_counted(client, worker):
    handle = await client.submit("now")
    (claim,) = await worker.claim()
    await worker.queue.snooze(Snooze(claim, wait=timedelta(minutes=5), uses_attempt=True))

    status = await handle.status()

    assert (status.state, status.attempts) == (JobState.WAITING, 1)


async def test_a_cancelled_job_that_no_worker_has_seen_to_yet_says_how_it_will_end(client):
    handle = await client.submit("now")
    await handle.cancel()

    status = await handle.status()

    assert (status.state, status.ending, status.place) == (JobState.READY, Status.CANCELLED, None)


async def test_a_job_that_has_ended_says_how(client, worker):
    good, bad = await client.submit_many(["good", "fail"])
    await worker.drain()

    assert await good.status() == JobStatus(good.job_id, JobState.SUCCEEDED, lane=Lane.STANDARD, attempts=1)
    assert (await bad.status()).state is JobState.FAILED


@pytest.mark.parametrize("record", [None, b"not json", b'{"state":"r"}'])
async def test_a_job_of_an_arq_client_waits_for_a_worker_to_read_it(client, redis, record):
    await redis.zadd(keys.QUEUE, {"foreign": FUTURE.timestamp() * 1000})
    if record is not None:
        await redis.hset(keys.JOBS, "foreign", record)

    assert await client.status("foreign") == JobStatus("foreign", JobState.WAITING, until=FUTURE)


async def test_a_job_nobody_knows_has_no_status(client):
    with pytest.raises(ResultNotFound):
        await client.status("nobody")


@pytest.mark.parametrize("record", [b'["x",2,"haiku-5-5"]', b'["r",9,"haiku-5-5"]', b'["r",2,7]', b"[]", b"7", b"{"])
async def test_a_record_that_a_stranger_overwrote_is_shown_as_a_job_that_waits_to_be_adopted(client, record):
    handle = await client.submit("now")
    await client._redis.hset(keys.JOBS, handle.job_id, record)

    assert (await handle.status()).state is JobState.WAITING
