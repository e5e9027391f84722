"""What whoever is to be told reads: a sentence for people, and the same as data. No prompt and no answer (I7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import Any, Final, NamedTuple

from promptmill.actions import ActionRecord
from promptmill.alarms import Alarm, AlarmState

_SPELT_OUT: Final = 10
"""Alarms that are told in words; all are in the data."""


class Case(NamedTuple):
    """Something that an action is to be taken for."""

    record: ActionRecord
    alarm: Alarm | None
    """None: it is about something else."""


def message(cases: Sequence[Case]) -> dict[str, Any]:
    """Return the body for a webhook: about alarms, or about one event of another kind.

    `text` is what Slack and those that take its messages show; the data stand beside it under a name of their own,
    which they pass over. When a model gets worse it does so in many series and metrics at once: one message for all.
    """
    first = cases[0].record
    alarms = [alarm for _, alarm in cases if alarm is not None]
    told = {
        "event": first.event,
        "at": first.due_since.astimezone(UTC).isoformat(),
        "occasions": [record.occasion for record, _ in cases],
    }
    if alarms:
        said = [_of_alarm(alarm) for alarm in alarms[:_SPELT_OUT]]
        if len(alarms) > _SPELT_OUT:
            said.append(f"{len(alarms) - _SPELT_OUT:,} alarms more: `promptmill alarms`")
        return {"text": _plain(said), "promptmill": {**told, "alarms": [alarm.to_json() for alarm in alarms]}}
    about = dict(first.about)
    return {"text": _plain([_SENTENCES[first.event](about)]), "promptmill": {**told, first.event: about}}


def _of_alarm(alarm: Alarm) -> str:
    key, shown = alarm.series, alarm.evidence.get("metric", {})
    model = key.model if key.model == key.asked else f"{key.model} (the fallback for {key.asked})"
    prompts = f"prompts of the kind {key.kind}" if key.kind else "prompts"
    moved = f" from {shown['before']['mean']:.4g} to {shown['after']['mean']:.4g}" if shown else f" ({alarm.direction})"
    resolved = f" It is resolved: {alarm.resolution}." if alarm.state is AlarmState.RESOLVED else ""
    return (
        f"answers of {model} to {prompts} in lane {key.lane} have become worse since "
        f"{alarm.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC: {alarm.metric}{moved}, {alarm.answers:,} answers; by "
        f"chance once in {alarm.once_in:,}.{resolved} `promptmill alarms show {alarm.id}`"
    )


def _of_cap(about: Mapping[str, Any]) -> str:
    parks = " Nothing more that it is for is sent until the hour or day is over." if about["action"] == "park" else ""
    return f"the spend cap of {about['cap']} is reached: {about['spent_usd']} USD.{parks}"


def _of_budget(about: Mapping[str, Any]) -> str:
    name = about["model_class"]
    return (
        f"{name} rests: {about['says']} ({about['outcome']}). Its jobs wait; one request every {about['probe_s']:g} s "
        f"finds out whether that is over. `promptmill resume {name}` tries at once"
    )


_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "spend_cap": _of_cap,
    "parked": _of_budget,
    "outage": _of_budget,
}


def _plain(said: Sequence[str]) -> str:
    """Return lines in which nothing calls a channel or makes a link: names of kinds are anybody's (I8)."""
    text = "\n".join(f"promptmill: {line}" for line in said)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
