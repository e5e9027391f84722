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
from promptmill.alarms import AlarmState
from promptmill.errors import QueueUnavailable, StoreUnavailable
from promptmill.queue import Queue
from promptmill.store import ResultStore
from promptmill.store.acting import MOST
from worker import events
from worker.logs import where
from worker.monitoring.acts import MoreCanaries, NotNow, Refused, acts, lift
from worker.monitoring.messages import Case

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
        """Those of one name differ in what they are for, not in what they do."""
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
        for action in self._actions:
            while await self._note(action):
                pass
        while await self._take_due():
            pass

    async def _note(self, action: AlarmAction) -> bool:
        """Note alarms for which an action is due, also those of a worker that knows of none; whether there may be more.

        What would be held back for an alarm that is over is not: somebody is told all the same.
        """
        if isinstance(action, Notify) and "alarm" not in action.on:
            return False
        now, name = self._now(), action.name
        since = None if self._acts[action.do].holds else now - PATIENCE
        found = await self._store.acting.unnoted(name, action.condition, since=since)
        await self._store.acting.add(
            [ActionRecord(f"alarm {alarm_id}", name, "alarm", now, now, alarm_id=alarm_id) for alarm_id in found]
        )
        return len(found) == MOST

    async def _take_due(self) -> bool:
        """Take what is due, at most MOST of it; whether there may be more."""
        now = self._now()
        to_take = await self._store.acting.open(now, self._by_name, stale=now - PATIENCE)
        groups: dict[Any, list[ActionRecord]] = {}
        for record in to_take:
            action = self._by_name.get(record.action)
            together = action is not None and self._acts[action.do].together and record.event == "alarm"
            groups.setdefault((record.action, together or record.occasion), []).append(record)
        for failed in await asyncio.gather(*map(self._try, groups.values()), return_exceptions=True):
            if failed is not None:
                raise failed
        return len(to_take) == MOST

    async def _try(self, due: Sequence[ActionRecord]) -> None:
        """Take one action for all these, as far as nobody else does."""
        taken = [await self._store.acting.take(record, until=self._now() + _MINE) for record in due]
        cases = [
            Case(record, None if record.alarm_id is None else await self._store.watching.alarm(record.alarm_id))
            for record in taken
            if record is not None
        ]
        if not cases:
            return
        state, says = await self._carry_out(self._by_name.get(due[0].action), cases)
        after: dict[ActionState, list[ActionRecord]] = {}
        for record, _ in cases:
            to = state or (ActionState.GIVEN_UP if self._is_stale(record) else record.state)
            wait = min(_FIRST_WAIT * 2 ** min(record.tries - 1, 20), _LONGEST_WAIT)
            at = self._now() + (wait if to is record.state else timedelta(0))
            kept = record.says if to is record.state is ActionState.HELD else says
            await self._store.acting.put(record, state=to, says=kept, at=at)
            after.setdefault(to, []).append(record)
        for to, records in after.items():
            self._say(records, to, says)

    def _is_stale(self, record: ActionRecord) -> bool:
        return record.state is ActionState.DUE and self._now() - record.due_since > PATIENCE

    async def _carry_out(self, action: AlarmAction | None, cases: Sequence[Case]) -> tuple[ActionState | None, str]:
        """Return what came of one try, in words; no state where it may be tried again."""
        record, alarm = cases[0]
        act = None if action is None else self._acts[action.do]
        is_over = alarm is not None and alarm.state is AlarmState.RESOLVED
        try:
            # Whoever took it first may have died in between: it may be held back without anybody knowing.
            if record.state is ActionState.HELD or (act is not None and act.holds and is_over):
                await lift(self._queue, record)
                return ActionState.LIFTED, f"{record.says or 'nothing was held back'}, until the alarm was resolved"
            if act is None:
                return ActionState.GIVEN_UP, "no worker's settings have it any more"
            says = await act.take(action, cases)
        except (NotNow, QueueUnavailable) as error:
            return None, str(error)
        except Refused as error:
            return ActionState.GIVEN_UP, str(error)
        return (ActionState.HELD if act.holds else ActionState.DONE), says

    def _say(self, records: Sequence[ActionRecord], state: ActionState, says: str) -> None:
        about = {"action": records[0].action, "occasions": [record.occasion for record in records], "says": says}
        if state is ActionState.GIVEN_UP:
            self._log.error(events.ACTION_GIVEN_UP, **about)
        elif state is not records[0].state:
            self._log.info(events.ACTION_TAKEN, state=state.value, **about)
        elif any(record.tries == 1 for record in records):
            self._log.warning(events.ACTION_FAILED, **about)
