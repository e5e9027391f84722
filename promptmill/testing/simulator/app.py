"""The HTTP side: paths, headers and bodies. What is answered, `provider` decides; how, `wire` knows."""

import asyncio
from collections.abc import Callable

import orjson
from aiohttp import web
from pydantic import ValidationError

from promptmill.testing.simulator.clock import Clock
from promptmill.testing.simulator.config import Control
from promptmill.testing.simulator.provider import Provider
from promptmill.testing.simulator.validation import MOST_BYTES
from promptmill.testing.simulator.wire import HUNG_UP, carry_out

_MOST_MODELS = 1_000


class Endpoints:
    """The handlers of one simulator."""

    def __init__(self, provider: Provider, clock: Clock, control: Callable[[Control], None]) -> None:
        self._provider = provider
        self._clock = clock
        self._control = control

    def application(self) -> web.Application:
        """Return the application with every path in place."""
        application = web.Application(client_max_size=MOST_BYTES)
        application.router.add_post("/v1/messages", self.create)
        application.router.add_post("/v1/messages/count_tokens", self.count)
        application.router.add_get("/v1/models", self.list_models)
        application.router.add_get("/v1/models/{id}", self.get_model)
        application.router.add_get("/stats", self.stats)
        application.router.add_post("/control", self.control)
        application.router.add_route("*", "/{path:.*}", self.not_found)
        return application

    async def create(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/messages`."""
        stats = self._provider.stats
        stats.started()
        try:
            plan = self._provider.create(
                await _body(request),
                authorization=request.headers.get("Authorization", ""),
                job=request.headers.get("x-promptmill-job"),
            )
            return await carry_out(plan, request, self._clock)
        except (asyncio.CancelledError, ConnectionError):
            if not request.get(HUNG_UP, False):
                stats.abandoned += 1
            raise
        finally:
            stats.ended()

    async def count(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/messages/count_tokens`."""
        plan = self._provider.count(await _body(request), authorization=request.headers.get("Authorization", ""))
        return await carry_out(plan, request, self._clock)

    async def list_models(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/models?limit=20&after_id=...`."""
        limit = request.query.get("limit", "20")
        plan = self._provider.list_models(
            authorization=request.headers.get("Authorization", ""),
            limit=min(int(limit), _MOST_MODELS) if limit.isdecimal() else 20,
            after=request.query.get("after_id"),
        )
        return await carry_out(plan, request, self._clock)

    async def get_model(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/models/{id}`."""
        plan = self._provider.get_model(
            request.match_info["id"], authorization=request.headers.get("Authorization", "")
        )
        return await carry_out(plan, request, self._clock)

    async def not_found(self, request: web.Request) -> web.StreamResponse:
        """Every other path."""
        return await carry_out(self._provider.not_found(request.path), request, self._clock)

    async def stats(self, request: web.Request) -> web.Response:
        """`GET /stats`, with the counters by job and content for `?keys=1`."""
        snapshot = self._provider.snapshot(keys=request.query.get("keys") == "1")
        return _json(200, snapshot)

    async def control(self, request: web.Request) -> web.Response:
        """`POST /control`: answers the settings now in force, or what is wrong with the request."""
        try:
            self._control(Control.model_validate_json(await request.read()))
        except ValidationError as error:
            return _json(400, {"error": error.errors(include_url=False, include_context=False)})
        return _json(200, self._provider.config.model_dump(mode="json", exclude={"rejected_keys"}))


async def _body(request: web.Request) -> bytes | None:
    """Return the whole body, or None if it is larger than the API takes."""
    if (request.content_length or 0) > MOST_BYTES:
        return None
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return None


def _json(status: int, value: object) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(status=status, body=body, content_type="application/json")
