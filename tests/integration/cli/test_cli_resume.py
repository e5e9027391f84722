"""`promptmill resume` on a real Valkey."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from promptmill.queue import keys

OUT = {"open_since": 1, "open_reason": "bad_key", "probe_at": 4e12, "probe_every": 30_000, "open_until": 0}


@pytest.fixture
def troubled(machine):
    """One class is out, one is paused, one is well."""

    async def trouble(queue):
        await queue.redis.hset(keys.BUDGET + "haiku-5-5", mapping=OUT)
        await queue.block("opus-5", timedelta(hours=1), "rate_limited")

    for model_class in ("haiku-5-5", "opus-5", "sonnet-5"):
        machine.configure(model_class)
    machine.on_queue(trouble)
    return machine


def kept_back(machine) -> set[str]:
    budgets = json.loads(machine.run("status", "--json").stdout)["budgets"]
    return {budget["name"] for budget in budgets if budget["out_since"] or budget["blocked_until"]}


def test_all_that_is_kept_back_goes_on(troubled):
    done = troubled.run("resume")
    assert (done.exit_code, done.stdout) == (
        0,
        "haiku-5-5 goes on (it was kept back: bad_key)\nopus-5 goes on (it was kept back: rate_limited)\n",
    )
    assert kept_back(troubled) == set()


def test_a_class_that_is_named_goes_on_and_no_other(troubled):
    assert troubled.run("resume", "haiku-5-5").exit_code == 0
    assert kept_back(troubled) == {"opus-5"}


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ((), "nothing is parked, paused or out"),
        (("sonnet-5",), "nothing holds back sonnet-5"),
        (("sonnet-5", "standard"), "nothing holds back sonnet-5, standard"),
    ],
)
def test_where_nothing_is_kept_back_that_is_said(machine, named, says):
    machine.configure("sonnet-5")
    done = machine.run("resume", *named)
    assert (done.exit_code, done.stdout) == (0, f"{says}\n")


def test_where_a_lane_alone_is_kept_back_the_budgets_are_said_not_to_be(machine):
    machine.run("pause", "overnight")
    assert machine.run("resume").stdout == (
        "no budget is parked, paused or out\nstill held back: overnight (`promptmill resume overnight`)\n"
    )


def test_a_name_is_listed_once_where_none_was_meant(machine):
    machine.run("pause", "overnight")
    assert "known are overnight, interactive, standard\n" in machine.run("resume", "xyz").stderr


def test_a_mistyped_class_is_met_with_the_one_that_was_meant(troubled):
    done = troubled.run("resume", "haiku-55")
    assert done.exit_code == 2
    assert "no budget of model class 'haiku-55', nor a lane; did you mean haiku-5-5?" in done.stderr
    assert kept_back(troubled) == {"haiku-5-5", "opus-5"}


def halts(machine) -> list[tuple[str, str, str]]:
    shown = json.loads(machine.run("status", "--json").stdout)["halts"]
    return [(halt["what"], halt["name"], halt["by"]) for halt in shown]


def test_a_lane_is_paused_shown_and_resumed(machine, make_job):
    machine.configure("haiku-5-5")
    machine.submit(make_job("a"))
    assert machine.run("pause", "standard", "--for", "2h", "--because", "new prompt").output == (
        "lane standard is paused for 2 h 0 min, or until `promptmill resume standard`\n"
    )
    assert halts(machine) == [("lane", "standard", "owner")]
    shown = " ".join(machine.run("status").output.split())
    for part in ("lane standard", "(new prompt)", "owner", "in 1 h", "1 paused"):
        assert part in shown
    assert machine.run("resume", "standard").output.startswith("lane standard goes on (it was held back by owner: ")
    assert halts(machine) == []


def test_what_nobody_names_stays_held_back_and_that_is_said(troubled):
    troubled.run("pause", "overnight")
    troubled.on_queue(lambda queue: queue.halt("fallback", "claude-opus-5", by="alarm 2", why="worse"))
    done = troubled.run("resume")
    assert done.stdout.splitlines()[2:] == [
        "still held back: claude-opus-5 (`promptmill resume claude-opus-5`)",
        "still held back: overnight (`promptmill resume overnight`)",
    ]
    assert kept_back(troubled) == set()
    assert troubled.run("resume", "claude-opus-5").stdout == (
        "claude-opus-5 is used as a fallback again (it was held back by alarm 2: worse)\n"
    )
    assert halts(troubled) == [("lane", "overnight", "owner")]


@pytest.mark.parametrize("length", ["", "soon", "-1h", "0", "1w", "1e9"])
def test_a_time_that_is_none_pauses_nothing(machine, length):
    done = machine.run("pause", "standard", "--for", length)
    assert done.exit_code == 2
    assert "expected a time such as 90s, 30m, 2h or 1d" in done.stderr
    assert halts(machine) == []


@pytest.mark.parametrize(("length", "said"), [("90", "1 min 30 s"), ("1.5h", "1 h 30 min"), ("2d", "2 d 0 h")])
def test_a_pause_lasts_as_long_as_was_said(machine, length, said):
    assert f"for {said}," in machine.run("pause", "standard", "--for", length).output
