"""The headers of every attempt are heard once, as soon as they come, by whoever sent that attempt."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from tests.support.providers import Held, ScriptedApi, answering, breaking, events_of, failing, message
from tests.support.workers import LONG, REQUEST, make_settings

LEFT = "anthropic-ratelimit-requests-remaining"


async def heard_of(*script, request=REQUEST):
    """What is heard of one request."""
    heard = []
    async with ScriptedApi(*script).provider(make_settings()) as provider:
        await provider.send(request, job_id="job-1", hear=heard.append)
    return [headers.get(LEFT) for headers in heard]


@pytest.mark.parametrize("request_", [REQUEST, LONG], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "step",
    [
        answering(headers={LEFT: "9"}),
        failing(429, "rate_limit_error", headers={LEFT: "9", "retry-after": "7"}),
        failing(400, "invalid_request_error", headers={LEFT: "9"}),
        failing(529, "overloaded_error", headers={LEFT: "9"}),
        failing(502, headers={LEFT: "9"}),
    ],
    ids=["answer", "429", "400", "529", "502"],
)
async def test_headers_are_heard_once_whatever_the_answer_is(step, request_):
    assert await heard_of(step, request=request_) == ["9"]


@pytest.mark.parametrize("request_", [REQUEST, LONG], ids=["whole", "streamed"])
async def test_without_an_answer_nothing_is_heard(request_):
    assert await heard_of(breaking(httpx2.ConnectError("refused")), request=request_) == []


async def test_the_headers_of_a_stream_are_heard_at_its_first_byte():
    heard, end = asyncio.Event(), asyncio.Event()
    first, *rest = events_of(message())

    async def body():
        yield first
        await end.wait()
        for event in rest:
            yield event

    async def step(_request):
        return httpx2.Response(200, content=body(), headers={"content-type": "text/event-stream", LEFT: "9"})

    async with ScriptedApi(step).provider(make_settings()) as provider:
        sending = asyncio.create_task(provider.send(LONG, job_id="job-1", hear=lambda _: heard.set()))
        await heard.wait()
        assert not sending.done()
        end.set()
        assert (await sending).sighting.complete


async def test_each_of_many_requests_hears_its_own_headers():
    held = [Held(answering(headers={LEFT: str(number)})) for number in range(3)]
    api = ScriptedApi(*held)
    heard = {}
    async with api.provider(make_settings()) as provider:

        async def send(number):
            def hear(headers):
                heard[number] = headers[LEFT]

            await provider.send(REQUEST, job_id=f"job-{number}", hear=hear)

        tasks = []
        for number in range(3):
            tasks.append(asyncio.create_task(send(number)))
            await api.arrival(number + 1)
        for each in reversed(held):
            each.release()
        await asyncio.gather(*tasks)
    assert heard == {0: "0", 1: "1", 2: "2"}
