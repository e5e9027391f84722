"""`promptmill run` with real workers, an embedded Valkey and an API in the test's hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from producers.cli import run as run_module
from producers.cli.options import load_settings
from producers.cli.root import promptmill
from promptmill.embedded import _PING, EmbeddedValkey, _ask

PROMPTS = [f"Question {number}" for number in range(1, 6)]
FAST = ("--rpm", "60000", "--itpm", "100000000", "--otpm", "100000000")


def write(prompts: list[str]) -> None:
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))


def command(api, *more: str) -> list[str]:
    return ["run", "prompts.jsonl", "--out", "answers.jsonl", "--base-url", api.base_url, *FAST, *more]


def run(*args: str):
    return CliRunner().invoke(promptmill, list(args), catch_exceptions=False)


def start(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "producers.cli", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def answers() -> list[dict]:
    return [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]


def valkey_is_stopped() -> bool:
    return _ask(EmbeddedValkey(load_settings().data_dir)._socket, _PING) is None


def worker_log() -> Path:
    return load_settings().data_dir / "logs" / "worker.log"


def test_a_file_is_answered_in_its_order_and_nothing_is_left_running(api):
    write(PROMPTS)
    done = run(*command(api, "--processes", "2"))
    assert done.exit_code == 0, done.output
    assert [answer["text"] for answer in answers()] == [f"Answer to: {prompt}" for prompt in PROMPTS]
    assert "5 of 5" in done.stdout
    assert sorted(api.prompts) == PROMPTS
    assert api.keys == {"Bearer none"}
    assert valkey_is_stopped()
    assert worker_log().stat().st_size > 0


def test_answers_for_claude_code_are_marked_in_the_file_and_say_what_was_changed(api):
    lines = [{"prompt": "I think"}, {"prompt": "I think", "for_claude_code": False}]
    Path("prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run(*command(api, "--for-claude-code")).exit_code == 0
    assert [(answer["text"], answer["rewrites"]) for answer in answers()] == [
        ("Answer to: I believe", [{"old_start": 13, "new_start": 13, "old": "think", "new": "believe"}]),
        ("Answer to: I think", None),
    ]


def test_the_same_command_again_sends_nothing_and_starts_no_worker(api):
    write(PROMPTS)
    run(*command(api))
    logged = worker_log().stat().st_size
    Path("answers.jsonl").unlink()
    done = run(*command(api))
    assert done.exit_code == 0
    assert len(answers()) == len(api.prompts) == len(PROMPTS)
    assert worker_log().stat().st_size == logged


def test_a_prompt_that_fails_is_exit_code_1_and_is_sent_again_only_when_asked(api):
    write(["Question 1", "refuse me"])
    assert run(*command(api)).exit_code == 1
    assert [(answer["status"], answer["error"] and answer["error"]["name"]) for answer in answers()] == [
        ("succeeded", None),
        ("failed", "invalid_request"),
    ]
    assert run(*command(api)).exit_code == 1
    assert len(api.prompts) == 2
    assert run(*command(api, "--retry-failed")).exit_code == 1
    assert sorted(api.prompts) == ["Question 1", "refuse me", "refuse me"]


def test_a_file_with_bad_lines_is_refused_whole_and_each_is_named(api):
    Path("prompts.jsonl").write_text('{"prompt": "fine"}\nnot json\n{"prmopt": "typo"}\n')
    done = run(*command(api))
    assert done.exit_code == 2
    assert "prompts.jsonl: 2 of 3 prompts cannot be used" in done.stderr
    assert "  line 2: expected a JSON object" in done.stderr
    assert "  line 3: prmopt: unknown field; did you mean 'prompt'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert (api.prompts, Path("answers.jsonl").exists(), worker_log().exists()) == ([], False, False)


def test_the_rest_of_a_file_with_bad_lines_is_answered_on_request(api):
    Path("prompts.jsonl").write_text('{"prompt": "fine"}\nnot json\n')
    done = run(*command(api, "--skip-bad"))
    assert done.exit_code == 0
    assert "1 bad lines left out:\n  line 2: " in done.stderr
    assert [answer["text"] for answer in answers()] == ["Answer to: fine"]


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot read prompts.jsonl: No such file"), ("", "prompts.jsonl holds no prompt"), ("\n\n", "no prompt")],
)
def test_a_file_that_holds_nothing_is_one_line_and_exit_code_2(api, content, says):
    if content is not None:
        Path("prompts.jsonl").write_text(content)
    done = run(*command(api))
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith("promptmill: ")
    assert says in done.stderr


def test_a_table_makes_prompts_by_its_template(api):
    Path("rows.csv").write_text("id,text\na,sky\nb,sea\n")
    options = ("--base-url", api.base_url, "--template", "Explain: {text}", *FAST)
    done = run("run", "rows.csv", "--out", "answers.jsonl", *options)
    assert done.exit_code == 0, done.output
    assert [(answer["id"], answer["text"]) for answer in answers()] == [
        ("a", "Answer to: Explain: sky"),
        ("b", "Answer to: Explain: sea"),
    ]


def test_without_key_and_address_nothing_is_done_at_all():
    write(PROMPTS)
    done = run("run", "prompts.jsonl", "--out", "answers.jsonl")
    assert done.exit_code == 2
    assert done.stderr.startswith("promptmill: no API key: set ANTHROPIC_API_KEY")
    assert not load_settings().data_dir.exists()


def test_a_model_without_known_limits_is_refused(api):
    write(PROMPTS)
    done = run(*command(api, "--model", "claude-unheard-of"))
    assert done.exit_code == 2
    assert "no rate limits are known for model 'claude-unheard-of'" in done.stderr
    assert api.prompts == []


def test_a_redis_that_does_not_answer_is_one_line(api, monkeypatch):
    monkeypatch.setenv("PROMPTMILL_REDIS_URL", "redis://127.0.0.1:1")
    write(PROMPTS)
    done = run(*command(api))
    assert (done.exit_code, done.stderr.startswith("promptmill: Redis does not answer")) == (2, True)


def test_a_store_that_cannot_be_opened_is_one_line_and_leaves_nothing_running(api, monkeypatch):
    monkeypatch.setenv("PROMPTMILL_STORE_URL", "sqlite:////dev/null/x.sqlite")
    write(PROMPTS)
    done = run(*command(api))
    assert done.exit_code == 2
    assert done.stderr.startswith("promptmill: the result store at")
    assert valkey_is_stopped()


def test_workers_that_end_by_themselves_are_reported_with_their_last_words(api, monkeypatch):
    refuses = [sys.executable, "-c", "import sys; print('first'); print('no room'); sys.exit(3)"]
    monkeypatch.setattr(run_module, "worker_command", lambda _: refuses)
    write(PROMPTS)
    done = run(*command(api))
    assert done.exit_code == 2
    assert f"promptmill: the workers ended by themselves (code 3): no room (see {worker_log()})" in done.stderr
    assert not Path("answers.jsonl").exists()


def test_ctrl_c_lets_calls_finish_and_the_same_command_goes_on(api):
    write(PROMPTS)
    api.gate.clear()
    running = start(*command(api, "--concurrency", "2"))
    api.wait_for_request()
    running.send_signal(signal.SIGINT)
    api.gate.set()
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    assert not Path("answers.jsonl").exists()
    assert valkey_is_stopped()
    assert run(*command(api)).exit_code == 0
    assert sorted(api.prompts) == PROMPTS
    assert len(answers()) == len(PROMPTS)


def test_sigterm_is_a_ctrl_c(api):
    write(PROMPTS)
    api.gate.clear()
    running = start(*command(api))
    api.wait_for_request()
    running.terminate()
    api.gate.set()
    _, said = running.communicate(timeout=60)
    assert (running.returncode, "goes on from here" in said) == (130, True)
    assert valkey_is_stopped()


def test_a_second_ctrl_c_does_not_wait_for_the_calls(api):
    write(PROMPTS)
    api.gate.clear()
    running = start(*command(api))
    api.wait_for_request()
    running.send_signal(signal.SIGINT)
    assert running.stderr is not None
    assert any("Ctrl-C again stops at once" in line for line in running.stderr)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert not api.gate.is_set()
    assert valkey_is_stopped()


def test_after_a_sigkill_the_same_command_goes_on_with_the_server_that_was_left(api):
    write(PROMPTS)
    api.gate.clear()
    running = start(*command(api, "--concurrency", "1"))
    api.wait_for_request()
    running.kill()
    running.communicate()
    assert not valkey_is_stopped()
    api.gate.set()
    done = run(*command(api))
    assert done.exit_code == 0, done.output
    assert [answer["text"] for answer in answers()] == [f"Answer to: {prompt}" for prompt in PROMPTS]
    assert len(api.prompts) <= len(PROMPTS) + 1
    assert valkey_is_stopped()


def test_without_workers_of_its_own_a_run_is_answered_by_those_that_are_there(api):
    write(PROMPTS)
    workers = start("worker", "--base-url", api.base_url, *FAST)
    done = run("run", "prompts.jsonl", "--out", "answers.jsonl", "--no-workers", *FAST)
    assert done.exit_code == 0, done.output
    assert len(answers()) == len(PROMPTS)
    assert not valkey_is_stopped()
    workers.terminate()
    workers.communicate(timeout=60)
    assert workers.returncode == 0
    assert valkey_is_stopped()


def test_the_server_that_dies_meanwhile_is_started_again(api):
    write(PROMPTS)
    api.gate.clear()
    running = start(*command(api, "--concurrency", "1"))
    api.wait_for_request()
    owner = json.loads((load_settings().data_dir / "valkey" / "server.lock").read_bytes())
    os.kill(owner["pid"], signal.SIGKILL)
    api.gate.set()
    _, said = running.communicate(timeout=120)
    assert running.returncode == 0, said
    assert [answer["text"] for answer in answers()] == [f"Answer to: {prompt}" for prompt in PROMPTS]
    assert valkey_is_stopped()
