"""What the watcher of answers reads and writes: answers in order, the states of series, alarms.

Each answer is watched exactly once, by whichever worker it is: what was found in a page of answers is committed
together with the number of its last one, and only if nobody else has moved that number meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from promptmill.alarms import MOVES, Alarm, AlarmState, Resolution, SeriesKey
from promptmill.errors import BadInput
from promptmill.results import Status
from promptmill.store.database import Database
from promptmill.store.schema import alarms, results, series, watch

_THE_ROW: Final = 1
_SERIES_OF: Final = (results.c.asked_model, results.c.sent_model, results.c.kind, results.c.lane)
_KEYS: Final = (series.c.asked_model, series.c.model, series.c.kind, series.c.lane)
_ALARM_KEYS: Final = (alarms.c.asked_model, alarms.c.model, alarms.c.kind, alarms.c.lane)
_MEASURED: Final = (results.c.seq, results.c.job_id, results.c.finished_at, results.c.quality, *_SERIES_OF)
_UNSAID: Final = frozenset({AlarmState.OPEN.value, AlarmState.ACKNOWLEDGED.value})


class Measured(NamedTuple):
    """One answer as far as the watcher looks at it."""

    seq: int
    job_id: str
    finished_at: datetime
    quality: dict[str, Any]
    series: SeriesKey


class Turn(NamedTuple):
    """A worker's turn to watch."""

    seq: int
    """Answers up to this one have been watched."""
    newest: int
    """No answer up to this one is still to come."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What came of the answers up to `seq`."""

    before: int
    """The number that the turn began with."""
    seq: int
    states: Mapping[SeriesKey, Mapping[str, Any]]
    raised: Sequence[Alarm] = ()
    recovered: Sequence[tuple[SeriesKey, str, datetime]] = ()
    """Series and metrics whose alarms are over, and since when."""
    obeyed: Collection[int] = field(default=())
    """Ids of alarms whose resolution was carried out."""


