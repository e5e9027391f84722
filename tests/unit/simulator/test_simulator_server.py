"""The simulator as a server on loopback: paths, streams, hanging requests, shutdown, the process."""

import asyncio
import itertools
import signal
import sys
from datetime import UTC, datetime, timedelta

import aiohttp
import orjson
import pytest

from promptmill.testing.simulator import CATALOGUE, Latency, Limits, ManualClock, Simulator, SimulatorConfig
from promptmill.testing.simulator.validation import MOST_BYTES

pytestmark = pytest.mark.enable_socket


def request_for(prompt: str = "Tell me about rivers.", **body):
    return {
        "model": "claude-haiku-5-5",
        "max_tokens": 500,
        "messages": [{"role": "user", "content": prompt}],
        **body,
    }


class Client:
    """Plain HTTP, to see exactly what is on the wire."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self._url = simulator.base_url
        self._session = session

    def post(self, prompt: str = "Tell me about rivers.", **body):
        return self._session.post(f"{self._url}/v1/messages", json=request_for(prompt, **body))

    async def get(self, path: str):
        async with self._session.get(self._url + path) as response:
            return response.status, await response.json()

    async def control(self, **changes):
        async with self._session.post(f"{self._url}/control", data=orjson.dumps(changes)) as response:
            return response.status, await response.json()


@pytest.fixture
async def started():
    """Starts simulators and clients of theirs, and closes them."""
    running: list[Simulator] = []
    sessions: list[aiohttp.ClientSession] = []

    async def start(clock=None, **settings) -> tuple[Simulator, Client]:
        simulator = Simulator(SimulatorConfig(**settings), clock=clock)
        await simulator.start()
        running.append(simulator)
        sessions.append(aiohttp.ClientSession(headers={"Authorization": "Bearer key"}))
        return simulator, Client(simulator, sessions[-1])

    yield start
    for session in sessions:
        await session.close()
    for simulator in running:
        await simulator.close()


def events_in(body: bytes) -> list[dict]:
    events = []
    for block in body.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        event = orjson.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        events.append(event)
    return events


async def test_a_stream_is_the_same_answer_in_pieces(started):
    _, client = await started(limits={"rpm": 60})
    async with client.post() as response:
        whole = await response.json()
    async with client.post(stream=True) as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["anthropic-ratelimit-requests-remaining"] == "58"
        assert response.headers["request-id"].startswith("req_")
        events = events_in(await response.read())
    kinds = [kind for kind, _ in itertools.groupby(event["type"] for event in events)]
    assert kinds == [
        "message_start",
        "ping",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    assert text == whole["content"][0]["text"]
    assert events[-2]["delta"]["stop_reason"] == whole["stop_reason"]
    assert events[-2]["usage"] == whole["usage"]
    assert events[0]["message"]["usage"]["output_tokens"] == 1


async def test_a_stream_comes_as_it_is_generated(started):
    clock = ManualClock()
    latency = Latency(first_byte=timedelta(seconds=2), per_token=timedelta(seconds=1))
    _, client = await started(clock, latency=latency)
    asking = asyncio.ensure_future(client.post("Reply with exactly: " + "x" * 50, stream=True).__aenter__())
    async with asyncio.timeout(30):
        await clock.sleeping()
        clock.advance(timedelta(seconds=2))
        response = await asking
        opening = [await response.content.readuntil(b"\n\n") for _ in range(3)]
        assert [event["type"] for event in events_in(b"".join(opening))][-1] == "content_block_start"
        for tokens, chars in ((8, 20), (8, 20), (4, 10)):
            await clock.sleeping()  # it has sent all that there is so far
            clock.advance(timedelta(seconds=tokens))
            [event] = events_in(await response.content.readuntil(b"\n\n"))
            assert event["delta"] == {"type": "text_delta", "text": "x" * chars}
        assert events_in(await response.read())[-1] == {"type": "message_stop"}


async def test_models_are_listed_in_pages(started):
    _, client = await started()
    status, first = await client.get("/v1/models?limit=4")
    assert (status, len(first["data"]), first["has_more"]) == (200, 4, True)
    _, rest = await client.get(f"/v1/models?after_id={first['last_id']}")
    assert [model["id"] for model in first["data"] + rest["data"]] == list(CATALOGUE)
    assert rest["has_more"] is False


async def test_one_model_can_be_looked_up(started):
    _, client = await started()
    _, model = await client.get("/v1/models/claude-3-5-haiku-20241022")
    assert (model["lifecycle"], datetime.fromisoformat(model["retires_at"])) == (
        "retired",
        datetime(2026, 2, 19, tzinfo=UTC),
    )
    status, error = await client.get("/v1/models/claude-9")
    assert (status, error["error"]["type"]) == (404, "not_found_error")


async def test_an_unknown_path_is_answered_like_the_api_does(started):
    _, client = await started()
    status, error = await client.get("/v1/nothing")
    assert (status, error["type"], error["error"]["type"]) == (404, "error", "not_found_error")


async def test_statistics_and_control_work_over_http(started):
    _, client = await started(track=True)
    async with client.post() as response:
        assert response.status == 200
    _, stats = await client.get("/stats?keys=1")
    assert (stats["requests"], stats["by_status"], len(stats["contents"])) == (1, {"200": 1}, 1)
    assert (await client.get("/stats"))[1]["contents"] == {}
    status, settings = await client.control(faults=[{"fault": "overloaded_error", "lasting": 30}], reset_stats=True)
    assert (status, settings["faults"][0]["lasting"]) == (200, "PT30S")
    async with client.post() as response:
        assert response.status == 529
    assert (await client.get("/stats"))[1]["requests"] == 1


@pytest.mark.parametrize("changes", [{"nonsense": 1}, {"faults": [{"fault": "nonsense"}]}, {"limits": {"rpm": -1}}])
async def test_a_mistaken_control_is_answered_with_400_and_changes_nothing(started, changes):
    simulator, client = await started()
    before = simulator.config
    status, told = await client.control(**changes)
    assert (status, bool(told["error"])) == (400, True)
    assert simulator.config == before


async def test_rejected_keys_are_never_shown(started):
    _, client = await started(rejected_keys={"sk-secret"})
    assert "sk-secret" not in str(await client.control())


async def test_a_body_over_32_mb_is_refused_with_413(started):
    _, client = await started()
    async with client.post("x" * MOST_BYTES) as response:
        assert (response.status, (await response.json())["error"]["type"]) == (413, "request_too_large")


async def test_hanging_requests_hold_nobody_else_up(started):
    simulator, client = await started()
    hanging = [asyncio.ensure_future(client.post(f"{n} [[fault:hang]]").__aenter__()) for n in range(50)]
    async with client.post() as response:
        assert response.status == 200
    while simulator.stats().in_flight < 50:
        await client.get("/stats")
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    while simulator.stats().in_flight:
        await client.get("/stats")
    assert simulator.stats().abandoned == 50
    assert simulator.stats().max_in_flight >= 50


async def test_closing_does_not_wait_for_what_hangs(started):
    clock = ManualClock()
    simulator, client = await started(clock, latency=Latency(first_byte=timedelta(days=1)))
    kinds = ["[[fault:hang]]", "[[fault:stream_stall]]", "[[fault:body_hang]]", "slow"]
    waiting = [asyncio.ensure_future(client.post(kind, stream=True).__aenter__()) for kind in kinds]
    await clock.sleeping(len(kinds))
    async with asyncio.timeout(30):
        await simulator.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, aiohttp.ClientError) for result in results)


async def test_a_closed_simulator_can_be_closed_again(started):
    simulator, _ = await started()
    await simulator.close()
    await simulator.close()
    with pytest.raises(RuntimeError, match="expected a started simulator"):
        _ = simulator.base_url


async def test_while_connections_are_refused_nobody_listens_and_then_somebody_does_again(started):
    clock = ManualClock()
    simulator, client = await started(clock)
    port = int(simulator.base_url.rpartition(":")[2])
    hanging = asyncio.ensure_future(client.post("[[fault:hang]]").__aenter__())
    status, _ = await client.control(refuse_connections=30)
    assert status == 200
    async with asyncio.timeout(30):
        await clock.sleeping()
        with pytest.raises(aiohttp.ClientConnectionError):
            await hanging
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        clock.advance(timedelta(seconds=30))
        await simulator._outage
    async with client.post() as response:
        assert response.status == 200


async def test_a_taken_port_is_an_error_that_says_so(started):
    simulator, _ = await started()
    port = int(simulator.base_url.rpartition(":")[2])
    with pytest.raises(OSError, match="address already in use"):
        await Simulator(SimulatorConfig(port=port)).start()


async def test_the_limits_hold_over_http(started):
    clock = ManualClock()
    simulator, client = await started(clock, limits=Limits(rpm=600, burst=10))

    async def ask(number: int) -> int:
        async with client.post(f"Request {number}.") as response:
            return response.status

    told = await asyncio.gather(*(ask(number) for number in range(50)))
    assert sorted(told) == [200] * 10 + [429] * 40
    clock.advance(timedelta(seconds=1))
    told = await asyncio.gather(*(ask(number) for number in range(50)))
    assert sorted(told) == [200] * 10 + [429] * 40
    assert simulator.stats().rate_limited == {"requests": 80}


async def test_as_a_process_it_prints_its_url_and_stops_cleanly_when_told():
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "promptmill.testing.simulator", "--port", "0", "--latency", "0", "--per-token", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        url = (await process.stdout.readline()).decode().split()[-1]
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer key"}) as session:
            async with session.post(f"{url}/v1/messages", json=request_for()) as response:
                assert response.status == 200
                assert response.headers["anthropic-ratelimit-requests-limit"] == "1000"
            hanging = asyncio.ensure_future(
                session.post(f"{url}/v1/messages", json=request_for("[[fault:hang]]")).__aenter__()
            )
            async with session.get(f"{url}/stats") as response:
                assert (await response.json())["requests"] >= 1
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                assert await process.communicate() == (b"", b"")
            assert process.returncode == 0
            with pytest.raises(aiohttp.ClientError):
                await hanging
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
