"""Every fault as the official SDK meets it: the truth that the worker's classification is built on.

Written down here is what `anthropic` 2.12.0 does with its default client and with the aiohttp one. Where the two
differ, it says so.
"""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import pytest

from promptmill.testing.simulator import FAULTS, Limits, Simulator, SimulatorConfig

pytestmark = pytest.mark.enable_socket

PATIENT = 60.0
IMPATIENT = httpx2.Timeout(PATIENT, read=2.0)
"""For what never answers; everything else must not depend on how fast this machine is."""

REQUEST: dict[str, Any] = {"model": "claude-haiku-5-5", "max_tokens": 500}


@dataclass(frozen=True)
class Raises:
    """`create()` raises this."""

    error: type[BaseException]
    status: int | None = None
    type: str | None = None
    error_code: str | None = None
    retry_after: str | None = None


@dataclass(frozen=True)
class Returns:
    """`create()` returns a Message with these fields."""

    stop_reason: str | None = "end_turn"
    type: str | None = "message"
    has_usage: bool = True
    blocks: int | None = 1


def refused(error, status, kind=None, error_code=None, retry_after=None) -> Raises:
    return Raises(error, status, kind, error_code, retry_after)


REFUSED = {
    "invalid_request_error": refused(anthropic.BadRequestError, 400, "invalid_request_error"),
    "own_spend_limit_reached": refused(anthropic.BadRequestError, 400, "invalid_request_error"),
    "authentication_error": refused(anthropic.AuthenticationError, 401, "authentication_error"),
    "billing_error": refused(anthropic.PaymentRequiredError, 402, "billing_error"),
    "linked_organization_spend_limit_reached": refused(
        anthropic.LinkedOrganizationSpendLimitReachedError,
        402,
        "billing_error",
        "linked_organization_spend_limit_reached",
    ),
    "permission_error": refused(anthropic.PermissionDeniedError, 403, "permission_error"),
    "not_found_html": refused(anthropic.NotFoundError, 404),
    "proxy_authentication_html": refused(anthropic.APIStatusError, 407),
    "redirect": refused(anthropic.NotFoundError, 404, "not_found_error"),  # followed, as the SDK does by default
    "not_found_error": refused(anthropic.NotFoundError, 404, "not_found_error"),
    "request_timeout": refused(anthropic.RequestTimeoutError, 408, "timeout_error"),
    "conflict_error": refused(anthropic.ConflictError, 409, "conflict_error"),
    "request_too_large": refused(anthropic.ContentTooLargeError, 413, "request_too_large"),
    "request_too_large_html": refused(anthropic.ContentTooLargeError, 413),
    "unprocessable_entity": refused(anthropic.UnprocessableEntityError, 422, "invalid_request_error"),
    "rate_limit_error": refused(anthropic.RateLimitError, 429, "rate_limit_error", retry_after="2"),
    "rate_limit_error_without_retry_after": refused(anthropic.RateLimitError, 429, "rate_limit_error"),
    "ramp_limit_exceeded": refused(
        anthropic.RampLimitExceededError, 429, "rate_limit_error", "ramp_limit_exceeded", "5"
    ),
    "enforced_spend_limit_reached": refused(
        anthropic.EnforcedSpendLimitReachedError, 429, "rate_limit_error", "enforced_spend_limit_reached"
    ),
    "contract_spend_limit_reached": refused(
        anthropic.ContractSpendLimitReachedError, 429, "rate_limit_error", "contract_spend_limit_reached"
    ),
    "api_error": refused(anthropic.InternalServerError, 500, "api_error"),
    "bad_gateway_html": refused(anthropic.InternalServerError, 502),
    "service_unavailable_text": refused(anthropic.ServiceUnavailableError, 503),
    "service_unavailable_empty": refused(anthropic.ServiceUnavailableError, 503),
    "gateway_timeout": refused(anthropic.GatewayTimeoutError, 504, "timeout_error"),
    "wrong_charset": Raises(UnicodeError),  # the SDK trips over a page that is not in the charset that it says
    "unknown_error_html": refused(anthropic.InternalServerError, 520),
    "overloaded_error": refused(anthropic.OverloadedError, 529, "overloaded_error"),
}
"""Streaming or not makes no difference to these."""