class Watching:
    """The statements behind `worker.monitoring`. Raises StoreUnavailable as the whole store does."""

    def __init__(self, database: Database) -> None:
        """Use `ResultStore.watching`."""
        self._database = database

    async def take_turn(self, watcher: str, *, now: datetime, until: datetime) -> Turn | None:
        """Return from where `watcher` is to watch until that time; None while another worker does."""
        return await self._database.write(partial(self._take_turn, watcher=watcher, now=now, until=until))

    async def leave_turn(self, watcher: str, *, now: datetime) -> None:
        """Let somebody else watch at once: this one stops."""
        statement = sa.update(watch).where(watch.c.watcher == watcher).values(held_until=now)
        await self._database.write(lambda connection: connection.execute(statement))

    async def page(self, turn: Turn, *, limit: int) -> list[Measured]:
        """Return the next answers to be watched, in order; results without an answer are left out."""
        statement = (
            sa.select(*_MEASURED)
            .where(results.c.seq > turn.seq, results.c.seq <= turn.newest, *_measured())
            .order_by(results.c.seq)
            .limit(limit)
        )
        return await self._database.read(partial(_read, statement=statement))

    async def around(self, key: SeriesKey, seq: int, *, most: int, within: int) -> list[Measured]:
        """Return answers of a series, in order: at most so many before `seq`, and as many from there on.

        Looks at no more than `within` results in either direction.
        """
        same = [column == value for column, value in zip(_SERIES_OF, key, strict=True)]
        chosen = sa.select(*_MEASURED).where(*same, *_measured()).limit(most)
        before = chosen.where(results.c.seq < seq, results.c.seq >= seq - within).order_by(results.c.seq.desc())
        after = chosen.where(results.c.seq >= seq, results.c.seq < seq + within).order_by(results.c.seq)
        earlier = await self._database.read(partial(_read, statement=before))
        return [*earlier[::-1], *await self._database.read(partial(_read, statement=after))]

    async def states(self, keys: Collection[SeriesKey]) -> dict[SeriesKey, dict[str, Any]]:
        """Return what is kept of these series; one that is new is missing."""
        found: dict[SeriesKey, dict[str, Any]] = {}
        for key in keys:
            same = [column == value for column, value in zip(_KEYS, key, strict=True)]
            state = await self._database.read(partial(_scalar, statement=sa.select(series.c.state).where(*same)))
            if state is not None:
                found[key] = state
        return found

    async def frozen(self) -> frozenset[SeriesKey]:
        """Return the series whose owner wants the baselines to stay as they are."""
        statement = sa.select(*_KEYS).where(series.c.frozen)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return frozenset(SeriesKey(*row) for row in rows)

    async def record(self, findings: Findings) -> bool:
        """Write down what was found; False, having written nothing, where somebody else watched the same answers."""
        return await self._database.write(partial(self._record, findings=findings))

    async def to_obey(self) -> list[Alarm]:
        """Return alarms that their owner resolved, and whose series do not know of it yet."""
        statement = sa.select(alarms).where(alarms.c.obeyed.is_(False), alarms.c.state == AlarmState.RESOLVED.value)
        return await self._database.read(partial(_alarms, statement=statement.order_by(alarms.c.id)))

    # alarms, for their owner ------------------------------------------------------------------------------------------

    async def alarms(self, *, resolved: bool = False, limit: int = 100) -> list[Alarm]:
        """Return alarms, the newest first: those that are not resolved, or all of them."""
        statement = sa.select(alarms).order_by(alarms.c.raised_at.desc(), alarms.c.id.desc()).limit(limit)
        if not resolved:
            statement = statement.where(alarms.c.state.in_(_UNSAID))
        return await self._database.read(partial(_alarms, statement=statement))

    async def alarm(self, alarm_id: int) -> Alarm | None:
        """Return the alarm of this id."""
        found = await self._database.read(partial(_alarms, statement=sa.select(alarms).where(alarms.c.id == alarm_id)))
        return found[0] if found else None

    async def acknowledge(self, alarm_id: int, *, now: datetime) -> None:
        """Note that somebody knows of the alarm. Raises BadInput where there is none, or it is past that."""
        await self._move(alarm_id, AlarmState.ACKNOWLEDGED, acknowledged_at=now)

    async def resolve(self, alarm_id: int, resolution: Resolution, *, now: datetime) -> None:
        """End the alarm. Raises BadInput where there is none, or it was resolved before."""
        await self._move(alarm_id, AlarmState.RESOLVED, resolved_at=now, resolution=resolution.value, obeyed=sa.false())

    async def freeze(
        self, *, frozen: bool, model: str | None = None, kind: str | None = None, lane: str | None = None
    ) -> int:
        """Have the baselines of series stay as they are, or go on learning; return of how many that was changed.

        None does not choose. Series of fallbacks are those of the model that answered.
        """
        wanted = {series.c.model: model, series.c.kind: kind, series.c.lane: lane}
        chosen = [column == value for column, value in wanted.items() if value is not None]
        statement = sa.update(series).where(series.c.frozen.is_not(frozen), *chosen).values(frozen=frozen)
        return await self._database.write(lambda connection: connection.execute(statement).rowcount)

    async def _move(self, alarm_id: int, to: AlarmState, **changes: Any) -> None:
        origins = [state.value for state, targets in MOVES.items() if to in targets]
        move = sa.update(alarms).where(alarms.c.id == alarm_id, alarms.c.state.in_(origins))
        statement = move.values(state=to.value, **changes)
        if not await self._database.write(lambda connection: connection.execute(statement).rowcount):
            alarm = await self.alarm(alarm_id)
            got = "no such alarm" if alarm is None else f"it is {alarm.state.value}"
            raise BadInput(f"alarm {alarm_id}: expected one that is {' or '.join(origins)}, {got}")

    def _take_turn(self, connection: sa.Connection, *, watcher: str, now: datetime, until: datetime) -> Turn | None:
        first = {"id": _THE_ROW, "seq": 0, "watcher": watcher, "held_until": now}
        connection.execute(self._database.insert(watch).on_conflict_do_nothing(), first)
        free = sa.or_(watch.c.watcher == watcher, watch.c.held_until <= now)
        took = connection.execute(sa.update(watch).where(free).values(watcher=watcher, held_until=until))
        if not took.rowcount:
            return None
        self._database.wait_for_results(connection)
        newest = connection.execute(sa.select(sa.func.max(results.c.seq))).scalar()
        return Turn(connection.execute(sa.select(watch.c.seq)).scalar_one(), newest or 0)

    def _record(self, connection: sa.Connection, *, findings: Findings) -> bool:
        move = sa.update(watch).where(watch.c.seq == findings.before).values(seq=findings.seq)
        if not connection.execute(move).rowcount:
            return False
        if findings.states:
            insert = self._database.insert(series)
            upsert = insert.on_conflict_do_update(index_elements=list(_KEYS), set_={"state": insert.excluded.state})
            rows = [_keyed(key) | {"state": state, "frozen": False} for key, state in sorted(findings.states.items())]
            connection.execute(upsert, rows)
        if findings.raised:
            connection.execute(sa.insert(alarms), [_alarm_row(alarm) for alarm in findings.raised])
        for key, metric, when in findings.recovered:
            same = [column == value for column, value in zip(_ALARM_KEYS, key, strict=True)]
            over = sa.update(alarms).where(*same, alarms.c.metric == metric, alarms.c.state.in_(_UNSAID))
            connection.execute(
                over.values(state=AlarmState.RESOLVED.value, resolved_at=when, resolution=Resolution.RECOVERED.value)
            )
        if findings.obeyed:
            connection.execute(sa.update(alarms).where(alarms.c.id.in_(findings.obeyed)).values(obeyed=sa.true()))
        return True


