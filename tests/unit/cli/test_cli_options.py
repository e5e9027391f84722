"""Options given on the command line: settings here, variables for the workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from producers.cli.fleet import worker_command, worker_environment
from producers.cli.options import environment_of, load_settings, require_key
from producers.cli.queue_address import QueueAddress
from promptmill.errors import BadSettings, MissingExtra
from promptmill.settings import Settings


def address(**given) -> QueueAddress:
    return QueueAddress("unix:///queue.sock", load_settings(**given))


def test_an_option_wins_over_the_environment_and_the_environment_over_the_file(monkeypatch):
    Path("promptmill.toml").write_text('model = "claude-opus-5-5"\nrpm = 1\nitpm = 1\n')
    monkeypatch.setenv("PROMPTMILL_RPM", "2")
    settings = load_settings(rpm=3, itpm=None)
    assert (settings.rpm, settings.itpm, settings.model) == (3, 1, "claude-opus-5-5")
    assert load_settings().rpm == 2


def test_workers_read_the_same_settings_as_this_process(monkeypatch):
    given = {
        "model": "claude-haiku-4-5",
        "max_tokens": 77,
        "rpm": 5,
        "itpm": 6,
        "otpm": 7,
        "concurrency": 8,
        "base_url": "http://127.0.0.1:8010",
    }
    here = load_settings(**given)
    for name, value in environment_of(given).items():
        monkeypatch.setenv(name, value)
    assert Settings.load(data_dir=here.data_dir) == here


def test_a_limit_on_the_command_line_wins_over_the_file_s_for_a_model_class_here_and_in_the_workers(monkeypatch):
    Path("promptmill.toml").write_text('[budgets.haiku-5-5]\nrpm = 4000\nitpm = 7\nmodels = ["my-haiku"]\n')
    given = {"rpm": 60}
    here = load_settings(**given)
    for name, value in worker_environment(QueueAddress("unix:///queue.sock", here), given).items():
        monkeypatch.setenv(name, value)
    there = Settings.load()
    for settings in (here, there):
        limits = settings.limits(settings.class_of("my-haiku"))
        assert (limits.requests, limits.input_tokens) == (60, 7)


def test_workers_are_told_where_queue_and_store_are(monkeypatch):
    monkeypatch.setenv("PROMPTMILL_DATA_DIR", "relative")
    environment = worker_environment(address(), {})
    here = Path.cwd()
    assert environment["PROMPTMILL_REDIS_URL"] == "unix:///queue.sock"
    assert environment["PROMPTMILL_DATA_DIR"] == str(here / "relative")
    assert environment["PROMPTMILL_STORE_URL"] == f"sqlite:///{here}/relative/results.sqlite"


def test_an_address_without_a_key_is_sent_a_key_that_means_none():
    assert worker_environment(address(base_url="http://x"), {"base_url": "http://x"})["ANTHROPIC_API_KEY"] == "none"


def test_a_key_is_handed_on_as_it_is(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-1")
    assert worker_environment(address(), {})["ANTHROPIC_API_KEY"] == "sk-ant-1"


def test_neither_key_nor_address_is_refused_and_the_way_out_is_named():
    with pytest.raises(BadSettings, match=r"set ANTHROPIC_API_KEY.*promptmill simulate"):
        require_key(load_settings())


def test_a_worker_without_its_packages_names_the_extra(monkeypatch):
    monkeypatch.setattr("producers.cli.fleet.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"promptmill\[worker\]"):
        worker_command(1)


def test_an_application_s_own_worker_module_is_not_started():
    command = worker_command(3, burst=True)
    assert command[1:] == ["-P", "-m", "worker", "--processes", "3", "--stop-with-parent", "--burst"]
