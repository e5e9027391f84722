"""What stands in Redis under a job's id, damaged in any way: the job runs or is buried with a reason, and the job
beside it is answered."""

from __future__ import annotations

import random
import re
from itertools import count

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from promptmill.jobs import Job
from promptmill.queue import keys, prepare
from promptmill.results import Status
from promptmill.wire import Unreadable, pack_job, unpack_envelope, unpack_job
from tests.support.damage import damaged_json
from tests.support.effort import cases
from tests.support.queues import START
from tests.support.workers import REQUEST, make_job

SECRET = "PROMPTMARK"
WHOLE = make_job(
    request={
        **REQUEST,
        "system": SECRET,
        "messages": [{"role": "user", "content": [{"type": "text", "text": SECRET}]}],
    },
    lane="interactive",
    not_before=START / 1000,
    deadline=START / 1000 + 10**6,
    fallbacks=("claude-sonnet-5-5",),
    expect={
        "similar_to": SECRET,
        "contains": ["a"],
        "matches": "a+",
        "json_schema": {"type": "object"},
        "min_words": 2,
    },
    tags={"tenant": "t", "kind": "k"},
    run="run-1",
    position=3,
    max_attempts=2,
    keep_result=60,
)
OURS = orjson.loads(pack_job(WHOLE, WHOLE.not_before))
THEIRS = {
    "f": "run_prompt",
    "a": [{"prompt": SECRET, "max_tokens": 5, "tags": {"a": "b"}}],
    "k": {},
    "et": 1,
    "t": None,
}


def is_a_name(payload: bytes) -> bool:
    """Whether the damage made a field's name of the prompt: names of fields are told."""
    return re.search(rb'PROMPTMARK[^"]*"\s*:', payload) is not None


seeds = st.integers(0, 2**64)
numbers = count(1)


@settings(max_examples=cases(200))
@given(seed=seeds)
def test_twenty_damaged_payloads_are_jobs_or_unreadable(seed):
    chance = random.Random(seed)
    for _ in range(20):
        payload = damaged_json(chance.choice([OURS, THEIRS]), chance)
        said = ""
        try:
            assert isinstance(unpack_job(unpack_envelope(payload), job_id="job-1"), Job)
        except Unreadable as error:
            said = str(error)
        assert len(said) < 2_000
        assert SECRET not in said or is_a_name(payload)


@settings(max_examples=cases(40))
@given(seed=seeds)
def test_of_ten_damaged_payloads_none_stops_the_worker_or_the_job_beside_it(loop, shop, seed):
    loop.run(work_off(shop, random.Random(seed)))


async def work_off(shop, chance):
    """Ours are overwritten in their place; theirs come as any arq client puts them in."""
    good, bad = make_job(f"good-{next(numbers)}"), [f"bad-{next(numbers)}" for _ in range(10)]
    shop.clock.now = START
    await shop.submit(good)
    payloads = [damaged_json(chance.choice([OURS, THEIRS]), chance) for _ in bad]
    for job_id, payload in zip(bad, payloads, strict=True):
        if chance.random() < 0.5:
            await shop.queue.submit([prepare(WHOLE.model_copy(update={"id": job_id}), shop.settings, now=shop.now())])
            await shop.redis.set(keys.PAYLOAD + job_id, payload)
        else:
            await shop.redis.set(keys.PAYLOAD + job_id, payload)
            await shop.redis.zadd(keys.QUEUE, {job_id: START})
    with capture_logs() as logs:
        for _ in range(8):
            await shop.work()
        assert (await shop.store.result(good.id)).status is Status.SUCCEEDED
        await shop.queue.cancel(bad)  # what is left is to be sent in a thousand years, or not known to be so yet
        await shop.run_to_end()
    for job_id in bad:
        result = await shop.store.result(job_id)
        assert result is not None, f"{job_id} was lost"
        if result.status is Status.FAILED:
            letter = await shop.store.dead_letter(job_id)
            assert letter.reason
            assert SECRET not in letter.message or is_a_name(letter.payload)
    assert SECRET not in str(logs) or any(map(is_a_name, payloads))
    assert [entry for entry in logs if entry["event"] == "job_crashed"] == []
    await shop.redis.flushall()
    await shop.open_budgets()