def _measured() -> tuple[sa.ColumnElement[bool], ...]:
    named = (column.is_not(None) for column in (results.c.quality, *_SERIES_OF))
    return (results.c.status == Status.SUCCEEDED.value, *named)


def _read(connection: sa.Connection, *, statement: sa.Select[Any]) -> list[Measured]:
    return [
        Measured(row.seq, row.job_id, row.finished_at, row.quality, SeriesKey(*row[-len(_SERIES_OF) :]))
        for row in connection.execute(statement)
    ]


def _scalar(connection: sa.Connection, *, statement: sa.Select[Any]) -> Any:
    return connection.execute(statement).scalar()


def _alarms(connection: sa.Connection, *, statement: sa.Select[Any]) -> list[Alarm]:
    return [_alarm_of(row) for row in connection.execute(statement)]


def _keyed(key: SeriesKey) -> dict[str, Any]:
    return {"asked_model": key.asked, "model": key.model, "kind": key.kind, "lane": key.lane}


def _alarm_row(alarm: Alarm) -> dict[str, Any]:
    return {
        **_keyed(alarm.series),
        "metric": alarm.metric,
        "direction": alarm.direction,
        "way": alarm.way,
        "since": alarm.since,
        "raised_at": alarm.raised_at,
        "answers": alarm.answers,
        "once_in": alarm.once_in,
        "evidence": dict(alarm.evidence),
        "state": alarm.state.value,
        "obeyed": True,
    }


def _alarm_of(row: sa.Row[Any]) -> Alarm:
    return Alarm(
        id=row.id,
        series=SeriesKey(row.asked_model, row.model, row.kind, row.lane),
        metric=row.metric,
        direction=row.direction,
        way=row.way,
        since=row.since,
        raised_at=row.raised_at,
        answers=row.answers,
        once_in=row.once_in,
        evidence=row.evidence,
        state=AlarmState(row.state),
        acknowledged_at=row.acknowledged_at,
        resolved_at=row.resolved_at,
        resolution=None if row.resolution is None else Resolution(row.resolution),
    )