PAGE = "<!doctype html><html><head><title>Just a moment</title></head><body><h1>Just a moment</h1></body></html>"

NOT_STREAMING = {
    "empty_json": Raises(json.JSONDecodeError),
    "empty_text": "",
    "empty_without_content_type": "",
    "no_content": "",
    "html": PAGE,
    "html_as_json": Raises(json.JSONDecodeError),
    "cut_json": Raises(json.JSONDecodeError),
    "foreign_json": Returns(None, None, has_usage=False, blocks=None),
    "error_envelope": Returns(None, "error", has_usage=False, blocks=None),
    "json_null": None,
    "json_list": [1],
    "invalid_utf8": Raises(UnicodeDecodeError),
    "not_gzip": Raises(anthropic.APIConnectionError),
    "odd_usage": Returns(),
    "max_tokens": Returns("max_tokens"),
    "unfit_tool_input": Returns(),
    "stream_repeated_start": Returns(),
    "stream_unknown_events": Returns(),
    "empty_content": Returns(blocks=0),
    "no_stop_reason": Returns(None),
    "no_usage": Returns(has_usage=False),
    "refusal": Returns("refusal", blocks=0),
    "context_window_exceeded": Returns("model_context_window_exceeded"),
    "pause_turn": Returns("pause_turn"),
    "connection_closed": Raises(anthropic.APIConnectionError),
    "connection_reset": Raises(anthropic.APIConnectionError),
    "garbage": Raises(anthropic.APIConnectionError),
    "short_body": Raises(anthropic.APIConnectionError),
    "stream_error": Raises(anthropic.OverloadedError, 529, "overloaded_error"),
    "stream_cut": Raises(anthropic.APIConnectionError),
    "stream_no_stop": Raises(json.JSONDecodeError),
    "stream_empty": Raises(json.JSONDecodeError),
    "stray_script": Returns(),
    "short_answer": Returns(),
    "worse_model": Returns(),
}

NO_EVENTS = Raises(AssertionError)
"""Iterating yields nothing, and `get_final_message()` fails on an assertion."""

STREAMING = {
    **dict.fromkeys(("empty_json", "empty_text", "empty_without_content_type", "no_content"), NO_EVENTS),
    **dict.fromkeys(("html", "html_as_json", "cut_json", "foreign_json", "error_envelope"), NO_EVENTS),
    **dict.fromkeys(("json_null", "json_list", "odd_usage", "stream_empty"), NO_EVENTS),
    "invalid_utf8": Raises(UnicodeDecodeError),
    "not_gzip": Raises(httpx2.DecodingError),
    "max_tokens": Returns("max_tokens"),
    "unfit_tool_input": Returns(),
    "stream_repeated_start": Returns(),
    "stream_unknown_events": Returns(),
    "empty_content": Returns(blocks=0),
    "no_stop_reason": Returns(None),
    "no_usage": Raises(AttributeError),
    "refusal": Returns("refusal", blocks=0),
    "context_window_exceeded": Returns("model_context_window_exceeded"),
    "pause_turn": Returns("pause_turn"),
    "connection_closed": Raises(anthropic.APIConnectionError),
    "connection_reset": Raises(anthropic.APIConnectionError),
    "garbage": Raises(anthropic.APIConnectionError),
    "stream_error": Raises(anthropic.APIStatusError, 200, "overloaded_error"),
    "stream_no_stop": Returns(None),
    "stray_script": Returns(),
    "short_answer": Returns(),
    "worse_model": Returns(),
}

CUT_STREAM = {"default": httpx2.RemoteProtocolError, "aiohttp": httpx2.ReadError}
"""The one difference that an `except` clause sees: a stream whose connection ends in the middle."""

