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


@pytest.mark.parametrize("named", [(), ("sonnet-5",)])
def test_where_nothing_is_kept_back_that_is_said(machine, named):
    machine.configure("sonnet-5")
    done = machine.run("resume", *named)
    assert (done.exit_code, done.stdout) == (0, "nothing is parked, paused or out\n")


def test_a_mistyped_class_is_met_with_the_one_that_was_meant(troubled):
    done = troubled.run("resume", "haiku-55")
    assert done.exit_code == 2
    assert "no budget of model class 'haiku-55'; did you mean haiku-5-5?" in done.stderr
    assert kept_back(troubled) == {"haiku-5-5", "opus-5"}
