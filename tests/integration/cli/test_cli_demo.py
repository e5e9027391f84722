"""`promptmill demo`: the whole road, once against the simulator and once against what stands for the real API."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from producers.cli import demo as demo_module
from producers.cli.root import promptmill

FAST = ("--prompts", "10", "--rpm", "1200")


def demo(*args: str):
    return CliRunner().invoke(promptmill, ["demo", *FAST, *args], catch_exceptions=False)


def test_every_prompt_is_answered_none_refused_and_a_second_demo_is_a_new_run():
    runs = []
    for number in (1, 2):
        done = demo()
        assert done.exit_code == 0, done.output
        assert "429s, as the simulated account counted them: 0 of 10 requests" in done.stdout
        for expected in ("10 of 10", "latency", "P50", "P95", "P99", "tokens", "cost", "instruction_following", "rate"):
            assert expected in done.stdout
        answers = Path(".promptmill/demo") / f"answers-{number}.jsonl"
        assert f"answers: {answers.absolute()}" in done.stdout
        assert len(answers.read_text().splitlines()) == 10
        runs.append(done.stdout.split("promptmill results --run ")[1].split()[0])
    assert runs[0] != runs[1]


def test_it_stays_in_its_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTMILL_REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("PROMPTMILL_STORE_URL", "sqlite:////dev/null/x")
    monkeypatch.setenv("PROMPTMILL_MODEL", "claude-opus-5-5")
    Path("promptmill.toml").write_text("[budgets.haiku-5-5]\nrpm = 1\n")
    done = demo("--data-dir", "elsewhere")
    assert done.exit_code == 0, done.output
    line = json.loads(Path("elsewhere/answers-1.jsonl").read_text().splitlines()[0])
    assert line["model"] == "claude-haiku-5-5"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["elsewhere", "promptmill.toml"]


def test_with_a_key_it_says_what_it_costs_and_uses_it(api, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", api.base_url)
    done = demo()
    assert done.exit_code == 0, done.output
    assert f"10 requests to {api.base_url}, claude-haiku-5-5: at most about $0.00" in done.stderr
    assert len(api.prompts) == 10
    assert api.keys == {"Bearer sk-ant-1"}


def test_a_real_key_and_address_are_kept_from_the_simulator(api, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", api.base_url)
    seen = {}
    environment_of_workers = demo_module.worker_environment

    def note(*args):
        seen.update(environment_of_workers(*args))
        return dict(seen)

    monkeypatch.setattr(demo_module, "worker_environment", note)
    assert demo("--simulated").exit_code == 0
    assert api.prompts == []
    assert "sk-ant-1" not in seen.values()
    assert seen["ANTHROPIC_BASE_URL"] != api.base_url


def test_a_real_demo_needs_a_key():
    done = demo("--real")
    assert (done.exit_code, done.stderr) == (2, "promptmill: --real needs a key: set ANTHROPIC_API_KEY\n")


def test_a_demo_that_was_interrupted_is_gone_on_with(monkeypatch):
    work_off = demo_module.work_off

    async def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo_module, "work_off", interrupted)
    assert demo().exit_code == 130
    monkeypatch.setattr(demo_module, "work_off", work_off)
    assert demo().exit_code == 0
    assert Path(".promptmill/demo/answers-1.jsonl").exists()
