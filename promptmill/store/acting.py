"""What is to be done about alarms and other events, and what became of it.

Any number of workers may look for what is due. Whoever moves a record's number of tries takes the action; should that
worker die, another one does when `next_at` has come. So an action is taken at least once, and hardly ever twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from promptmill.actions import ActionRecord, ActionState
from promptmill.alarms import AlarmState
from promptmill.store.database import Database
from promptmill.store.schema import actions, alarms

MOST: Final = 100
"""Alarms or records that are looked at in one turn."""
_OLDEST_FIRST: Final = (
    actions.c.due_since,
    sa.func.coalesce(actions.c.alarm_id, 0),
    actions.c.occasion,
    actions.c.action,
)


class Acting:
    """The statements behind `worker.monitoring.acting`. Raises StoreUnavailable as the whole store does."""

    def __init__(self, database: Database) -> None:
        """Use `ResultStore.acting`."""
        self._database = database

    async def add(self, records: Sequence[ActionRecord]) -> None:
        """Write down what is due; what is there already stays as it is."""
        if records:
            statement = self._database.insert(actions).on_conflict_do_nothing()
            rows = [asdict(record) | {"state": record.state.value} for record in records]
            await self._database.write(lambda connection: connection.execute(statement, rows))

    async def of_alarms(self, alarm_ids: Collection[int]) -> list[ActionRecord]:
        """Return what was to be done about these alarms, in the order in which it became due."""
        if not alarm_ids:
            return []
        statement = sa.select(actions).where(actions.c.alarm_id.in_(alarm_ids))
        statement = statement.order_by(*_OLDEST_FIRST)
        return await self._database.read(partial(_records, statement=statement))

    async def unnoted(
        self, action: str, condition: Mapping[str, str], *, since: datetime | None, limit: int = MOST
    ) -> list[int]:
        """Return alarms that meet `condition` and for which `action` was never noted; the oldest first.

        Those that are not resolved, and those raised since then.
        """
        noted = sa.select(actions.c.action).where(actions.c.alarm_id == alarms.c.id, actions.c.action == action)
        recent = sa.false() if since is None else alarms.c.raised_at >= since
        met = [alarms.c[name] == value for name, value in condition.items()]
        chosen = sa.or_(alarms.c.state != AlarmState.RESOLVED.value, recent)
        statement = sa.select(alarms.c.id).where(chosen, *met, ~noted.exists()).order_by(alarms.c.id).limit(limit)
        return await self._database.read(lambda connection: list(connection.execute(statement).scalars()))

    async def open(
        self, now: datetime, names: Collection[str], *, stale: datetime | None = None, limit: int = MOST
    ) -> list[ActionRecord]:
        """Return what is to be taken now, and what is held back for alarms that are resolved; the oldest first.

        Of what is due only actions of these names, and any that has been due since before `stale`.
        """
        known = sa.or_(actions.c.action.in_(list(names)), sa.false() if stale is None else actions.c.due_since < stale)
        due = sa.and_(actions.c.state == ActionState.DUE.value, known)
        over = sa.and_(actions.c.state == ActionState.HELD.value, alarms.c.state == AlarmState.RESOLVED.value)
        joined = actions.outerjoin(alarms, alarms.c.id == actions.c.alarm_id)
        statement = sa.select(actions).select_from(joined).where(actions.c.next_at <= now, sa.or_(due, over))
        statement = statement.order_by(*_OLDEST_FIRST).limit(limit)
        return await self._database.read(partial(_records, statement=statement))

    async def take(self, record: ActionRecord, *, until: datetime) -> ActionRecord | None:
        """Return the record as the caller's own until then; None where somebody else has it."""
        mine = replace(record, tries=record.tries + 1, next_at=until)
        return mine if await self._move(record, tries=mine.tries, next_at=until) else None

    async def put(self, record: ActionRecord, *, state: ActionState, says: str, at: datetime) -> None:
        """Write down what came of a record that was taken, and when; where nothing came of it, when to try it again."""
        ends = {} if state is record.state else {"ended_at": at}
        await self._move(record, state=state.value, says=says, next_at=at, **ends)

    async def _move(self, record: ActionRecord, **changes: Any) -> bool:
        same = (
            actions.c.occasion == record.occasion,
            actions.c.action == record.action,
            actions.c.state == record.state.value,
            actions.c.tries == record.tries,
        )
        statement = sa.update(actions).where(*same).values(**changes)
        return bool(await self._database.write(lambda connection: connection.execute(statement).rowcount))


def _records(connection: sa.Connection, *, statement: sa.Select[Any]) -> list[ActionRecord]:
    return [
        ActionRecord(**{**row._mapping, "state": ActionState(row.state)})  # noqa: SLF001 - SQLAlchemy's name for it
        for row in connection.execute(statement)
    ]
