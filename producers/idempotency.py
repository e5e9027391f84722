"""Idempotency keys: what a web retry carries, so that it is the same job and not another call.

The job's id is made of the key, so that a key holds as far as ids do: while the job is queued or runs, while its result
is kept in Redis, and beyond that wherever the result store has an answer. A key stands for one request: with another
one it is refused, since whoever asks would get the answer to something else.
"""

from __future__ import annotations

import hashlib
from typing import Final

import orjson
from redis.asyncio import Redis

from promptmill.errors import BadJob, KeyReused
from promptmill.queue import keys
from promptmill.queue.connection import redis_errors
from promptmill.results import Result
from promptmill.wire import Unreadable, unpack_envelope, unpack_job, unpack_result

MOST_CHARACTERS: Final = 255


def job_id_of(key: str, *, tenant: str) -> str:
    """Return the id of the job that `key` stands for; each tenant has keys of its own. Raises BadJob."""
    if not isinstance(key, str) or not 0 < len(key) <= MOST_CHARACTERS:
        got = f"{len(key)} characters" if isinstance(key, str) else type(key).__name__
        raise BadJob(f"idempotency_key: expected a text of 1 to {MOST_CHARACTERS} characters, got {got}")
    named = orjson.dumps([tenant, key.encode("utf-8", "surrogatepass").hex()])
    return f"key-{hashlib.blake2s(named, digest_size=20).hexdigest()}"


async def refuse_another(redis: Redis, job_id: str, request_ref: str) -> None:
    """Make sure that the job which was there already, queued or ended, is of the same request. Raises KeyReused."""
    with redis_errors():
        payload, result = await redis.mget(keys.PAYLOAD + job_id, keys.RESULT + job_id)
    try:
        if payload is not None:
            if unpack_job(unpack_envelope(payload), job_id=job_id).request_ref != request_ref:
                raise KeyReused
        elif result is not None:
            check_answer(unpack_result(result), request_ref)
    except Unreadable:  # what a stranger wrote will end as a dead letter, and say so
        return


def check_answer(result: Result, request_ref: str) -> None:
    """Make sure that `result` is of the same request; one of a job that nobody could read is. Raises KeyReused."""
    if result.request_ref and result.request_ref != request_ref:
        raise KeyReused