NEVER_ANSWERED = {
    ("hang", False): anthropic.APITimeoutError,
    ("body_hang", False): anthropic.APITimeoutError,
    ("stream_stall", False): anthropic.APITimeoutError,
    ("hang", True): anthropic.APITimeoutError,
    ("body_hang", True): httpx2.ReadTimeout,
    ("stream_stall", True): httpx2.ReadTimeout,
}


@pytest.fixture(params=["default", "aiohttp"])
def backend(request):
    return request.param


@pytest.fixture
async def simulator():
    async with Simulator(SimulatorConfig(track=True)) as running:
        yield running


@pytest.fixture
async def client_of(simulator, backend):
    clients = []

    def make(timeout: Any = PATIENT) -> anthropic.AsyncAnthropic:
        http_client = anthropic.DefaultAioHttpClient() if backend == "aiohttp" else None
        clients.append(
            anthropic.AsyncAnthropic(
                api_key="key", base_url=simulator.base_url, max_retries=0, timeout=timeout, http_client=http_client
            )
        )
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


def asking(prompt: str) -> dict[str, Any]:
    return {**REQUEST, "messages": [{"role": "user", "content": prompt}]}


async def create(client: anthropic.AsyncAnthropic, prompt: str) -> Any:
    return await client.messages.create(**asking(prompt))


async def stream(client: anthropic.AsyncAnthropic, prompt: str) -> Any:
    async with client.messages.stream(**asking(prompt)) as events:
        return await events.get_final_message()


async def check(call, expected: Any) -> None:
    """Call, and compare what comes of it."""
    if isinstance(expected, Raises):
        with pytest.raises(expected.error) as caught:
            await call
        assert type(caught.value) is expected.error
        if expected.status is not None:
            check_status_error(caught.value, expected)
        return
    got = await call
    if isinstance(expected, Returns):
        assert (got.type, got.stop_reason, got.usage is not None) == (
            expected.type,
            expected.stop_reason,
            expected.has_usage,
        )
        assert (None if got.content is None else len(got.content)) == expected.blocks
    else:
        assert got == expected


def check_status_error(error: anthropic.APIStatusError, expected: Raises) -> None:
    assert (error.status_code, error.type, error.error_code) == (expected.status, expected.type, expected.error_code)
    assert error.response.headers.get("retry-after") == expected.retry_after
    if expected.type is None:
        assert isinstance(error.body, str | None)  # raw text, or nothing
    else:
        assert error.request_id.startswith("req_")


def test_every_fault_is_written_down_here():
    hanging = {name for name, _ in NEVER_ANSWERED}
    assert {*REFUSED, *NOT_STREAMING} | hanging | {"slow_first_byte"} == set(FAULTS)
    assert {*REFUSED, *STREAMING} | hanging | {"slow_first_byte", "short_body", "stream_cut"} == set(FAULTS)


@pytest.mark.parametrize(("fault", "expected"), [*REFUSED.items(), *NOT_STREAMING.items()])
async def test_a_fault_without_streaming(client_of, fault, expected):
    await check(create(client_of(), f"Tell me about rivers. [[fault:{fault}]]"), expected)


@pytest.mark.parametrize(("fault", "expected"), [*REFUSED.items(), *STREAMING.items()])
async def test_a_fault_with_streaming(client_of, fault, expected):
    await check(stream(client_of(), f"Tell me about rivers. [[fault:{fault}]]"), expected)


@pytest.mark.parametrize("fault", ["short_body", "stream_cut"])
async def test_a_cut_stream_raises_what_the_http_client_raises(client_of, backend, fault):
    await check(stream(client_of(), f"Tell me about rivers. [[fault:{fault}]]"), Raises(CUT_STREAM[backend]))


async def test_what_never_answers_ends_in_a_timeout_of_two_kinds(client_of):
    client = client_of(IMPATIENT)
    await asyncio.gather(
        *(
            check((stream if streams else create)(client, f"Hello. [[fault:{fault}]]"), Raises(error))
            for (fault, streams), error in NEVER_ANSWERED.items()
        )
    )


