"""The command line: what options come to, and how mistakes are told."""

import subprocess
import sys
from datetime import timedelta

import pytest
from click.testing import CliRunner

from promptmill.testing.simulator import FAULTS, FaultRule, Limits, ModelClass, cli
from promptmill.testing.simulator.cli import main, simulate


@pytest.fixture
def config_of(monkeypatch):
    """The configuration that a command line comes to."""
    served = []

    async def serve(config):
        served.append(config)

    monkeypatch.setattr(cli, "_serve", serve)

    def run(*argv: str):
        assert main(list(argv)) == 0
        return served.pop()

    return run


def test_without_options_it_is_an_account_of_the_lowest_tier(config_of):
    config = config_of()
    limits = config.limits_by_class()
    assert limits[ModelClass.HAIKU_5_5] == Limits(rpm=1_000, itpm=2_000_000, otpm=400_000)
    assert limits[ModelClass.FABLE_5] == Limits(rpm=1_000, itpm=500_000, otpm=100_000)


def test_single_limits_replace_those_of_the_tier_and_zero_is_no_limit(config_of):
    config = config_of("--rpm", "50", "--otpm", "0", "--burst", "5", "--depth", "2")
    assert config.limits_by_class()[ModelClass.OPUS_5] == Limits(
        rpm=50, itpm=2_000_000, otpm=None, burst=5, depth=timedelta(seconds=2)
    )


def test_no_tier_is_no_limits(config_of):
    assert set(config_of("--tier", "none").limits_by_class().values()) == {Limits()}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("overloaded_error", FaultRule(fault="overloaded_error")),
        ("overloaded_error=0.05", FaultRule(fault="overloaded_error", probability=0.05)),
        ("overloaded_error@1,5", FaultRule(fault="overloaded_error", requests={1, 5})),
        (
            "overloaded_error:60:30.5",
            FaultRule(fault="overloaded_error", after=timedelta(seconds=60), lasting=timedelta(seconds=30.5)),
        ),
    ],
)
def test_faults_are_given_in_four_ways(config_of, text, rule):
    assert config_of("--fault", text, "--fault", "hang@9").faults == (
        rule,
        FaultRule(fault="hang", requests={9}),
    )


def test_all_other_options_arrive(config_of):
    config = config_of(
        *("--latency", "1.5", "--latency-sigma", "0.1", "--per-token", "20", "--latency-scale", "0.5"),
        *("--tokens", "50", "--tokens-sigma", "1.2", "--seed", "7", "--track", "--charge-max-tokens"),
        *("--foreign-load", "0.2", "--foreign-period", "30", "--count-rpm", "9", "--reject-key", "old"),
    )
    assert config.latency.first_byte == timedelta(seconds=1.5)
    assert config.latency.per_token == timedelta(milliseconds=20)
    assert (config.latency.sigma, config.latency.scale) == (0.1, 0.5)
    assert (config.answers.mean_tokens, config.answers.sigma) == (50, 1.2)
    assert (config.seed, config.track, config.charge_max_tokens) == (7, True, True)
    assert (config.foreign_load.share, config.foreign_load.period) == (0.2, timedelta(seconds=30))
    assert (config.count_tokens_rpm, config.rejected_keys) == (9, {"old"})


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (
            ["--fault", "overload_error"],
            "'--fault': expected the name of a fault, got 'overload_error'; did you mean 'overloaded_error'?",
        ),
        (["--fault", "overloaded_error=often"], "expected NAME, NAME=PROBABILITY"),
        (["--fault", "overloaded_error=2"], "less than or equal to 1"),
        (["--tier", "huge"], "'huge' is not one of"),
        (["--tier", "none", "--burst", "5"], "expected rpm together with burst=5"),
        (["--port", "70000"], "--port"),
        (["--nonsense"], "No such option"),
    ],
)
def test_mistakes_are_told_with_exit_status_2(capsys, argv, told):
    assert main(argv) == 2
    assert told in capsys.readouterr().err


def test_all_faults_can_be_listed():
    listed = CliRunner().invoke(simulate, ["--list-faults"])
    assert [line.split()[0] for line in listed.output.splitlines()] == list(FAULTS)


def test_help_is_no_error(capsys):
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert "Simulate the Claude Messages API" in told
    assert "\n    POST /control   change limits" in told


def test_mounting_the_command_imports_no_server():
    code = (
        "import sys; import promptmill.testing.simulator.cli; "
        "sys.exit(bool({'aiohttp', 'anthropic', 'sqlalchemy', 'arq'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
