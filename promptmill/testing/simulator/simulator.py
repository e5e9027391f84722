"""The simulator as a whole: an HTTP server on loopback, started and stopped with `async with`."""

import asyncio
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from promptmill.testing.simulator.app import Endpoints
from promptmill.testing.simulator.clock import Clock, SystemClock, to_ns
from promptmill.testing.simulator.config import Control, SimulatorConfig
from promptmill.testing.simulator.provider import Provider
from promptmill.testing.simulator.stats import StatsSnapshot


class Simulator:
    """A Claude Messages API to talk to at `base_url`, with any non-empty API key.

    `clock` is the machine's unless a test brings its own (`ManualClock`).
    """

    def __init__(self, config: SimulatorConfig | None = None, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._provider = Provider(config or SimulatorConfig(), self._clock)
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._port = 0
        self._outage: asyncio.Task[None] | None = None

    @property
    def config(self) -> SimulatorConfig:
        """The settings in force."""
        return self._provider.config

    @property
    def base_url(self) -> str:
        """What clients take as `base_url`. Raises RuntimeError before the simulator was started."""
        if self._runner is None:
            raise RuntimeError("expected a started simulator: use it in `async with`, or call start() first")
        host = self.config.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    def stats(self, *, keys: bool = False) -> StatsSnapshot:
        """Return the counts so far; by job and content only with `keys`, and `track` in the configuration."""
        return self._provider.snapshot(keys=keys)

    def control(self, **changes: Any) -> None:
        """Change settings while running: the fields of `Control`.

        Raises pydantic's ValidationError (a ValueError) for what `Control` does not know.
        """
        self._apply(Control(**changes))

    async def start(self) -> None:
        """Listen. Raises OSError if the port is taken."""
        endpoints = Endpoints(self._provider, self._clock, self._apply)
        runner = web.AppRunner(endpoints.application(), access_log=None, handler_cancellation=True)
        await runner.setup()
        self._runner = runner
        try:
            await self._listen(self.config.port)
        except OSError:
            await self.close()
            raise
        self._port = runner.addresses[0][1]

    async def close(self) -> None:
        """Drop every connection, whatever it waits for, and stop listening."""
        if self._outage is not None:
            self._outage.cancel()
            await asyncio.gather(self._outage, return_exceptions=True)
        if self._runner is not None:
            self._drop_connections()
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _apply(self, control: Control) -> None:
        self._provider.control(control)
        if control.refuse_connections is not None and self._runner is not None:
            if self._outage is not None:
                self._outage.cancel()
            self._outage = asyncio.get_running_loop().create_task(self._refuse(control.refuse_connections))

    async def _refuse(self, span: timedelta) -> None:
        """Be down for a while: nobody listens, and every connection is gone."""
        until_ns = self._clock.now_ns() + to_ns(span)
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self._drop_connections()
        await self._clock.sleep_until(until_ns)
        await self._listen(self._port)

    async def _listen(self, port: int) -> None:
        if self._runner is None:
            return
        self._site = web.TCPSite(self._runner, self.config.host, port, reuse_address=True)
        await self._site.start()

    def _drop_connections(self) -> None:
        """Abort every connection; the server then cancels the handler that was working for it."""
        server = self._runner.server if self._runner is not None else None
        for connection in server.connections if server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()
