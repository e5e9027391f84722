"""How each kind of action is taken. A new kind is a model in promptmill.actions and an entry in `acts`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import aiohttp
import orjson

from promptmill.actions import ActionRecord, AlarmAction, Notify, PauseLane, SendCanaries
from promptmill.alarms import Alarm
from promptmill.errors import BadInput
from promptmill.queue import Queue
from worker.monitoring.messages import Case, message

TIMEOUT: Final = timedelta(seconds=10)
"""For a webhook to answer."""
_LATER: Final = frozenset({408, 425, 429})
"""Refusals that say nothing of the message."""


MoreCanaries = Callable[[str, datetime, int], Awaitable[None]]
"""Given a model, when its answers were found worse, and how many rounds: has them sent, once for all alarms of about
that time. Raises BadInput where that model cannot be asked, and QueueUnavailable."""


class NotNow(Exception):  # noqa: N818 - what it says is the outcome
    """It may be tried again."""


class Refused(Exception):  # noqa: N818 - as above
    """It would be refused again."""


class Act(NamedTuple):
    """One kind of action."""

    take: Callable[[Any, Sequence[Case]], Awaitable[str]]
    """Given the action as it was configured, and what for; returns what was done, in words. May be called twice for the
    same. Raises NotNow, Refused, or what Queue raises."""
    together: bool = False
    """Whether it is taken for all that is due at once, instead of for one after the other."""
    holds: bool = False
    """Whether it holds something back under the name of the occasion, until its alarm is resolved."""


def acts(queue: Queue, more_canaries: MoreCanaries) -> Mapping[str, Act]:
    """Return each kind of action by its name in the settings."""

    async def stop_fallback(_action: AlarmAction, cases: Sequence[Case]) -> str:
        ((record, alarm),) = _with_alarms(cases)
        await queue.halt("fallback", alarm.series.model, by=record.occasion, why=_why(alarm))
        return f"{alarm.series.model} is not used as a fallback"

    async def pause_lane(action: PauseLane, cases: Sequence[Case]) -> str:
        ((record, alarm),) = _with_alarms(cases)
        lane = action.pause or alarm.series.lane
        await queue.halt("lane", lane, by=record.occasion, why=_why(alarm))
        return f"lane {lane} is paused"

    async def send_canaries(action: SendCanaries, cases: Sequence[Case]) -> str:
        ((_, alarm),) = _with_alarms(cases)
        model = alarm.series.model
        try:
            await more_canaries(model, alarm.raised_at, action.rounds)
        except BadInput as error:
            raise Refused(str(error)) from None
        return f"{action.rounds} {'round' if action.rounds == 1 else 'rounds'} of canaries sent to {model}"

    return {
        "notify": Act(_notify, together=True),
        "stop_fallback": Act(stop_fallback, holds=True),
        "pause_lane": Act(pause_lane, holds=True),
        "send_canaries": Act(send_canaries),
    }


async def lift(queue: Queue, record: ActionRecord) -> None:
    """Let go on what is held back under the name of the record's occasion. Raises QueueUnavailable."""
    for halt in (await queue.halts(0)).all:
        if halt.by == record.occasion:
            await queue.lift(halt.what, halt.name, by=halt.by)


async def _notify(action: Notify, cases: Sequence[Case]) -> str:
    # The address is a secret: no error's words are passed on, since they may quote it (I7).
    body = orjson.dumps(message(cases))
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT.total_seconds()), trust_env=True) as http,
            http.post(
                action.url.get_secret_value(),
                data=body,
                headers={"content-type": "application/json"},
                allow_redirects=False,
            ) as answer,
        ):
            status = answer.status
    except aiohttp.InvalidURL:
        raise Refused("the address is none that can be called") from None
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise NotNow(f"no answer: {type(error).__name__}") from None
    if 200 <= status < 300:
        return f"told, status {status}"
    if status in _LATER or status >= 500:
        raise NotNow(f"not accepted, status {status}")
    raise Refused(f"refused, status {status}")


def _with_alarms(cases: Sequence[Case]) -> list[tuple[ActionRecord, Alarm]]:
    found = [(record, alarm) for record, alarm in cases if alarm is not None]
    if len(found) < len(cases):
        raise Refused("the alarm is gone")
    return found


def _why(alarm: Alarm) -> str:
    return f"{alarm.metric} of {alarm.series.model} has become worse"
