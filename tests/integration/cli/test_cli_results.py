"""`promptmill results`, `db` and `doctor` on a real store."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from datetime import timedelta

import pyarrow.parquet
import pytest

from promptmill.results import Result, Status
from promptmill.store.schema import SCHEMA_VERSION


@pytest.fixture
def recorded(machine, moment):
    for result in (
        Result("r/2", Status.SUCCEEDED, text="two", run="r", position=2, finished_at=moment, tags={"team": "a"}),
        Result("r/1", Status.FAILED, run="r", position=1, finished_at=moment + timedelta(seconds=1)),
        Result("other", Status.SUCCEEDED, text="three", lane="overnight", model="m", finished_at=moment),
    ):
        machine.on_store(lambda store, result=result: store.record([result]))
    return machine


def ids(done) -> list[str]:
    assert done.exit_code == 0, done.output
    return [json.loads(line)["id"] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ((), ["r/2", "r/1", "other"]),
        (("--run", "r"), ["r/2", "r/1"]),
        (("--run", "r", "--in-order"), ["r/1", "r/2"]),
        (("--status", "failed"), ["r/1"]),
        (("--lane", "overnight"), ["other"]),
        (("--model", "m"), ["other"]),
        (("--tag", "team=a"), ["r/2"]),
        (("--limit", "1"), ["r/2"]),
        (("--since", "0"), []),
    ],
)
def test_results_are_chosen_by_what_is_asked_for(recorded, args, expected):
    assert ids(recorded.run("results", *args)) == expected


def test_the_format_follows_the_name_of_the_file(recorded, tmp_path):
    for name in ("answers.csv", "answers.parquet", "answers.txt"):
        done = recorded.run("results", "--out", str(tmp_path / name))
        assert (done.exit_code, done.stderr) == (0, f"3 results written to {tmp_path / name}\n")
    assert (tmp_path / "answers.csv").read_text().startswith("id,run,position,")
    assert pyarrow.parquet.read_table(tmp_path / "answers.parquet").num_rows == 3
    assert len((tmp_path / "answers.txt").read_text().splitlines()) == 3


def test_texts_can_be_rewritten_for_claude_code_on_the_way_out(machine, moment):
    result = Result("a", Status.SUCCEEDED, text="I think so.", finished_at=moment)
    machine.on_store(lambda store: store.record([result]))
    (line,) = machine.run("results", "--for-claude-code").stdout.splitlines()
    assert Result.from_line(json.loads(line)) == result.for_claude_code() != result
    as_csv = machine.run("results", "--for-claude-code", "--format", "csv").stdout
    assert "I believe so." in as_csv
    assert '""old"": ""think so""' in as_csv
    assert json.loads(machine.run("results").stdout)["text"] == "I think so."


@pytest.mark.parametrize("args", [("--in-order",), ("--format", "parquet"), ("--tag", "team")])
def test_what_cannot_be_done_is_a_usage_error(recorded, args):
    assert recorded.run("results", *args).exit_code == 2


@pytest.mark.parametrize(
    "command",
    ["results", "spend", "latency", "quality", "alarms", "errors", "canaries", "dead list", "status", "doctor"],
)
def test_whoever_only_reads_makes_no_store_where_there_is_none(machine, command):
    """It may have been moved, and be put back over the one that was made: with whatever was answered meanwhile."""
    done = machine.run(*command.split())
    if command not in ("status", "doctor"):
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1
        assert "there is no result store at sqlite:///" in done.stderr
    assert not list(machine.settings.data_dir.rglob("*.sqlite*"))


def test_the_schema_is_brought_up_to_date_once(machine):
    url = machine.settings.store
    assert machine.run("db", "upgrade").stdout == f"{url} went from schema none to {SCHEMA_VERSION}\n"
    assert machine.run("db", "upgrade").stdout == f"{url} is at schema {SCHEMA_VERSION}\n"


def test_a_store_of_a_later_version_is_refused(machine):
    machine.run("db", "upgrade")
    with sqlite3.connect(machine.settings.data_dir / "results.sqlite") as connection:
        connection.execute("UPDATE promptmill_schema_version SET version_num = '9999'")
    connection.close()
    for command in (["results"], ["db", "upgrade"], ["dead", "list"]):
        done = machine.run(*command)
        assert done.exit_code == 2
        assert "schema 9999, written by a later promptmill" in done.stderr


def test_a_fresh_machine_with_a_key_is_ready(machine, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    monkeypatch.setenv("PROMPTMILL_RPM", "50")
    done = machine.run("doctor", "--json")
    findings = json.loads(done.stdout)
    assert [finding for finding in findings if finding["level"] == "fail"] == []
    assert done.exit_code == 0
    says = {finding["subject"]: finding["says"] for finding in findings}
    assert says["persistence"] == "append-only file on"
    assert says["eviction"] == "noeviction"
    assert says["redis"].startswith("valkey 9.")
    assert "no schema yet" in says["store"]
    assert "50 requests" in says["limits haiku-5-5"]
    assert "sk-ant-secret" not in done.output


def test_without_a_key_the_doctor_fails_and_says_what_to_do(machine):
    done = machine.run("doctor")
    assert done.exit_code == 1
    assert "neither ANTHROPIC_API_KEY nor ANTHROPIC_BASE_URL is set" in done.stdout
    assert "-> set the key" in done.stdout


def test_a_redis_that_keeps_nothing_is_found(machine):
    machine.on_queue(lambda queue: queue.redis.config_set("appendonly", "no"))
    machine.on_queue(lambda queue: queue.redis.config_set("maxmemory-policy", "allkeys-lru"))
    machine.on_queue(lambda queue: queue.redis.config_set("maxmemory", "1gb"))
    findings = {f["subject"]: f["level"] for f in json.loads(machine.run("doctor", "--json").stdout)}
    assert (findings["persistence"], findings["eviction"]) == ("fail", "fail")


def test_a_store_that_cannot_be_written_is_found(machine, monkeypatch):
    machine.run("db", "upgrade")
    monkeypatch.setattr("sqlite3.connect", _read_only(sqlite3.connect))
    findings = {f["subject"]: f for f in json.loads(machine.run("doctor", "--json").stdout)}
    assert findings["store"]["level"] == "fail"
    assert "cannot be written" in findings["store"]["says"]


def _read_only(connect):
    def connect_read_only(*args, **kwargs):
        connection = connect(*args, **kwargs)
        connection.execute("PRAGMA query_only=ON")
        return connection

    return connect_read_only


def test_a_redis_that_does_not_answer_is_a_finding_not_an_end(machine, monkeypatch):
    monkeypatch.setenv("PROMPTMILL_REDIS_URL", "redis://127.0.0.1:1")
    done = machine.run("doctor", "--json")
    findings = {f["subject"]: f for f in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert findings["redis"]["level"] == "fail"
    assert findings["store"]["level"] == "ok"


def test_a_redis_that_withholds_info_can_be_used_and_the_doctor_says_what_it_cannot_see(machine, monkeypatch):
    machine.on_queue(
        lambda queue: queue.redis.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-info")
    )
    monkeypatch.setenv("PROMPTMILL_REDIS_URL", machine.valkey.url.replace("unix://", "unix://app:pw@"))
    assert machine.run("status").exit_code == 0
    findings = {f["subject"]: f for f in json.loads(machine.run("doctor", "--json").stdout)}
    assert findings["redis"]["level"] == "fail"
    assert "info" in findings["redis"]["says"]
    assert "pw" not in findings["redis"]["says"].replace("pw@", "")


def test_a_reader_that_stops_reading_is_no_error(recorded):
    command = f"{sys.executable} -m producers.cli results | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{", "")
