"""`promptmill dead` on a real Valkey and a real store."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from promptmill.queue import keys
from promptmill.results import DeadLetter, Failure, Result, Status
from promptmill.wire import pack_job


@pytest.fixture
def bury(machine, make_job):
    def letter(job_id: str, *, reason: str = "not_found", days_ago: float = 0, payload: bytes | None = None, **fields):
        died_at = datetime.now(UTC) - timedelta(days=days_ago)
        dead = DeadLetter(
            job_id,
            reason,
            "model: claude-old [retired]",
            payload or pack_job(make_job(job_id, **fields), died_at),
            died_at,
            2,
            redrivable=payload is None,
        )
        failed = Result(job_id, Status.FAILED, error=Failure(reason, dead.message, "ours"))
        machine.on_store(lambda store: store.record([failed, dead]))

    return letter


def open_letters(machine) -> list[str]:
    return [letter.job_id for letter in machine.on_store(lambda store: store.dead_letters())]


def queued(machine) -> set[str]:
    return {job_id.decode() for job_id in machine.on_queue(lambda queue: queue.redis.hkeys(keys.JOBS))}


def test_none_is_said_to_be_none(machine):
    machine.run("db", "upgrade")
    assert machine.run("dead", "list").stdout == "no dead letters\n"


def test_the_list_names_job_and_reason(machine, bury):
    bury("a")
    bury("b", reason="invalid_request")
    shown = machine.run("dead", "list").stdout
    assert "not_found" in shown
    assert "model: claude-old [retired]" in shown
    only = machine.run("dead", "list", "--reason", "invalid_request", "--json").stdout
    assert [json.loads(line)["id"] for line in only.splitlines()] == ["b"]


def test_a_letter_is_shown_whole(machine, bury):
    bury("a")
    shown = json.loads(machine.run("dead", "show", "a").stdout)
    assert (shown["reason"], shown["redrivable"], shown["tried"]) == ("not_found", True, [])
    assert shown["payload"]["a"][0]["request"]["messages"][0]["content"] == "Hello"


def test_a_payload_that_is_no_json_is_shown_as_text(machine, bury):
    bury("a", payload=b"\x80\x04pickle")
    assert json.loads(machine.run("dead", "show", "a").stdout)["payload"] == "\\x80\x04pickle"


def test_a_letter_that_is_not_there_is_one_line(machine):
    machine.run("db", "upgrade")
    shown = machine.run("dead", "show", "nobody")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "there is no open dead letter of job 'nobody'" in shown.stderr


def test_a_redriven_job_is_queued_again_and_its_letter_closed(machine, bury):
    bury("a")
    bury("b")
    done = machine.run("dead", "redrive", "a")
    assert (done.exit_code, done.stdout) == (0, "1 sent back to the queue\n")
    assert queued(machine) == {"a"}
    assert open_letters(machine) == ["b"]


def test_the_failed_result_that_still_waits_in_redis_does_not_stand_in_the_way(machine, bury):
    bury("a")
    machine.on_queue(lambda queue: queue.redis.set(keys.RESULT + "a", b"failed"))
    assert machine.run("dead", "redrive", "a").exit_code == 0
    assert queued(machine) == {"a"}
    assert machine.on_queue(lambda queue: queue.redis.exists(keys.RESULT + "a")) == 0


def test_letters_are_redriven_by_reason_or_all(machine, bury):
    bury("a")
    bury("b", reason="overloaded")
    bury("c", reason="overloaded")
    assert machine.run("dead", "redrive", "--reason", "overloaded").stdout == "2 sent back to the queue\n"
    assert queued(machine) == {"b", "c"}
    assert machine.run("dead", "redrive", "--all").stdout == "1 sent back to the queue\n"
    assert open_letters(machine) == []


def test_what_cannot_be_sent_back_is_named_and_stays(machine, bury):
    bury("a")
    bury("pickled", payload=b"\x80\x04")
    done = machine.run("dead", "redrive", "--all")
    assert (done.exit_code, done.stdout) == (1, "1 sent back to the queue, 1 not\n")
    assert done.stderr.startswith("pickled: expected a JSON envelope")
    assert open_letters(machine) == ["pickled"]
    unknown = machine.run("dead", "redrive", "nobody")
    assert (unknown.exit_code, unknown.stderr) == (1, "nobody: there is no open dead letter of this job\n")


def test_a_deadline_that_has_passed_does_not_kill_the_job_again(machine, bury):
    bury("a", deadline=datetime.now(UTC) - timedelta(hours=1))
    machine.run("dead", "redrive", "a")
    payload = machine.on_queue(lambda queue: queue.redis.get(keys.PAYLOAD + "a"))
    assert "deadline" not in json.loads(payload)["a"][0]


@pytest.mark.parametrize("command", [("list",), ("redrive",), ("purge", "--older-than", "0")], ids=lambda args: args[0])
def test_a_reason_of_which_nobody_can_have_died_is_a_typing_error(machine, bury, command):
    bury("a", reason="overloaded")
    bury("b", reason="overloaded")
    bury("c", reason="refused")
    done = machine.run("dead", *command, "--reason", "overlaoded")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no outcome is called 'overlaoded'; did you mean overloaded?" in done.stderr
    assert "open dead letters: overloaded (2), refused (1)" in done.stderr
    assert sorted(open_letters(machine)) == ["a", "b", "c"]


def test_a_reason_of_which_nobody_died_is_no_error(machine, bury):
    bury("a", reason="overloaded")
    bury("b", reason="of_a_later_version")
    assert machine.run("dead", "list", "--reason", "refused").stdout == "no dead letters\n"
    assert machine.run("dead", "redrive", "--reason", "refused").stdout == "0 sent back to the queue\n"
    assert machine.run("dead", "redrive", "--reason", "of_a_later_version").stdout == "1 sent back to the queue\n"


def test_a_line_that_is_redriven_counts_once_in_its_run(machine, bury):
    bury("a", run="r")
    machine.on_queue(lambda queue: queue.redis.hset(f"{keys.RUN}r", mapping={"submitted": 3, "failed": 1}))
    machine.run("dead", "redrive", "a")
    (run,) = json.loads(machine.run("status", "--json").stdout)["runs"]
    assert (run["submitted"], run["ended"], run["open"]) == (3, {"failed": 0}, 3)


def test_only_old_letters_are_purged(machine, bury):
    bury("old", days_ago=31)
    bury("young", days_ago=29)
    assert machine.run("dead", "purge", "--older-than", "30").stdout == "1 dead letters deleted\n"
    assert open_letters(machine) == ["young"]


def test_purging_asks_how_old(machine):
    assert machine.run("dead", "purge").exit_code == 2


@pytest.mark.parametrize("args", [(), ("a", "--all"), ("--all", "--reason", "x")])
def test_what_to_redrive_is_said_in_one_way(machine, args):
    assert machine.run("dead", "redrive", *args).exit_code == 2


def job_in_redis(machine, job_id: str) -> dict:
    return json.loads(machine.on_queue(lambda queue: queue.redis.get(keys.PAYLOAD + job_id)))["a"][0]


def test_jobs_are_changed_on_the_way_back(machine, bury):
    bury("a")
    bury("b")
    done = machine.run(
        "dead", "redrive", "--all",
        "--set", "request.model=claude-sonnet-5-5", "--set", "request.max_tokens=99", "--set", "lane=overnight",
    )  # fmt: skip
    assert (done.exit_code, done.stdout) == (0, "2 sent back to the queue\n")
    job = job_in_redis(machine, "b")
    assert (job["request"]["model"], job["request"]["max_tokens"], job["lane"]) == (
        "claude-sonnet-5-5",
        99,
        "overnight",
    )
    assert job["request"]["messages"][0]["content"] == "Hello"


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        (
            "request.max_tokens=many",
            "request: expected request.max_tokens to be a whole number from 1 to 1,000,000,000,000, got 'many'",
        ),
        ("lane=fast", "lane: Input should be 'interactive', 'standard' or 'overnight'"),
        ("colour=red", "colour: unknown field"),
        ("request.messages.role=user", "request.messages.role: expected messages to be an object, got list"),
        ("id=b", "id: a job keeps its id"),
    ],
)
def test_a_change_that_makes_no_job_is_refused_and_the_letter_stays(machine, bury, setting, complaint):
    bury("a")
    done = machine.run("dead", "redrive", "a", "--set", setting)
    assert (done.exit_code, done.stdout, done.stderr) == (1, "0 sent back to the queue, 1 not\n", f"a: {complaint}\n")
    assert (open_letters(machine), queued(machine)) == (["a"], set())


def test_what_is_no_change_is_no_usage(machine, bury):
    bury("a")
    assert machine.run("dead", "redrive", "a", "--set", "lane").exit_code == 2


@pytest.fixture
def editor(monkeypatch, tmp_path):
    """An editor that runs a line of Python over `text`."""

    def use(code: str) -> None:
        script = tmp_path / "editor.py"
        lines = ("import pathlib, sys", "path = pathlib.Path(sys.argv[1])", "text = path.read_text()", code)
        script.write_text("\n".join([*lines, "path.write_text(text)"]))
        monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")

    return use


def test_a_job_is_edited_and_sent_back(machine, bury, editor):
    bury("a")
    editor("text = text.replace('Hello', 'Good morning')")
    done = machine.run("dead", "edit", "a")
    assert (done.exit_code, done.stdout) == (0, "1 sent back to the queue\n"), done.stderr
    assert job_in_redis(machine, "a")["request"]["messages"][0]["content"] == "Good morning"
    assert open_letters(machine) == []


@pytest.mark.parametrize("code", ["pass", "text = ''"])
def test_an_editor_that_is_left_without_a_change_sends_nothing(machine, bury, editor, code):
    bury("a")
    editor(code)
    done = machine.run("dead", "edit", "a")
    assert (done.exit_code, done.stdout) == (0, "nothing changed, nothing sent back\n")
    assert (open_letters(machine), queued(machine)) == (["a"], set())


@pytest.mark.parametrize("code", ["text = text[:-2]", "text = '[]'", "text = text.replace('\"a\"', '\"b\"')"])
def test_an_edited_text_that_is_not_the_job_is_refused_and_the_letter_stays(machine, bury, editor, code):
    bury("a")
    editor(code)
    done = machine.run("dead", "edit", "a")
    assert done.exit_code == 2
    assert "the dead letter is as it was" in done.stderr
    assert (open_letters(machine), queued(machine)) == (["a"], set())
