"""`promptmill canaries` on a real queue and a real store."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from promptmill.canaries.sets import CANARY_TAG, ROUND_TAG
from promptmill.results import Result, Status

HOUR = timedelta(hours=1)


@pytest.fixture
def watched(machine):
    """Three rounds of two canaries; since the second one of them has failed."""
    now = datetime.now(UTC)
    rounds = {3: ("9", "Tokyo"), 2: ("9", "It is not [bold]\nTokyo, I am " + "quite " * 20), 1: ("9", "\x1b[2JParis")}
    results = [
        Result(
            f"canary/{name}-{hours}",
            Status.SUCCEEDED,
            asked_model="claude-haiku-5-5",
            kind="canary:1234abcd",
            tags={CANARY_TAG: name, ROUND_TAG: f"round-{3 - hours}"},
            quality={"instruction_following": 1.0 if text in ("9", "Tokyo") else 0.5},
            text=text,
            finished_at=now - hours * HOUR,
        )
        for hours, texts in rounds.items()
        for name, text in zip(("sum", "capital"), texts, strict=True)
    ]
    machine.on_store(lambda store: store.record(results))
    return machine


def test_without_canaries_it_says_how_to_have_some(machine):
    machine.run("db", "upgrade")
    shown = machine.run("canaries")
    assert shown.output == "no canary was answered in the last 168 hours; the setting `canaries` has them sent\n"


def test_it_shows_the_newest_round_beside_those_before_and_which_canary_fails(watched):
    head, model, gap, below, failing = watched.run("canaries").output.splitlines()
    assert head.split()[:4] == ["model", "newest", "round", "passed"]
    assert model.split() == [
        *("claude-haiku-5-5", "round-2", "50.0%", "of", "2", "75.0%", "of", "4", "0", "1", "██", "canary:1234abcd")
    ]
    assert not gap
    assert below.split()[:2] == ["model", "canary"]
    assert (failing.split()[:2], failing.split()[4:]) == (["claude-haiku-5-5", "capital"], ["2", "1", "[2JParis"])


def test_only_what_was_answered_lately_counts(watched):
    [shown] = json.loads(watched.run("canaries", "--since", "1.5", "--json").stdout)
    assert (shown["now"]["share"], shown["before"]["share"]) == (0.5, None)
    assert shown["failing"][0]["answer"] == "\x1b[2JParis"


def test_results_are_ones_own_unless_asked_otherwise(watched):
    assert watched.run("results").stdout == ""
    assert len(watched.run("results", "--canaries").stdout.splitlines()) == 6


def test_rounds_can_be_sent_at_once(machine):
    shown = machine.run("canaries", "send", "--rounds", "2", "--model", "claude-opus-5-5")
    assert shown.output == "60 canaries queued for claude-opus-5-5\n"
    queued = machine.on_queue(lambda queue: queue.redis.zrange("promptmill:queue", 0, -1))
    assert len(queued) == 60
    assert all(job_id.startswith(b"canary/sent-") for job_id in queued)


def test_without_a_model_every_model_of_the_settings_is_asked(machine, monkeypatch):
    monkeypatch.setenv("PROMPTMILL_CANARY_MODELS", '["claude-opus-5-5", "claude-haiku-4-5"]')
    assert machine.run("canaries", "send").output.splitlines() == [
        "30 canaries queued for claude-opus-5-5",
        "30 canaries queued for claude-haiku-4-5",
    ]


def test_a_set_that_cannot_be_used_is_not_sent(machine, monkeypatch, tmp_path):
    (tmp_path / "mine.jsonl").write_text("nonsense\n")
    monkeypatch.setenv("PROMPTMILL_CANARIES", "mine.jsonl")
    refused = machine.run("canaries", "send")
    assert refused.exit_code == 2
    assert "canaries: mine.jsonl: line 1: expected a JSON object" in refused.stderr
    assert machine.on_queue(lambda queue: queue.redis.zcard("promptmill:queue")) == 0


@pytest.mark.parametrize(("name", "code"), [("starter", 0), ("nowhere.jsonl", 2)])
def test_a_set_can_be_checked_before_it_is_used(name, code):
    command = [sys.executable, "-m", "producers.cli", "canaries", "check", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert ("30 canaries in starter" in done.stdout) is (code == 0)
    assert ("expected 'starter' or a file" in done.stderr) is (code == 2)


def test_the_doctor_looks_at_the_set(machine, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "any")
    monkeypatch.setenv("PROMPTMILL_CANARIES", "starter")
    assert "30 of starter every 60 minutes, to claude-haiku-5-5" in machine.run("doctor").output
    monkeypatch.setenv("PROMPTMILL_CANARIES", "nowhere.jsonl")
    found = {one["subject"]: one for one in json.loads(machine.run("doctor", "--json").stdout)}
    assert (found["canaries"]["level"], "nowhere.jsonl" in found["canaries"]["says"]) == ("fail", True)
