"""What a web retry carries: the same key is the same job, and never the answer to something else."""

from __future__ import annotations

import asyncio

import pytest

from producers import BadJob, Client, Job, KeyReused, Submitted
from promptmill.queue import keys
from tests.unit.producers.test_client_submitting import queued


async def test_the_same_key_twice_is_one_job_and_both_get_the_answer(client, worker):
    first = await client.submit("hello", idempotency_key="click 7")
    second = await client.submit("hello", idempotency_key="click 7")

    assert (first.submitted, second.submitted) == (Submitted.QUEUED, Submitted.THERE_ALREADY)
    both = asyncio.gather(first.result(), second.result())
    await worker.drain()
    assert [result.text for result in await both] == ["HELLO", "HELLO"]
    assert len(worker.requests) == 1


async def test_a_retry_after_the_end_gets_the_same_answer(client, worker):
    await client.submit("hello", idempotency_key="click 7")
    await worker.drain()

    assert (await client.ask("hello", idempotency_key="click 7")).text == "HELLO"
    assert len(worker.requests) == 1


async def test_a_retry_may_differ_in_everything_but_its_request(client, worker):
    first = await client.submit("hello", idempotency_key="click 7", lane="overnight", tags={"page": "home"})
    again = await client.submit("hello", idempotency_key="click 7", lane="interactive")
    assert first.job_id == again.job_id


@pytest.mark.parametrize("change", [{"prompt": "goodbye"}, {"max_tokens": 7}, {"model": "claude-sonnet-5-5"}])
async def test_a_key_that_comes_with_another_request_is_refused_while_the_first_is_queued(client, change):
    await client.submit({"prompt": "hello"}, idempotency_key="click 7")
    with pytest.raises(KeyReused, match="expected the request that it was used for before, got another"):
        await client.submit({"prompt": "hello", **change}, idempotency_key="click 7")


async def test_likewise_once_it_has_ended(client, worker):
    await client.submit("hello", idempotency_key="click 7")
    await worker.drain()
    with pytest.raises(KeyReused):
        await client.ask("goodbye", idempotency_key="click 7")
    assert len(worker.requests) == 1


async def test_an_answer_out_of_the_store_is_compared_too(client, redis, worker):
    """Redis has forgotten the first: only the answer tells that it is one to something else."""
    await client.submit("hello", idempotency_key="click 7")
    await worker.drain()
    (kept,) = await redis.keys(f"{keys.RESULT}*")
    old = await redis.getdel(kept)

    handle = await client.submit("goodbye", idempotency_key="click 7")
    await worker.drain()
    await redis.set(kept, old)
    with pytest.raises(KeyReused):
        await handle.result()


async def test_tenants_have_keys_of_their_own(client):
    ours = await client.submit("hello", idempotency_key="1", tags={"tenant": "acme"})
    theirs = await client.submit("goodbye", idempotency_key="1", tags={"tenant": "globex"})
    assert ours.job_id != theirs.job_id


async def test_whoever_may_come_back_sets_no_deadline(client, redis):
    with pytest.raises(TimeoutError):
        await client.ask("hello", timeout=0.01, idempotency_key="click 7")
    (payload,) = await redis.keys(f"{keys.PAYLOAD}*")
    job = await queued(redis, payload.decode().removeprefix(keys.PAYLOAD))
    assert job.deadline is None


async def test_a_key_stands_in_place_of_an_id(client, redis):
    with pytest.raises(BadJob, match="in place of an id"):
        await client.submit("hello", id="mine", idempotency_key="click 7")
    request = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    with pytest.raises(BadJob, match="in place of an id"):
        await client.submit(Job(id="mine", request=request), idempotency_key="click 7")
    assert (await client.submit(Job(request=request), idempotency_key="click 7")).submitted is Submitted.QUEUED


@pytest.mark.parametrize("key", ["", "x" * 256, 7])
async def test_what_is_no_key_is_refused_before_redis_is_asked(client, redis, key):
    with pytest.raises(BadJob, match="idempotency_key: expected a text of 1 to 255 characters"):
        await client.submit("hello", idempotency_key=key)
    assert await redis.keys("*") == []


@pytest.mark.parametrize("key", ["x" * 255, "white space, \N{GRINNING FACE}, \x00 and half a pair \ud800"])
async def test_any_text_is_a_key(client, key):
    first = await client.submit("hello", idempotency_key=key)
    assert first.job_id == (await client.submit("hello", idempotency_key=key)).job_id


async def test_a_payload_that_nobody_can_read_is_left_to_the_worker(client, redis):
    handle = await client.submit("hello", idempotency_key="click 7")
    await redis.set(keys.PAYLOAD + handle.job_id, b"\x80\x05.")
    assert (await client.submit("hello", idempotency_key="click 7")).submitted is Submitted.THERE_ALREADY


async def test_keys_hold_across_clients(settings, redis, worker):
    async with Client(settings, redis=redis) as one, Client(settings, redis=redis) as other:
        handles = await asyncio.gather(
            *(client.submit("hello", idempotency_key=f"key {n}") for n in range(50) for client in (one, other))
        )
        await worker.drain()
        texts = {(await handle.result()).text for handle in handles}
    assert texts == {"HELLO"}
    assert len(worker.requests) == 50
