"""How many requests a second one simulator process answers, without limits and without latency.

    python tests/unit/simulator/simulator_throughput.py [requests] [connections]

The load comes from this process over keep-alive connections, with as little client work as HTTP allows, so that the
simulator is what is measured. The two want a core each. Prints requests a second, streaming and not; exits with 1
below the 3,000 that the benchmarks of the worker rely on.
"""

import asyncio
import subprocess
import sys
import time
from urllib.parse import urlsplit

import orjson

WANTED = 3_000


class Connection(asyncio.Protocol):
    """One keep-alive connection that asks, reads the answer, and asks again until `asks` is used up."""

    def __init__(self, asks, done: asyncio.Future[None], ending: bytes) -> None:
        self._asks = asks
        self._done = done
        self._ending = ending  # what the last bytes of every answer are
        self._tail = b""

    def connection_made(self, transport) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        if not self._tail and not data.startswith(b"HTTP/1.1 200 "):
            self._done.set_exception(RuntimeError(f"expected 200, got {data[:100]!r}"))
        self._tail = (self._tail + data)[-len(self._ending) :]
        if self._tail == self._ending:
            self._tail = b""
            self._ask()

    def _ask(self) -> None:
        request = next(self._asks, None)
        if request is not None:
            self._transport.write(request)
        elif not self._done.done():
            self._done.set_result(None)


def requests_for(count: int, *, stream: bool):
    for number in range(count):
        prompt = f"Write a short note about the history of bridge number {number} in at most 40 words."
        body = orjson.dumps(
            {
                "model": "claude-haiku-5-5",
                "max_tokens": 300,
                "messages": [{"role": "user", "content": prompt}],
                "stream": stream,
            }
        )
        head = (
            "POST /v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer key\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


async def requests_a_second(url: str, *, count: int, connections: int, stream: bool) -> float:
    loop = asyncio.get_running_loop()
    asks = requests_for(count, stream=stream)
    ending = b"\r\n0\r\n\r\n" if stream else b'"service_tier":"standard"}}'
    where = urlsplit(url)
    finished = []
    start = time.perf_counter()
    for _ in range(connections):
        done = loop.create_future()
        finished.append(done)
        await loop.create_connection(lambda done=done: Connection(asks, done, ending), where.hostname, where.port)
    await asyncio.gather(*finished)
    return count / (time.perf_counter() - start)


def main(count: int = 10_000, connections: int = 32) -> int:
    command = [sys.executable, "-m", "promptmill.testing.simulator"]
    options = ["--port", "0", "--tier", "none", "--latency", "0", "--per-token", "0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as simulator:
        try:
            url = simulator.stdout.readline().split()[-1]
            whole, streamed = (
                asyncio.run(requests_a_second(url, count=count, connections=connections, stream=stream))
                for stream in (False, True)
            )
        finally:
            simulator.terminate()
    print(f"whole answers: {whole:,.0f}/s; streams: {streamed:,.0f}/s; wanted: {WANTED:,}/s whole")
    return 0 if whole >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
