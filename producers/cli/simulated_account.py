"""The simulator as a process of its own, for as long as a demo lasts."""

from __future__ import annotations

import subprocess
import sys
from http.client import HTTPConnection
from importlib.util import find_spec
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import orjson

from promptmill.errors import MissingExtra, PromptmillError

_LIKE_A_CAREFUL_PROVIDER: Final = ("--depth", "1", "--latency", "0.5", "--tokens", "60")
"""Its buckets hold one second's worth: a burst is answered with 429 at once."""


class SimulatedAccount:
    """An account with `rpm` requests a minute. A context: the simulator runs inside. Raises MissingExtra."""

    base_url: str

    def __init__(self, rpm: int) -> None:
        if find_spec("aiohttp") is None:
            raise MissingExtra("the demo's simulator", "simulator")
        self._options = ("--port", "0", "--rpm", str(rpm), *_LIKE_A_CAREFUL_PROVIDER)

    def __enter__(self) -> Self:
        # In a session of its own: workers that finish their calls after a Ctrl-C still need it.
        self._process = subprocess.Popen(  # noqa: S603 - the interpreter that runs this
            [sys.executable, "-P", "-m", "promptmill.testing.simulator", *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            said = self._process.stdout.readline().split()
        except BaseException:
            self._end()
            raise
        if not said:
            self._end()
            raise PromptmillError(f"the simulator did not start (exit code {self._process.returncode})")
        self.base_url = said[-1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def count_requests(self) -> tuple[int, int]:
        """Return how many requests arrived, and how many of them were refused with 429."""
        address = urlsplit(self.base_url)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=10)
        try:
            connection.request("GET", "/stats")
            stats = orjson.loads(connection.getresponse().read())
        finally:
            connection.close()
        return int(stats["requests"]), int(stats["by_status"].get("429", 0))

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