async def test_a_refused_connection_and_one_that_broke_are_not_told_apart_by_the_aiohttp_client(
    simulator, client_of, backend
):
    with pytest.raises(anthropic.APIConnectionError) as broke:
        await create(client_of(), "[[fault:connection_closed]]")
    client = client_of()
    await simulator.close()
    with pytest.raises(anthropic.APIConnectionError) as refused_connection:
        await create(client, "Hello")
    assert type(refused_connection.value.__cause__) is httpx2.ConnectError
    assert type(broke.value.__cause__) is (httpx2.ConnectError if backend == "aiohttp" else httpx2.RemoteProtocolError)


async def test_the_sdk_sends_each_request_once(simulator, client_of):
    client = client_of()
    for fault in ("connection_closed", "connection_reset", "short_body", "overloaded_error"):
        with pytest.raises(anthropic.APIError):
            await create(client, f"Tell me about rivers. [[fault:{fault}]]")
    assert {count.requests for count in simulator.stats(keys=True).contents.values()} == {1}


async def test_a_good_answer_is_the_same_with_and_without_streaming(client_of):
    client = client_of()
    whole, streamed = await create(client, "Tell me about rivers."), await stream(client, "Tell me about rivers.")
    assert streamed.content[0].text == whole.content[0].text
    assert (streamed.usage, streamed.stop_reason) == (whole.usage, whole.stop_reason)


async def test_thinking_and_tool_calls_survive_streaming(client_of):
    tool = {"name": "look", "input_schema": {"type": "object", "properties": {"where": {"type": "string"}}}}
    request = {
        **asking("Look at the rivers."),
        "max_tokens": 4_000,
        "thinking": {"type": "adaptive"},
        "tools": [tool],
        "tool_choice": {"type": "any"},
    }
    client = client_of()
    whole = await client.messages.create(**request)
    async with client.messages.stream(**request) as events:
        streamed = await events.get_final_message()
    assert [block.type for block in whole.content] == ["thinking", "tool_use"]
    assert streamed.content[0].thinking == whole.content[0].thinking
    assert streamed.content[1].input == whole.content[1].input
    assert (streamed.usage, streamed.stop_reason) == (whole.usage, "tool_use")


async def test_a_real_429_tells_limit_remaining_reset_and_retry_after(simulator, client_of):
    simulator.control(limits=Limits(rpm=1, burst=1, itpm=60_000, otpm=60_000).model_dump(exclude_unset=True))
    client = client_of()
    await create(client, "Hello")
    with pytest.raises(anthropic.RateLimitError) as caught:
        await create(client, "Hello")
    headers = caught.value.response.headers
    assert int(headers["retry-after"]) in range(1, 61)
    for kind in ("requests", "input-tokens", "output-tokens", "tokens"):
        assert int(headers[f"anthropic-ratelimit-{kind}-limit"]) > 0
        assert int(headers[f"anthropic-ratelimit-{kind}-remaining"]) >= 0
        assert headers[f"anthropic-ratelimit-{kind}-reset"].endswith("Z")


async def test_counting_tokens_and_models_work_through_the_sdk(client_of):
    client = client_of()
    counted = await client.messages.count_tokens(
        model="claude-haiku-4-5", messages=[{"role": "user", "content": "x" * 35}]
    )
    assert counted.input_tokens == 10
    names = [model.id async for model in client.models.list(limit=3)]
    assert len(names) > 3
    assert (await client.models.retrieve(names[0])).lifecycle == "active"


async def test_an_empty_or_rejected_key_is_an_authentication_error(simulator, backend):
    simulator.control(rejected_keys={"sk-old"})
    http_client = anthropic.DefaultAioHttpClient() if backend == "aiohttp" else None
    async with anthropic.AsyncAnthropic(
        api_key="sk-old", base_url=simulator.base_url, max_retries=0, http_client=http_client
    ) as client:
        await check(create(client, "Hello"), Raises(anthropic.AuthenticationError, 401, "authentication_error"))


async def test_a_request_over_32_mb_is_content_too_large(client_of):
    await check(
        create(client_of(), "x" * (32 * 1024 * 1024)), Raises(anthropic.ContentTooLargeError, 413, "request_too_large")
    )
