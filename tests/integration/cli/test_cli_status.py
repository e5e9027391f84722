"""`promptmill status` on a real Valkey."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from promptmill.jobs import Lane
from promptmill.pacing import Charge, Cost, Reading
from promptmill.queue import keys
from promptmill.results import DeadLetter


def status(machine) -> dict:
    return json.loads(machine.run("status", "--json").stdout)


def test_an_empty_queue_says_what_to_do(machine):
    shown = machine.run("status")
    assert shown.exit_code == 0
    assert "0 jobs queued: 0 ready, 0 waiting, 0 leased;  dead letters: 0" in shown.stdout
    assert "nothing is sent until `promptmill worker` or `promptmill run` is started" in shown.stdout


def test_every_job_is_counted_in_its_lane_and_state(machine, make_job):
    machine.submit(
        make_job("ready-1"),
        make_job("ready-2", lane=Lane.OVERNIGHT),
        make_job("ready-3", model="claude-opus-5-5", deadline=datetime.now(UTC) + timedelta(hours=1)),
        make_job("waiting", not_before=datetime.now(UTC) + timedelta(hours=1)),
        make_job("leased-1", lane=Lane.INTERACTIVE),
        make_job("cancelled"),
    )
    machine.configure("haiku-5-5")

    async def claim_one(queue):
        await queue.redis.hset(keys.BUDGET + "haiku-5-5", "requests_tat", 0)
        await queue.redis.hset(keys.BUDGET + "haiku-5-5", "input_tat", 0)
        await queue.redis.hset(keys.BUDGET + "haiku-5-5", "output_tat", 0)
        claims = await queue.claim(worker="w", lease=timedelta(minutes=1), most=1, token_prefix="t")
        assert [claim.job_id for claim in claims.jobs] == ["leased-1"]
        await queue.cancel(["cancelled"])

    machine.on_queue(claim_one)
    seen = status(machine)
    assert {name: seen[name] for name in ("jobs", "ready", "waiting", "leased", "to_be_ended")} == {
        "jobs": 6,
        "ready": 4,
        "waiting": 1,
        "leased": 1,
        "to_be_ended": 1,
    }
    assert {budget["name"]: budget["lanes"] for budget in seen["budgets"]} == {
        "haiku-5-5": {"interactive": 0, "standard": 1, "overnight": 1},
        "opus-5": {"interactive": 0, "standard": 1, "overnight": 0},
    }


def test_a_job_that_an_arq_client_put_in_is_waiting(machine):
    machine.on_queue(lambda queue: queue.redis.zadd(keys.QUEUE, {"foreign": 5}))
    seen = status(machine)
    assert (seen["jobs"], seen["waiting"]) == (1, 1)


def test_a_budget_tells_its_rate_its_debt_and_why_it_is_blocked(machine):
    machine.configure("haiku-5-5")
    machine.on_queue(lambda queue: queue.block("haiku-5-5", timedelta(minutes=10), "enforced_spend_limit_reached"))
    (budget,) = status(machine)["budgets"]
    assert budget["per_minute"] == {"requests": 990.0, "input": 1_980_000.0, "output": 396_000.0}
    assert 590_000 < budget["next_request_ms"] <= 600_000
    assert set(budget["debt_ms"]) == {"requests", "input", "output"}
    assert budget["blocked_because"] == "enforced_spend_limit_reached"
    assert "for 9 min: enforced_spend_limit_reached" in machine.run("status").stdout


def test_a_budget_tells_what_the_provider_says_of_it(machine):
    machine.configure("haiku-5-5")
    (budget,) = status(machine)["budgets"]
    assert (budget["named"], budget["others"]) == ({}, None)
    assert "unknown" in machine.run("status").stdout

    async def hear(queue):
        now = int((await queue.redis.time())[0] * 1000)
        await queue.observe("haiku-5-5", Charge(now, Cost(0, 0, 0)), {"requests": Reading(500, 400)})
        await queue.redis.hset(keys.BUDGET + "haiku-5-5", mapping={"requests_others": 0.2, "input_others": 0})

    machine.on_queue(hear)
    (budget,) = status(machine)["budgets"]
    assert (budget["named"], budget["others"]) == ({"requests": 500.0}, 0.2)
    assert budget["per_minute"]["requests"] == pytest.approx(495)
    assert "20%" in machine.run("status").stdout
    machine.on_queue(lambda queue: queue.redis.hset(keys.BUDGET + "haiku-5-5", "seen_at", 1))
    assert status(machine)["budgets"][0]["others"] is None


def test_a_block_that_is_over_is_not_mentioned(machine):
    machine.configure("haiku-5-5")
    machine.on_queue(
        lambda queue: queue.redis.hset(keys.BUDGET + "haiku-5-5", mapping={"blocked_until": 1, "reason": "long ago"})
    )
    (budget,) = status(machine)["budgets"]
    assert (budget["blocked_until"], budget["blocked_because"]) == (None, None)


def test_a_budget_that_no_worker_has_set_yet_says_so(machine, make_job):
    machine.submit(make_job("a"))
    (budget,) = status(machine)["budgets"]
    assert budget["per_minute"] == {}
    assert "not set" in machine.run("status").stdout


def test_a_silent_worker_is_gone_and_one_that_cannot_be_read_is_left_out(machine):
    def about(seen_ago: float) -> bytes:
        now = datetime.now(UTC)
        return orjson.dumps(
            {
                "host": "here",
                "pid": int(seen_ago),
                "version": "0.1.0",
                "started_at": (now - timedelta(hours=2)).isoformat(),
                "seen_at": (now - timedelta(seconds=seen_ago)).isoformat(),
                "running": 3,
                "free": 47,
            }
        )

    machine.on_queue(
        lambda queue: queue.redis.hset(
            keys.WORKERS, mapping={"alive": about(1), "gone": about(60), "strange": b"{", "stranger": b"[]"}
        )
    )
    workers = {worker["id"]: worker["gone"] for worker in status(machine)["workers"]}
    assert workers == {"alive": False, "gone": True}
    shown = machine.run("status").stdout
    assert "60 s ago: gone" in shown or "1 min ago: gone" in shown


def test_runs_come_newest_first_and_at_most_as_many_as_asked_for(machine):
    async def three_runs(queue):
        for days_left, run in ((10, "oldest"), (30, "newest"), (20, "middle")):
            await queue.redis.hset(
                keys.RUN + run,
                mapping={
                    "submitted": 10,
                    "succeeded": 6,
                    "failed": 1,
                    "input_tokens": 100,
                    "output_tokens": 200,
                    "cost_nano_usd": 1_500_000,
                },
            )
            await queue.redis.expire(keys.RUN + run, timedelta(days=days_left))

    machine.on_queue(three_runs)
    runs = status(machine)["runs"]
    assert [run["id"] for run in runs] == ["newest", "middle", "oldest"]
    assert (runs[0]["open"], runs[0]["ended"], runs[0]["cost_usd"]) == (3, {"succeeded": 6, "failed": 1}, "0.001500000")
    assert [run["id"] for run in json.loads(machine.run("status", "--json", "--runs", "1").stdout)["runs"]] == [
        "newest"
    ]


def test_dead_letters_are_counted(machine, moment):
    letters = [DeadLetter(f"j{n}", "not_found", "no such model", b"{}", moment, 1, redrivable=True) for n in range(3)]
    machine.on_store(lambda store: store.record(letters))
    assert status(machine)["dead_letters"] == "3"


def test_a_store_that_cannot_be_read_does_not_hide_the_queue(machine, monkeypatch):
    monkeypatch.setenv("PROMPTMILL_STORE_URL", "sqlite:////dev/null/x.sqlite")
    shown = machine.run("status")
    assert shown.exit_code == 0
    assert "dead letters: unknown: the result store at" in shown.stdout


def test_a_redis_that_does_not_answer_is_one_line_and_exit_code_2(machine, monkeypatch):
    monkeypatch.setenv("PROMPTMILL_REDIS_URL", "redis://user:secret@127.0.0.1:1")
    shown = machine.run("status")
    assert shown.exit_code == 2
    assert shown.stderr.startswith("promptmill: Redis does not answer: ")
    assert "secret" not in shown.output
