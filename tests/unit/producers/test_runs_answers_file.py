"""The answers file: complete or absent, whatever goes wrong."""

from __future__ import annotations

import errno
import fcntl
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from producers.runs.answers import FIELDS, AnswersFile, CannotWrite, answer_line
from promptmill.errors import BadInput
from promptmill.results import Result, Status

RESULT = Result(job_id="123456789abc/a/b", status=Status.SUCCEEDED, text="Because.", message={"content": []})


@pytest.fixture
def out(tmp_path):
    return tmp_path / "answers.jsonl"


def reserve(out: Path) -> AnswersFile:
    return AnswersFile.reserve(out, prompts=out.with_name("prompts.jsonl"))


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def test_an_answer_line_has_these_fields_and_the_id_of_the_input():
    line = json.loads(answer_line(RESULT))
    assert tuple(line) == FIELDS
    assert (line["id"], line["status"], line["text"]) == ("a/b", "succeeded", "Because.")


def test_an_answer_that_is_no_plain_json_is_written_all_the_same():
    odd = Result(job_id="123456789abc/a", status=Status.SUCCEEDED, text="half \ud83d a pair", quality={"n": 2**70})
    line = answer_line(odd)
    assert line.endswith(b"}\n")
    assert line.startswith(b"{")
    assert json.loads(line)["text"] == "half \ud83d a pair"


def test_the_file_appears_whole_and_nothing_is_left_beside_it(out):
    with reserve(out) as answers:
        answers.write(RESULT)
        answers.write(RESULT)
        assert not out.exists()
        answers.publish()
    assert out.read_bytes() == answer_line(RESULT) * 2
    assert names_in(out.parent) == [out.name]


def test_an_older_file_stays_until_the_new_one_is_whole(out):
    out.write_text("old\n")
    with reserve(out) as answers:
        answers.write(RESULT)
        assert out.read_text() == "old\n"
        answers.publish()
    assert out.read_bytes() == answer_line(RESULT)


def test_a_run_that_is_interrupted_leaves_nothing(out):
    with suppress(KeyboardInterrupt), reserve(out) as answers:
        answers.write(RESULT)
        raise KeyboardInterrupt
    assert names_in(out.parent) == []


def test_what_a_killed_run_left_is_written_over(out):
    out.with_name("answers.jsonl.partial").write_text("half a li")
    with reserve(out) as answers:
        answers.write(RESULT)
        answers.publish()
    assert out.read_bytes() == answer_line(RESULT)


def test_two_commands_for_one_file_do_not_get_in_each_others_way(out):
    with reserve(out) as first:
        with pytest.raises(BadInput, match="another promptmill is writing"):
            reserve(out)
        first.write(RESULT)
        first.publish()
    assert out.read_bytes() == answer_line(RESULT)
    with reserve(out):
        pass


def test_a_file_that_its_owner_removes_before_the_lock_is_got_is_made_again(out, monkeypatch):
    """Else the lock would be on a file that is no longer there, and somebody else could lock its successor."""
    real, partial = fcntl.flock, out.with_name("answers.jsonl.partial")
    locked = []

    def removed_first(stream, operation):
        if not locked:
            partial.unlink()
        locked.append(stream)
        real(stream, operation)

    monkeypatch.setattr("fcntl.flock", removed_first)
    with reserve(out) as answers:
        assert partial.exists()
        answers.publish()
    assert len(locked) == 2
    assert out.exists()


def test_a_killed_process_does_not_keep_the_file_locked(out):
    program = (
        "import os, signal, sys; from pathlib import Path; from producers.runs.answers import AnswersFile; "
        "kept = AnswersFile.reserve(Path(sys.argv[1]), prompts=Path('x')); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(out)], check=False)
    assert out.with_name("answers.jsonl.partial").exists()
    with reserve(out) as answers:
        answers.publish()
    assert out.read_bytes() == b""


def test_what_cannot_be_written_is_said_before_anything_is_sent(tmp_path):
    with pytest.raises(CannotWrite, match="No such file or directory"):
        reserve(tmp_path / "absent" / "answers.jsonl")
    with pytest.raises(BadInput, match="expected a file, got a directory"):
        reserve(tmp_path)
    prompts = tmp_path / "prompts.jsonl"
    prompts.touch()
    with pytest.raises(BadInput, match="expected another file than the one with the prompts"):
        AnswersFile.reserve(prompts, prompts=prompts)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_message_and_leaves_nothing_half_done(out):
    out.write_text("old\n")
    with reserve(out) as answers:
        full = open("/dev/full", "wb")  # noqa: SIM115, PTH123 - the file's own stream, on a disk that is full
        answers._stream.close()
        answers._stream = full
        answers.write(RESULT)
        with pytest.raises(CannotWrite, match=r"No space left on device; every answer is safe in the result store"):
            answers.publish()
    assert out.read_text() == "old\n"
    assert names_in(out.parent) == [out.name]


def test_a_file_system_without_locks_is_good_enough(out, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with reserve(out) as answers:
        answers.publish()
    assert out.exists()
