"""What others put into Redis: an arq client's jobs are taken in, whatever else it is ends in the dead letters (I8)."""

from __future__ import annotations

from datetime import timedelta

import orjson
import pytest
from structlog.testing import capture_logs

from promptmill import wire
from promptmill.queue import keys
from promptmill.results import Status
from promptmill.wire import WIRE_VERSION, pack_job
from tests.support.workers import REQUEST, make_job, workshop
from tests.unit.worker.tables import NEVER_SENT


def envelope(*args, function="run_prompt", **more) -> bytes:
    return orjson.dumps({"t": None, "f": function, "a": list(args), "k": {}, "et": 1_799_999_990_000, **more})


async def enqueue(shop, payload: bytes | None, job_id: str | bytes = "job-1") -> None:
    """Put a job into the queue as `ArqRedis.enqueue_job` does."""
    key = job_id.encode() if isinstance(job_id, str) else job_id
    if payload is not None:
        await shop.redis.set(keys.PAYLOAD.encode() + key, payload)
    await shop.redis.zadd(keys.QUEUE, {key: shop.clock.now - 1_000})


ADOPTED = {
    "a prompt": {"prompt": "Say hello."},
    "a prompt as plain text": "Say hello.",
    "a prompt with its model": {"prompt": "Say hello.", "model": "claude-sonnet-5-5", "max_tokens": 7},
    "a whole body": {"params": REQUEST},
    "a job's own fields": {"request": REQUEST, "tags": {"app": "web"}, "run": "run-1", "lane": "interactive"},
    "the form of Message Batches": {"custom_id": "ignored", "params": REQUEST},
    "an older version": {"request": REQUEST, "version": 1},
}


@pytest.mark.parametrize("form", ADOPTED)
async def test_a_job_of_an_arq_client_is_taken_in_and_run_like_any_other(shop, form):
    await enqueue(shop, envelope(ADOPTED[form]))
    with capture_logs() as logs:
        assert await shop.work() == 1
    assert logs == [{"event": "job_adopted", "log_level": "info", "job": "job-1"}]
    assert shop.api.requests == [], "it has no budget yet"
    await shop.work()
    result = await shop.store.result("job-1")
    assert (result.status, result.text) == (Status.SUCCEEDED, "Hello.")
    assert shop.api.requests[0].json["messages"] == REQUEST["messages"]
    assert result.submitted_at.timestamp() == 1_799_999_990, "it waited from when its client enqueued it"
    assert result.attempts[0].number == 1


async def test_named_arguments_are_a_job_too(shop):
    await enqueue(shop, envelope(k={"prompt": "Say hello.", "tags": {"a": "b"}}))
    await shop.run_to_end()
    assert (await shop.store.result("job-1")).tags == {"a": "b"}


async def test_a_job_of_an_arq_client_gets_this_workers_defaults(shop):
    await enqueue(shop, envelope("Say hello."))
    await shop.run_to_end()
    assert shop.api.requests[0].json == {
        "model": "claude-haiku-5-5",
        "max_tokens": 1_024,
        "messages": [{"role": "user", "content": "Say hello."}],
    }


async def test_a_job_of_an_arq_client_may_wait_and_may_expire(shop):
    wait = (shop.now() + timedelta(seconds=5)).isoformat()
    await enqueue(shop, envelope({"prompt": "a", "not_before": wait}), "waits")
    await enqueue(shop, envelope({"prompt": "a", "deadline": shop.now().isoformat()}), "expires")
    await shop.run_to_end()
    assert (await shop.store.result("waits")).attempts[0].started_at >= shop.now() - timedelta(seconds=1)
    assert (await shop.store.result("expires")).status is Status.EXPIRED


async def test_a_job_of_an_arq_client_that_was_cancelled_before_it_was_taken_in_is_cancelled(shop):
    """Not a dead letter: its short form is a job all the same."""
    await enqueue(shop, envelope("Say hello."))
    await shop.queue.cancel(["job-1"])
    await shop.run_to_end()
    assert (await shop.store.result("job-1")).status is Status.CANCELLED
    assert shop.api.requests == []


async def test_a_job_of_an_arq_client_that_kills_workers_while_it_is_taken_in_ends(shop):
    await enqueue(shop, envelope("Say hello."))
    for _ in range(shop.settings.max_lost_leases):
        assert len(await shop.claim()) == 1
        shop.clock.advance(shop.settings.lease)
    await shop.run_to_end()
    assert (await shop.store.dead_letter("job-1")).reason == "lost_too_often"


