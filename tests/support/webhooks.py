"""A webhook on loopback: what it was sent, and answers as a test wants them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from tests.support.listening import listening

SECRET = "T000/B000/XXSECRETXX"


class Webhook:
    """Answers 200 unless `script` has other statuses; 0 answers nothing at all."""

    def __init__(self, *script: int) -> None:
        self.script = list(script)
        self.bodies: list[dict[str, Any]] = []
        self.base_url = ""
        self._arrivals = asyncio.Condition()

    @property
    def url(self) -> str:
        """Where to post; its path is the secret."""
        return f"{self.base_url}/services/{SECRET}"

    async def received(self, count: int) -> list[dict[str, Any]]:
        """Return what was sent once so many messages have come."""
        async with self._arrivals:
            await self._arrivals.wait_for(lambda: len(self.bodies) >= count)
        return self.bodies

    async def _serve(self, request: web.Request) -> web.Response:
        assert request.path == f"/services/{SECRET}"
        assert request.content_type == "application/json"
        async with self._arrivals:
            self.bodies.append(await request.json())
            self._arrivals.notify_all()
        status = self.script.pop(0) if self.script else 200
        if not status:
            await asyncio.Event().wait()
        return web.Response(status=status, text="ok", headers={"location": "/elsewhere"} if status == 302 else None)


@contextlib.asynccontextmanager
async def webhook(*script: int) -> AsyncIterator[Webhook]:
    """Listen for the block."""
    hook = Webhook(*script)
    app = web.Application()
    app.router.add_post("/{path:.*}", hook._serve)
    async with listening(app) as hook.base_url:
        yield hook
