"""Reads answers from the result store in the order in which they came, feeds the series, and raises alarms.

One worker of all watches at a time. Whether it really is one does not matter: what a page of answers led to is
committed together with how far the reading has come, so each answer counts once, whoever read it and whoever died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from promptmill.alarms import Alarm, Resolution, SeriesKey
from promptmill.errors import StoreUnavailable
from promptmill.store import ResultStore
from promptmill.store.sums import add_up
from promptmill.store.watching import Findings, Measured, Turn
from worker import events
from worker.logs import where
from worker.monitoring.evidence import evidence
from worker.monitoring.series import Change, Series
from worker.quality.metric import Metric

INTERVAL: Final = timedelta(seconds=10)
"""How often it is looked for new answers."""
_TURN: Final = timedelta(seconds=60)
"""After so long without a sign of the watcher another worker takes over."""
_PAGE: Final = 2_000
_SHOWN: Final = 300
"""Answers from either side that go into the evidence of an alarm."""
_LOOKED_THROUGH: Final = 50_000
"""Results that are looked through for them."""
_KEPT: Final = 2_000
"""Series whose states stay in memory, about 50 KB each; others are read again when their next answer comes."""


class Watcher:
    """Watches the answers of a whole fleet, when it is its turn. Used from one task."""

    def __init__(
        self,
        store: ResultStore,
        metrics: Sequence[Metric],
        *,
        name: str,
        false_alarm_every: int,
        tell: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`tell` is called when alarms were raised or resolved."""
        self._watching = store.watching
        self._told = tell
        self._metrics = metrics
        self._name = name
        self._false_alarm_every = false_alarm_every
        self._now = now
        self._sleep = sleep
        self._log = structlog.get_logger()
        self._series: dict[SeriesKey, Series] = {}
        self._reached = -1
        """The number up to which `_series` know the answers: another in the store means that somebody else watched."""

    async def keep(self) -> None:
        """Watch until cancelled. What fails is tried again: nothing depends on it but alarms."""
        while True:
            try:
                while await self.step():
                    pass
            except StoreUnavailable:
                self._series.clear()  # nobody knows whether the last page was committed; the recorder says what is away
            except Exception as error:  # noqa: BLE001 - said, and begun again
                self._series.clear()
                self._log.error(events.HELPER_CRASHED, error=type(error).__name__, where=where(error))
            await self._sleep(INTERVAL.total_seconds())

    async def finish(self) -> None:
        """Watch what has come since, and let another worker watch at once.

        The look that was broken off for this may have taken answers in that are still to be watched.
        """
        self._series.clear()
        while await self.step():
            pass
        await self._watching.leave_turn(self._name, now=self._now())

    async def step(self) -> bool:
        """Watch one page of answers, if it is this worker's turn; whether there may be more."""
        now = self._now()
        turn = await self._watching.take_turn(self._name, now=now, until=now + _TURN)
        if turn is None:
            return False
        if turn.seq != self._reached:
            self._series.clear()
        if turn.added_up < turn.seq:  # watched by a release that added nothing up
            passed = await self._watching.page(turn._replace(seq=turn.added_up, newest=turn.seq), limit=_PAGE)
            await self._watching.catch_up(turn, passed, limit=_PAGE)
            return True
        page = await self._watching.page(turn, limit=_PAGE)
        obeyed = await self._watching.to_obey()
        if turn.newest == turn.seq and not obeyed:
            return False
        await self._load([answer.series for answer in page] + [alarm.series for alarm in obeyed])
        frozen = await self._watching.frozen()
        for key in {answer.series for answer in page}:
            self._series[key].freeze(key in frozen)
        for alarm in obeyed:
            self._obey(alarm)
        changes = [(answer, change) for answer in page for change in self._observe(answer)]
        findings = await self._findings(turn, page, obeyed, changes)
        if not await self._watching.record(findings):
            self._series.clear()
            return True
        self._reached = findings.seq
        self._tell(findings)
        while len(self._series) > _KEPT:
            del self._series[next(iter(self._series))]
        return len(page) == _PAGE

    async def _load(self, keys: Sequence[SeriesKey]) -> None:
        new = dict.fromkeys(key for key in keys if key not in self._series)
        states = await self._watching.states(new)
        for key in new:
            self._series[key] = Series(self._metrics, false_alarm_every=self._false_alarm_every, stored=states.get(key))

    def _obey(self, alarm: Alarm) -> None:
        if (detector := self._series[alarm.series].detector(alarm.metric)) is None:
            return
        if alarm.resolution is Resolution.ACCEPTED:
            detector.relearn()
        else:
            detector.start_over()

    def _observe(self, answer: Measured) -> list[Change]:
        return self._series[answer.series].observe(answer.quality, answer.seq)

    async def _findings(
        self, turn: Turn, page: Sequence[Measured], obeyed: Sequence[Alarm], changes: Sequence[tuple[Measured, Change]]
    ) -> Findings:
        touched = {answer.series for answer in page} | {alarm.series for alarm in obeyed}
        raised = [await self._alarm(answer, change) for answer, change in changes if change.found.what == "worse"]
        return Findings(
            before=turn.seq,
            seq=page[-1].seq if len(page) == _PAGE else turn.newest,
            states={key: self._series[key].to_json() for key in touched},
            summaries={key: self._series[key].summary() for key in touched},
            hours=add_up(page),
            raised=raised,
            recovered=[
                (answer.series, change.metric, answer.finished_at)
                for answer, change in changes
                if change.found.what == "recovered"
            ],
            obeyed=[alarm.id for alarm in obeyed if alarm.id is not None],
        )

    async def _alarm(self, answer: Measured, change: Change) -> Alarm:
        metric, found = change
        around = await self._watching.around(answer.series, found.since, most=_SHOWN, within=_LOOKED_THROUGH)
        before = [one for one in around if one.seq < found.since]
        after = [one for one in around if found.since <= one.seq <= answer.seq]
        return Alarm(
            series=answer.series,
            metric=metric,
            direction=found.direction,
            way=found.way,
            since=after[0].finished_at if after else answer.finished_at,
            raised_at=answer.finished_at,
            answers=found.answers,
            once_in=round(found.once_in),
            evidence=evidence(metric, self._metrics, before, after),
        )

    def _tell(self, findings: Findings) -> None:
        if findings.raised or findings.recovered or findings.obeyed:
            self._told()
        for alarm in findings.raised:
            self._log.warning(
                events.ANSWERS_WORSE,
                **_named(alarm.series),
                metric=alarm.metric,
                direction=alarm.direction,
                way=alarm.way,
                since=alarm.since.isoformat(),
                answers=alarm.answers,
                once_in=alarm.once_in,
            )
        for key, metric, _ in findings.recovered:
            self._log.info(events.ANSWERS_RECOVERED, **_named(key), metric=metric)


def _named(key: SeriesKey) -> dict[str, Any]:
    return {"asked_model": key.asked, "model": key.model, "kind": key.kind, "lane": key.lane}
