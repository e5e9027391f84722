"""`promptmill alarms` on a real store."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from promptmill.actions import ActionRecord, ActionState
from promptmill.alarms import Alarm, Resolution, SeriesKey
from promptmill.errors import BadInput
from promptmill.store.watching import Findings


@pytest.fixture
def alarmed(machine, moment):
    """One alarm of a primary model, one of a fallback."""
    first = Alarm(
        series=SeriesKey("claude-haiku-5-5", "claude-haiku-5-5", "summaries", "standard"),
        metric="code_block",
        direction="lower",
        way="all clearly",
        since=moment,
        raised_at=moment + timedelta(minutes=1),
        answers=217,
        once_in=2_000_000,
        evidence={
            "metric": {"metric": "code_block", "before": {"mean": 0.9}, "after": {"mean": 0.61}},
            "examples": {"before": ["job-1"], "after": ["job-9"]},
        },
    )
    fallback = replace(first, series=first.series._replace(model="claude-sonnet-5-5"), metric="overall", evidence={})

    async def raise_alarms(store):
        await store.watching.take_turn("worker", now=moment, until=moment)
        await store.watching.record(Findings(before=0, seq=1, states={}, raised=[first, fallback]))

    machine.on_store(raise_alarms)
    return machine


def test_without_alarms_it_says_so(machine):
    machine.run("db", "upgrade")
    assert machine.run("alarms").output == "no open alarms\n"


def test_open_alarms_are_listed_with_what_changed_and_since_when(alarmed, moment):
    shown = alarmed.run("alarms", "--json")
    newest, oldest = json.loads(shown.stdout)
    assert newest["series"]["model"] == "claude-sonnet-5-5"
    assert (oldest["metric"], oldest["state"], oldest["since"]) == ("code_block", "open", moment.isoformat())
    table = " ".join(alarmed.run("alarms").output.split())
    for part in ("code_block", "0.61", "0.9"):
        assert part in table


def test_the_evidence_of_one_can_be_seen(alarmed):
    shown = json.loads(alarmed.run("alarms", "show", "1").stdout)
    assert shown["evidence"]["examples"]["after"] == ["job-9"]


def test_an_alarm_shows_what_was_done_when_and_with_what_outcome(alarmed, moment):
    due = ActionRecord("alarm 1", "notify hooks.example.com 1a2b3c4d", "alarm", moment, moment, alarm_id=1)

    async def act(store):
        await store.acting.add([due])
        mine = await store.acting.take(due, until=moment)
        await store.acting.put(mine, state=ActionState.DONE, says="told, status 200", at=moment)

    alarmed.on_store(act)
    assert json.loads(alarmed.run("alarms", "show", "1").stdout)["actions"] == [
        {
            "action": "notify hooks.example.com 1a2b3c4d",
            "state": "done",
            "tries": 1,
            "due_since": moment.isoformat(),
            "ended_at": moment.isoformat(),
            "says": "told, status 200",
        }
    ]
    assert json.loads(alarmed.run("alarms", "show", "2").stdout)["actions"] == []


def test_an_alarm_is_acknowledged_and_resolved(alarmed):
    assert alarmed.run("alarms", "ack", "1").output == "alarm 1 is acknowledged\n"
    assert alarmed.run("alarms", "resolve", "1", "--accept").output == "alarm 1 is accepted\n"
    assert alarmed.run("alarms", "resolve", "2").output == "alarm 2 is dismissed\n"
    assert alarmed.run("alarms").output == "no open alarms\n"
    resolved = json.loads(alarmed.run("alarms", "--all", "--json").stdout)
    assert [alarm["resolution"] for alarm in resolved] == [Resolution.DISMISSED, Resolution.ACCEPTED]


def test_series_are_frozen_and_let_go(alarmed, moment):
    key = SeriesKey("claude-haiku-5-5", "claude-haiku-5-5", "summaries", "standard")
    alarmed.on_store(lambda store: store.watching.record(Findings(before=1, seq=2, states={key: {}})))
    assert alarmed.run("alarms", "freeze", "--kind", "others").output == "0 series are frozen\n"
    assert alarmed.run("alarms", "freeze", "--kind", "summaries").output == "1 series are frozen\n"
    assert alarmed.run("alarms", "freeze", "--undo").output == "1 series go on learning\n"


@pytest.mark.parametrize("command", ["show", "ack", "resolve"])
def test_an_alarm_that_is_not_there_is_said_to_be_missing(alarmed, command):
    done = alarmed.run("alarms", command, "4711")
    assert done.exit_code == 2
    assert "alarm 4711" in done.output + done.stderr
    assert BadInput.__name__ not in done.output