async def test_a_lease_lost_while_a_job_is_taken_in_leaves_it_to_its_new_owner(shop):
    await enqueue(shop, envelope("Say hello."))
    lease = await shop.claim_one()
    shop.clock.advance(shop.settings.lease)
    async with workshop(shop.settings.data_dir, redis=shop.redis) as other:
        other.clock.now = shop.clock.now
        theirs = await other.claim_one()
        with capture_logs() as logs:
            await shop.run(lease)
        assert [entry["event"] for entry in logs] == ["lease_lost"]
        await other.run(theirs)
        await other.run_to_end()
    assert len(other.api.requests) == 1


BURIALS = {
    # payload: reason, whether it can be redriven
    "nothing": (None, "payload_missing", False),
    "no bytes": (b"", "unreadable_payload", False),
    "a pickle": (b"\x80\x04\x95\x10\x00", "unreadable_payload", False),
    "a pickle that would run a program": (b"cos\nsystem\n(S'touch pwned'\ntR.", "unreadable_payload", False),
    "text": (b"hello", "unreadable_payload", False),
    "a list": (b"[1]", "unreadable_payload", False),
    "not UTF-8": (b'{"f":"\xff"}', "unreadable_payload", False),
    "an envelope without a function": (b'{"et":1}', "unreadable_payload", False),
    "an envelope without a time": (b'{"f":"run_prompt"}', "unreadable_payload", False),
    "an envelope from the year 300,000": (
        b'{"f":"run_prompt","a":[{"prompt":"a"}],"et":10000000000000000}',
        "unreadable_payload",
        False,
    ),
    "nested without end": (
        b'{"f":"run_prompt","et":1,"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "unreadable_payload",
        False,
    ),
    "another function": (envelope("x", function="send_email"), "unknown_function", False),
    "no argument": (envelope(), "bad_job", False),
    "a number": (envelope(3), "bad_job", False),
    "a blank prompt": (envelope(" "), "bad_job", False),
    "an unknown field": (envelope({"prompt": "a", "modle": "b"}), "bad_job", False),
    "an unknown lane": (envelope({"prompt": "a", "lane": "fast"}), "bad_job", False),
    "an endless repetition": (envelope({"prompt": "a", "expect": {"matches": f"a{{{'9' * 30}}}"}}), "bad_job", False),
    "an answer longer than doubles count": (envelope({"prompt": "a", "max_tokens": 2**60}), "bad_job", False),
    "no messages": (envelope({"params": {"messages": []}}), "bad_job", False),
    "a model without limits": (envelope({"prompt": "a", "model": "claude-of-tomorrow"}), "bad_job", False),
    "a fallback without limits": (envelope({"prompt": "a", "fallbacks": ["claude-of-tomorrow"]}), "bad_job", False),
    "a request nested deep": (
        b'{"f":"run_prompt","et":1,"a":[{"params":{"messages":' + b"[" * 900 + b"]" * 900 + b"}}]}",
        "bad_job",
        False,
    ),
    "a version that is no number": (envelope({"version": "two", "request": {}}), "bad_job", False),
}


@pytest.mark.parametrize("what", BURIALS)
async def test_what_is_no_job_becomes_a_dead_letter_with_its_reason_and_the_worker_goes_on(shop, what):
    payload, reason, redrivable = BURIALS[what]
    await enqueue(shop, payload, "bad")
    await shop.submit(make_job("good"))
    await shop.run_to_end()

    letter = await shop.store.dead_letter("bad")
    assert (letter.reason, letter.payload, letter.redrivable) == (reason, payload or b"", redrivable)
    result = await shop.left_in_redis("bad")
    assert (result.status, result.error.name, result.lane) == (Status.FAILED, reason, "standard")
    assert result.error.message == letter.message
    assert shop.api.jobs == ["good"]
    assert await shop.redis.zcard(keys.QUEUE) == await shop.redis.hlen(keys.JOBS) == 0


async def test_every_outcome_without_a_request_is_met_here_or_in_the_pipelines_tests():
    assert {reason for _, reason, _ in BURIALS.values()} | {"lost_too_often", "interrupted"} == NEVER_SENT


