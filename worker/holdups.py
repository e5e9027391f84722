"""Says what keeps jobs in the queue: caps that are reached, lanes that are paused, whatever a burst waits for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis

from promptmill.caps import SpendCap
from promptmill.errors import QueueUnavailable
from promptmill.halts import Halts
from promptmill.queue import Claims, keys
from promptmill.queue.connection import redis_errors
from promptmill.queue.held import why_held
from worker import events


class Holdups:
    """What a worker knows of it from its claims, and has said in its log. One for a worker."""

    def __init__(self, caps: Sequence[SpendCap]) -> None:
        self._caps = caps
        self._said: set[str] = set()
        self._log = structlog.get_logger()
        self.tell: Callable[[str, Mapping[str, Any]], None] = lambda _event, _about: None
        """Handed what is news to the whole fleet."""
        self.halts = Halts()
        """What was held back at the newest claim."""

    def hear(self, claims: Claims) -> None:
        """Say what is new: caps once for the fleet, lanes once for each worker: who waits for it waits for them."""
        for reached in claims.reached:
            say = self._log.error if reached.cap.action == "park" else self._log.warning
            say(events.SPEND_CAP_REACHED, **reached.to_log())
            self.tell("spend_cap", reached.to_log())
        before, self.halts = self.halts.lanes, claims.halts
        if paused := self.halts.lanes - before:
            why = {f"{halt.by}: {halt.why}" for halt in self.halts.all if halt.what == "lane" and halt.name in paused}
            self._log.warning(events.LANES_PAUSED, lanes=sorted(lane.value for lane in paused), why=sorted(why))
        if resumed := before - self.halts.lanes:
            self._log.info(events.LANES_RESUMED, lanes=sorted(lane.value for lane in resumed))

    async def say_why_nothing_goes(self, redis: Redis) -> None:
        """Log once what keeps back all that is left: whoever started a burst sits and waits for it."""
        with contextlib.suppress(QueueUnavailable), redis_errors():
            names = sorted(name.decode("utf-8", "replace") for name in await redis.smembers(keys.BUDGETS))  # type: ignore[misc]  # redis types both kinds of client alike
            why = await why_held(redis, names, caps=self._caps)
            new = {held.partition("(")[0] for held in why} - self._said
            if new:
                self._said |= new
                self._log.warning(events.BURST_WAITS, why="; ".join(why))
