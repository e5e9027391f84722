"""`promptmill enqueue` and `worker`: the queue outlives both."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from click.testing import CliRunner

from producers.cli.options import load_settings
from producers.cli.root import promptmill
from promptmill.embedded import _PING, EmbeddedValkey, _ask

PROMPTS = ["one", "two", "three"]
FAST = ("--rpm", "60000", "--itpm", "100000000", "--otpm", "100000000")


def run(*args: str):
    return CliRunner().invoke(promptmill, list(args), catch_exceptions=False)


def start(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "producers.cli", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def valkey_is_stopped() -> bool:
    return _ask(EmbeddedValkey(load_settings().data_dir)._socket, _PING) is None


@pytest.fixture
def prompt_file() -> str:
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in PROMPTS))
    return "prompts.jsonl"


def test_a_file_is_queued_once_and_answered_later(api, prompt_file):
    first, again = run("enqueue", prompt_file), run("enqueue", prompt_file)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "3 of 3 prompts queued" in first.stderr
    assert "0 of 3 prompts queued, 3 were there already" in again.stderr
    assert first.stdout == again.stdout
    assert valkey_is_stopped()

    worker = start("worker", "--burst", "--base-url", api.base_url, *FAST)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said
    assert valkey_is_stopped()

    done = run("results", "--run", first.stdout.strip(), "--in-order")
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == [f"Answer to: {p}" for p in PROMPTS]
    assert sorted(api.prompts) == sorted(PROMPTS)


def test_who_enqueues_is_told_how_long_it_will_take_where_somebody_works_it_off(prompt_file, monkeypatch):
    monkeypatch.setattr("producers.runs.enqueue.run_time_left", AsyncMock(return_value=timedelta(minutes=65)))
    assert "3 of 3 prompts queued; the last is answered in about 1 h 5 min" in run("enqueue", prompt_file).stderr


def test_bad_lines_are_left_out_by_request_and_named():
    Path("prompts.jsonl").write_text('{"prompt": "fine"}\n[]\n')
    assert run("enqueue", "prompts.jsonl").exit_code == 2
    done = run("enqueue", "prompts.jsonl", "--skip-bad", "--lane", "overnight")
    assert done.exit_code == 0
    assert "1 bad lines left out:\n  line 2: " in done.stderr
    assert "1 of 1 prompts queued" in done.stderr
    (budget,) = json.loads(run("status", "--json").stdout)["budgets"]
    assert budget["lanes"] == {"interactive": 0, "standard": 0, "overnight": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_stop_finishes_its_calls_and_leaves_the_rest(api, prompt_file, number):
    run("enqueue", prompt_file)
    api.gate.clear()
    worker = start("worker", "--concurrency", "1", "--base-url", api.base_url, *FAST)
    api.wait_for_request()
    worker.send_signal(number)
    api.gate.set()
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said
    assert valkey_is_stopped()
    assert len(api.prompts) == 1
    assert json.loads(run("status", "--json").stdout)["ready"] == 2


def test_two_workers_of_one_data_directory_share_its_server(api, prompt_file):
    api.gate.clear()
    first = start("worker", "--concurrency", "1", "--base-url", api.base_url, *FAST)
    second = start("worker", "--concurrency", "1", "--base-url", api.base_url, *FAST)
    run("enqueue", prompt_file)
    api.wait_for_request()
    api.wait_for_request()
    assert len(json.loads(run("status", "--json").stdout)["workers"]) == 2
    first.terminate()
    api.gate.set()
    first.communicate(timeout=60)
    assert not valkey_is_stopped()
    second.terminate()
    second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert valkey_is_stopped()


def test_with_a_redis_of_ones_own_the_workers_take_the_place_of_the_command(api, prompt_file, tmp_path, monkeypatch):
    with EmbeddedValkey(tmp_path / "elsewhere") as server:
        monkeypatch.setenv("PROMPTMILL_REDIS_URL", server.url)
        run("enqueue", prompt_file)
        api.gate.clear()
        worker = start("worker", "--base-url", api.base_url, *FAST)
        api.wait_for_request()
        command = subprocess.run(
            ["ps", "-o", "args=", "-p", str(worker.pid)], capture_output=True, text=True, check=True
        ).stdout
        assert "-m worker --processes 1" in command
        api.gate.set()
        worker.terminate()
        worker.communicate(timeout=60)
        assert worker.returncode == 0
    assert not (load_settings().data_dir / "valkey").exists()


def test_a_worker_without_key_and_address_starts_nothing(prompt_file):
    done = run("worker")
    assert (done.exit_code, done.stderr.startswith("promptmill: no API key")) == (2, True)
    assert not load_settings().data_dir.exists()


def test_a_worker_whose_redis_does_not_answer_says_so(monkeypatch):
    monkeypatch.setenv("PROMPTMILL_REDIS_URL", "redis://127.0.0.1:1")
    done = run("worker", "--base-url", "http://127.0.0.1:1")
    assert (done.exit_code, done.stderr.startswith("promptmill: Redis does not answer")) == (2, True)


def test_a_worker_that_refuses_its_settings_hands_on_its_exit_code(monkeypatch):
    monkeypatch.setenv("PROMPTMILL_STORE_URL", "mysql://nowhere")
    worker = start("worker", "--base-url", "http://127.0.0.1:1")
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 2
    assert "store_url: expected sqlite:///FILE or postgresql://" in said
    assert valkey_is_stopped()