@pytest.mark.parametrize(
    "job_id", [b"\xff\xfe", b"with space", b"a" * 300, b"nul\x00inside", "\N{GRINNING FACE}".encode() * 80]
)
async def test_a_strangers_id_may_be_anything(shop, job_id):
    await enqueue(shop, envelope("Say hello."), job_id)
    await shop.run_to_end()
    assert (await shop.store.dead_letters())[0].reason == "bad_job"
    assert await shop.redis.zcard(keys.QUEUE) == await shop.redis.hlen(keys.JOBS) == 0


async def test_a_payload_deleted_under_a_queued_job_buries_it(shop):
    await shop.submit(make_job())
    await shop.redis.delete(keys.PAYLOAD + "job-1")
    await shop.work()
    assert (await shop.store.dead_letter("job-1")).reason == "payload_missing"
    assert shop.api.requests == []


# what only a newer worker can read ------------------------------------------------------------------------------------


async def make_newer(shop, **fields) -> bytes:
    """Queue a job as a later promptmill would; its payload."""
    newer = orjson.loads(pack_job(make_job(), shop.now()))
    newer["a"][0] |= {"version": WIRE_VERSION + 1, **fields}
    payload = orjson.dumps(newer)
    await shop.submit(make_job())
    await shop.redis.set(keys.PAYLOAD + "job-1", payload)
    return payload


async def test_a_job_for_newer_workers_goes_back_to_the_queue_as_it_is_and_costs_nothing(shop):
    payload = await make_newer(shop, mood="cheerful")
    with capture_logs() as logs:
        assert await shop.work() == 1
        assert await shop.work() == 0, "not at once"
        shop.clock.advance(timedelta(seconds=1))
        assert await shop.work() == 1
    newer = WIRE_VERSION + 1
    says = f"the job has the wire version {newer}, and this promptmill reads up to {WIRE_VERSION}: upgrade it"
    left = {"event": "job_left_to_newer_workers", "log_level": "info", "job": "job-1", "version": newer}
    assert logs == [
        {"event": "worker_too_old", "log_level": "warning", "says": says},
        {**left, "wait_s": 1.0},
        {**left, "wait_s": 1.0},
    ]
    record = await shop.record_of()
    assert (record["state"], record["claims"], record["attempts"], record["lost"]) == ("w", 0, 0, 0)
    assert await shop.redis.get(keys.PAYLOAD + "job-1") == payload
    assert await shop.store.dead_letter("job-1") is None
    assert shop.api.requests == []


async def test_a_job_for_newer_workers_is_looked_at_ever_more_seldom(shop):
    await make_newer(shop)
    looked = 0
    for _ in range(24 * 60):
        looked += await shop.work()
        shop.clock.advance(timedelta(minutes=1))
    assert 24 * 6 <= looked <= 24 * 6 + 10


async def test_a_newer_worker_runs_what_older_ones_have_left_to_it(shop, monkeypatch):
    await make_newer(shop)
    await shop.work()
    monkeypatch.setattr(wire, "WIRE_VERSION", WIRE_VERSION + 1)
    await shop.run_to_end()
    result = await shop.store.result("job-1")
    assert (result.ok, result.attempts[0].number) == (True, 1)


async def test_jobs_for_newer_workers_do_not_keep_others_from_their_budget(shop):
    await make_newer(shop)
    await shop.submit(*(make_job(f"good-{n}") for n in range(5)))
    await shop.work()
    assert len(shop.api.requests) == 5


async def test_an_arq_clients_job_for_newer_workers_is_left_to_them_too(shop):
    await enqueue(shop, envelope({"version": WIRE_VERSION + 1, "mood": "cheerful"}))
    await shop.work()
    assert await shop.store.dead_letter("job-1") is None
    assert (await shop.record_of())["state"] == "w"


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.EXPIRED])
async def test_a_job_for_newer_workers_that_nobody_wants_any_more_is_ended(shop, status):
    payload = await make_newer(shop)
    if status is Status.CANCELLED:
        await shop.queue.cancel(["job-1"])
    else:
        await shop.redis.delete(keys.QUEUE, keys.JOBS)
        await shop.submit(make_job(deadline=shop.now() + timedelta(seconds=1)))
        await shop.redis.set(keys.PAYLOAD + "job-1", payload)
        shop.clock.advance(timedelta(seconds=1))
    await shop.run_to_end()
    assert (await shop.store.result("job-1")).status is status
    assert await shop.store.dead_letter("job-1") is None
