"""The baseline: arq as it comes, calling the same SDK. `python -m tests.bench.plain_arq_worker REDIS_URL`."""

from __future__ import annotations

import sys
from typing import Any

from anthropic import AsyncAnthropic, DefaultAioHttpClient
from arq.connections import ArqRedis
from arq.worker import Worker, func

from promptmill.wire import deserialize, serialize


async def ask(ctx: dict[str, Any], request: dict[str, Any]) -> str:
    response = await ctx["client"].messages.create(**request, extra_headers={"x-promptmill-job": ctx["job_id"]})
    return str(response.content[0].text)


async def startup(ctx: dict[str, Any]) -> None:
    ctx["client"] = AsyncAnthropic(max_retries=0, http_client=DefaultAioHttpClient())


if __name__ == "__main__":
    redis = ArqRedis.from_url(sys.argv[1])
    redis.job_serializer, redis.job_deserializer = serialize, deserialize
    Worker(
        [func(ask, name="ask")],
        redis_pool=redis,
        queue_name="arq:queue",
        on_startup=startup,
        max_jobs=50,
        job_serializer=serialize,
        job_deserializer=deserialize,
    ).run()
