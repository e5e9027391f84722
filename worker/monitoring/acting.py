"""Does what the owner asked for when answers have become worse, or something else happens that is news to the fleet.

Every worker looks; the store sees to it that one takes each action, and another one if that one dies.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import structlog

from promptmill.actions import ActionRecord, ActionState, AlarmAction, Notify
from promptmill.alarms import Alarm, AlarmState
from promptmill.errors import QueueUnavailable, StoreUnavailable
from promptmill.queue import Queue
from promptmill.store import ResultStore
from worker import events
from worker.logs import where
from worker.monitoring.acts import MoreCanaries, NotNow, Refused, acts, lift

INTERVAL: Final = timedelta(seconds=10)
"""How often it is looked for what is due."""
PATIENCE: Final = timedelta(days=1)
"""After so long without success an action is given up: an old alarm is no news."""
_MINE: Final = timedelta(seconds=60)
"""Who takes an action has it for so long; a webhook is waited for no longer than a part of it."""
_FIRST_WAIT: Final = timedelta(seconds=10)
_LONGEST_WAIT: Final = timedelta(minutes=10)
_MOST_HEARD: Final = 1_000
"""Events that are kept while the store is away."""


class Acting:
    """Takes what is due. One for a worker process; all but `hear` and `poke` from one task."""

    def __init__(
        self,
        store: ResultStore,
        queue: Queue,
        actions: Sequence[AlarmAction],
        *,
        more_canaries: MoreCanaries,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._queue = queue
        self._actions = actions
        self._by_name = {action.name: action for action in actions}
        self._acts = acts(queue, more_canaries)
        self._now = now
        self._heard: list[ActionRecord] = []
        self._poked = asyncio.Event()
        self._log = structlog.get_logger()

    def hear(self, event: str, about: Mapping[str, Any]) -> None:
        """Take in what happened, of which nobody else of the fleet was told."""
        at, occasion = self._now(), f"{event} {uuid4().hex}"
        wanted = {action.name for action in self._actions if isinstance(action, Notify) and event in action.on}
        for name in wanted if len(self._heard) < _MOST_HEARD else ():
            self._heard.append(ActionRecord(occasion, name, event, at, at, about=dict(about)))
            self._poked.set()

    def poke(self) -> None:
        """Look at once: an alarm was raised or resolved."""
        self._poked.set()

    async def keep(self) -> None:
        """Take what is due until cancelled."""
        while True:
            self._poked.clear()
            try:
                await self.step()
            except (StoreUnavailable, QueueUnavailable):
                pass  # it stays due, and others say what is away
            except Exception as error:  # noqa: BLE001 - said, and begun again
                self._log.error(events.HELPER_CRASHED, error=type(error).__name__, where=where(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL.total_seconds()):
                    await self._poked.wait()

    async def step(self) -> None:
        """Note what is due, and take all of it that may be taken now."""
        heard = list(self._heard)
        await self._store.acting.add(heard)
        del self._heard[: len(heard)]
        await self._store.acting.add(await self._due())
        to_take = await self._store.acting.open(self._now())
        for failed in await asyncio.gather(*map(self._try, to_take), return_exceptions=True):
            if failed is not None:
                raise failed

    async def _due(self) -> list[ActionRecord]:
        """Return what nobody has noted yet, also for alarms that a worker raised which knows of no actions."""
        if not self._actions:
            return []
        now = self._now()
        found = [alarm for alarm in await self._store.watching.alarms(since=now - PATIENCE) if alarm.id is not None]
        noted = {
            (record.alarm_id, record.action)
            for record in await self._store.acting.of_alarms([alarm.id for alarm in found if alarm.id is not None])
        }
        return [
            ActionRecord(f"alarm {alarm.id}", name, "alarm", now, now, alarm_id=alarm.id)
            for alarm in found
            for name in dict.fromkeys(action.name for action in self._actions if self._is_for(action, alarm))
            if (alarm.id, name) not in noted
        ]

    def _is_for(self, action: AlarmAction, alarm: Alarm) -> bool:
        """Return whether an action is to be taken; what would be held back for an alarm that is over is not."""
        wanted = "alarm" in action.on if isinstance(action, Notify) else True
        late = self._acts[action.do].holds and alarm.state is AlarmState.RESOLVED
        return wanted and not late and action.is_for(alarm)

    async def _try(self, due: ActionRecord) -> None:
        action = self._by_name.get(due.action)
        stale = self._now() - due.due_since > PATIENCE
        if due.state is ActionState.DUE and action is None and not stale:
            return  # another worker's settings may have it
        record = await self._store.acting.take(due, until=self._now() + _MINE)
        if record is None:
            return
        alarm = None if record.alarm_id is None else await self._store.watching.alarm(record.alarm_id)
        state, says = await self._carry_out(record, action, alarm)
        if state is ActionState.DUE and stale:
            state = ActionState.GIVEN_UP
        wait = min(_FIRST_WAIT * 2 ** min(record.tries - 1, 20), _LONGEST_WAIT)
        at = self._now() + (wait if state is record.state else timedelta(0))
        await self._store.acting.put(record, state=state, says=says, at=at)
        self._say(record, state, says)

    async def _carry_out(
        self, record: ActionRecord, action: AlarmAction | None, alarm: Alarm | None
    ) -> tuple[ActionState, str]:
        """Return what came of one try."""
        act = None if action is None else self._acts[action.do]
        is_over = alarm is not None and alarm.state is AlarmState.RESOLVED
        try:
            # Whoever took it first may have died in between: it may be held back without anybody knowing.
            if record.state is ActionState.HELD or (act is not None and act.holds and is_over):
                await lift(self._queue, record)
                return ActionState.LIFTED, f"{record.says or 'nothing was held back'}, until the alarm was resolved"
            if act is None:
                return ActionState.GIVEN_UP, "no worker's settings have it any more"
            says = await act.take(action, record, alarm)
        except (NotNow, QueueUnavailable) as error:
            return record.state, str(error) if record.state is ActionState.DUE else record.says
        except Refused as error:
            return ActionState.GIVEN_UP, str(error)
        return (ActionState.HELD if act.holds else ActionState.DONE), says

    def _say(self, record: ActionRecord, state: ActionState, says: str) -> None:
        about = {"occasion": record.occasion, "action": record.action, "says": says}
        if state is ActionState.GIVEN_UP:
            self._log.error(events.ACTION_GIVEN_UP, **about)
        elif state is not record.state:
            self._log.info(events.ACTION_TAKEN, state=state.value, **about)
        elif record.tries == 1:
            self._log.warning(events.ACTION_FAILED, **about)
