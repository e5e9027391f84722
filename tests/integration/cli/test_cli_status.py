"""`promptmill status` on a real Valkey."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from producers.finish import note_last_jobs, say_finish
from promptmill.jobs import Lane
from promptmill.pacing import Charge, Cost, Pace, Reading
from promptmill.queue import keys
from promptmill.queue.status_page import PageSays, note_page
from promptmill.results import DeadLetter
from tests.support.queues import PLENTY


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
    assert budget["per_minute"] == {"requests": 995.0, "input": 1_990_000.0, "output": 398_000.0}
    assert 590_000 < budget["next_request_ms"] <= 600_000
    assert set(budget["debt_ms"]) == {"requests", "input", "output"}
    assert budget["blocked_because"] == "enforced_spend_limit_reached"
    assert "for 9 min: enforced_spend_limit_reached" in machine.run("status").stdout


def test_a_budget_that_is_out_tells_why_until_when_and_when_it_is_asked_again(machine):
    machine.configure("haiku-5-5")

    async def out(queue):
        seconds, _ = await queue.redis.time()
        at = {"open_since": -300, "probe_at": 600, "open_until": 86_400}
        fields = {name: (seconds + later) * 1_000 for name, later in at.items()}
        await queue.redis.hset(keys.BUDGET + "haiku-5-5", mapping={**fields, "open_reason": "spend_limit_reached"})

    machine.on_queue(out)
    (budget,) = status(machine)["budgets"]
    assert budget["out_because"] == "spend_limit_reached"
    assert budget["out_since"] < budget["next_probe"] < budget["out_until"]
    assert 590_000 < budget["next_request_ms"] <= 600_000
    shown = " ".join(machine.run("status").stdout.split())
    assert "spend_limit_reached" in shown


@pytest.mark.parametrize(("effect", "state"), [("trips", "out"), ("parks", "parked")])
def test_what_the_status_page_says_stands_beside_what_is_out(machine, monkeypatch, effect, state):
    machine.configure("haiku-5-5")
    assert "status page" not in machine.run("status").stdout

    async def out(queue):
        since = (await queue.redis.time())[0] * 1_000 - 720_000
        fields = {"open_since": since, "open_reason": "overloaded", "open_effect": effect, "probe_at": since}
        await queue.redis.hset(keys.BUDGET + "haiku-5-5", mapping=fields)

    async def say(queue):
        since = datetime.now(UTC) - timedelta(minutes=5, seconds=1)
        await note_page(queue.redis, PageSays("major", "Major Service Outage", since))

    machine.on_queue(out)
    shown = " ".join(machine.run("status").stdout.split())
    assert f"{state} for 12 min" in shown
    assert "status page" not in shown, "nobody asks it"
    monkeypatch.setenv("PROMPTMILL_STATUS_PAGE_URL", "https://status.example.com/api/v2/status.json")
    assert "the provider's status page says nothing" in machine.run("status").stdout
    machine.on_queue(say)
    assert "the provider's status page says: Major Service Outage (for 5 min)" in machine.run("status").stdout
    assert status(machine)["provider_says"]["indicator"] == "major"


def test_a_worker_that_is_cut_off_is_shown_as_such(machine):
    about = {"host": "here", "pid": 1, "version": "0.2.0", "running": 0, "free": 50, "cut_off": True}
    times = {"started_at": datetime.now(UTC).isoformat(), "seen_at": datetime.now(UTC).isoformat()}
    machine.on_queue(lambda queue: queue.redis.hset(keys.WORKERS, "w", orjson.dumps(about | times)))
    assert "cut off from the provider" in " ".join(machine.run("status").stdout.split())
    assert [worker["cut_off"] for worker in status(machine)["workers"]] == [True]


def test_caps_on_spending_tell_what_is_left_and_which_of_them_parks(machine):
    Path("promptmill.toml").write_text(
        '[[caps]]\nusd = 1\nper = "day"\n'
        '[[caps]]\nusd = 9\nper = "day"\nlane = "overnight"\n'
        '[[caps]]\nusd = 2\nper = "day"\nmodel_class = "opus-5"\naction = "warn"\n'
    )
    day = int(datetime.now(UTC).timestamp()) // 86_400
    entries = {"day:3:opus-5": f"{day} 2500000000", "day:3:haiku-5-5": f"{day - 1} 100000000000", "told:x": f"{day}"}
    machine.on_queue(lambda queue: queue.redis.hset(keys.SPEND, mapping=entries))
    assert status(machine)["caps"] == [
        {"usd": "1", "per": "day", "lane": None, "model_class": None, "action": "park"}
        | {"spent_usd": "2.5", "is_reached": True},
        {"usd": "9", "per": "day", "lane": "overnight", "model_class": None, "action": "park"}
        | {"spent_usd": "2.5", "is_reached": False},
        {"usd": "2", "per": "day", "lane": None, "model_class": "opus-5", "action": "warn"}
        | {"spent_usd": "2.5", "is_reached": True},
    ]
    lines = [line.split() for line in machine.run("status").stdout.splitlines()]
    (first,) = [line for line in lines if line[:5] == ["1", "USD", "a", "day", "2.5000"]]
    assert first[5:7] == ["parked", "for"]
    assert ["9", "USD", "a", "day", "for", "overnight", "2.5000"] in lines
    (third,) = [line for line in lines if line[:6] == ["2", "USD", "a", "day", "for", "opus-5"]]
    assert third[6:10] == ["2.5000", "reached;", "over", "in"]


def test_nobody_knows_the_time_left_of_a_lane_or_a_run_that_a_cap_has_parked(machine, make_job):
    machine.submit(make_job("o", run="r", lane=Lane.OVERNIGHT), make_job("s"))
    machine.configure("haiku-5-5")
    machine.on_queue(_a_worker_waits)
    machine.on_queue(lambda queue: note_last_jobs(queue.redis, "r", ["o"]))
    free = status(machine)
    assert None not in free["budgets"][0]["time_left_ms"].values()
    assert free["runs"][0]["time_left_ms"] is not None
    Path("promptmill.toml").write_text('[[caps]]\nusd = 1\nper = "day"\nlane = "overnight"\n')
    day = int(datetime.now(UTC).timestamp()) // 86_400
    machine.on_queue(lambda queue: queue.redis.hset(keys.SPEND, "day:3:opus-5", f"{day} 1000000000"))
    parked = status(machine)
    assert parked["budgets"][0]["time_left_ms"]["overnight"] is None
    assert parked["budgets"][0]["time_left_ms"]["standard"] is not None
    assert parked["runs"][0]["time_left_ms"] is None


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
    assert budget["per_minute"]["requests"] == pytest.approx(497.5)
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


def test_dead_letters_are_unknown_where_workers_have_no_store(machine):
    now = datetime.now(UTC).isoformat()
    about = {"host": "here", "pid": 1, "version": "0.2.0", "started_at": now, "seen_at": now, "running": 3, "free": 47}
    machine.on_queue(lambda queue: queue.redis.hset(keys.WORKERS, mapping={"alive": orjson.dumps(about)}))
    assert "dead letters: unknown: there is no result store at sqlite:///" in machine.run("status").stdout
    assert status(machine)["dead_letters"] is None


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


async def _a_worker_waits(queue):
    seconds, _ = await queue.redis.time()
    await queue.redis.zadd(keys.IDLE, {"w": seconds * 1000 + 60_000})


def test_lanes_tell_how_long_they_will_take_where_somebody_works_them_off(machine, make_job):
    machine.submit(
        *[make_job(f"s{n}") for n in range(30)], *[make_job(f"o{n}", lane=Lane.OVERNIGHT) for n in range(10)]
    )
    (budget,) = status(machine)["budgets"]
    assert budget["time_left_ms"] == {"interactive": 0, "standard": None, "overnight": None}
    assert "haiku-5-5 0 30 unknown 10 unknown" in " ".join(machine.run("status").stdout.split())
    slow = {**PLENTY, "requests": Pace(0.5, 1)}  # a request in two minutes: no machine is too slow for this test
    machine.on_queue(lambda queue: queue.configure("haiku-5-5", slow))
    machine.on_queue(_a_worker_waits)
    (budget,) = status(machine)["budgets"]
    # The bucket starts empty; the standard lane goes first but for the two percent of the lane below.
    assert budget["time_left_ms"]["standard"] / 120_000 == pytest.approx(1 + 29 / 0.98, abs=0.5)
    assert budget["time_left_ms"]["overnight"] / 120_000 == pytest.approx(41, abs=0.5)
    assert "30 about 1 h 1 min 10 about 1 h 2" in " ".join(machine.run("status").stdout.split())


def test_a_run_tells_its_time_left_as_whoever_follows_it_last_said(machine):
    async def said(queue, ago):
        await queue.redis.hset(keys.RUN + "r", mapping={"submitted": 10, "succeeded": 6})
        seconds, _ = await queue.redis.time()
        now = datetime.fromtimestamp(seconds, UTC) - timedelta(seconds=ago)
        await say_finish(queue.redis, "r", timedelta(hours=3), now)

    machine.on_queue(lambda queue: said(queue, 1))
    (run,) = status(machine)["runs"]
    assert run["open"] == 4
    assert run["time_left_ms"] / 3_600_000 == pytest.approx(3, abs=0.01)
    assert "about 3 h 0 min" in machine.run("status").stdout
    machine.on_queue(lambda queue: said(queue, 60))
    assert status(machine)["runs"][0]["time_left_ms"] is None
    machine.on_queue(lambda queue: said(queue, 1))
    machine.on_queue(lambda queue: queue.redis.hset(keys.RUN + "r", "succeeded", 10))
    assert status(machine)["runs"][0]["time_left_ms"] is None


def test_a_run_that_was_enqueued_as_a_whole_is_done_with_the_last_job_of_its_lanes(machine, make_job):
    machine.submit(*[make_job(f"j{n}", run="r") for n in range(30)], make_job("o", run="r", lane=Lane.OVERNIGHT))
    machine.on_queue(lambda queue: queue.configure("haiku-5-5", {**PLENTY, "requests": Pace(0.5, 1)}))
    machine.on_queue(_a_worker_waits)
    machine.on_queue(lambda queue: note_last_jobs(queue.redis, "r", ["j29", "gone", "o"]))
    assert status(machine)["runs"][0]["time_left_ms"] / 120_000 == pytest.approx(1 + 31, abs=0.5)
    machine.on_queue(lambda queue: queue.redis.delete(keys.IDLE))
    assert status(machine)["runs"][0]["time_left_ms"] is None


def test_dead_letters_are_counted(machine, moment):
    letters = [DeadLetter(f"j{n}", "not_found", "no such model", b"{}", moment, 1, redrivable=True) for n in range(3)]
    machine.on_store(lambda store: store.record(letters))
    assert status(machine)["dead_letters"] == 3
    assert "dead letters: 3" in machine.run("status").stdout


def test_a_store_that_cannot_be_read_does_not_hide_the_queue(machine, monkeypatch):
    monkeypatch.setenv("PROMPTMILL_STORE_URL", "sqlite:////dev/null/x.sqlite")
    shown = machine.run("status")
    assert shown.exit_code == 0
    assert "dead letters: unknown: the result store at" in shown.stdout
    assert status(machine)["dead_letters"] is None


def test_a_redis_that_does_not_answer_is_one_line_and_exit_code_2(machine, monkeypatch):
    monkeypatch.setenv("PROMPTMILL_REDIS_URL", "redis://user:secret@127.0.0.1:1")
    shown = machine.run("status")
    assert shown.exit_code == 2
    assert shown.stderr.startswith("promptmill: Redis does not answer: ")
    assert "secret" not in shown.output
