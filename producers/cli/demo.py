"""`promptmill demo`: real prompts, a simulated API (or the real one), paced."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, Final

import click
import orjson

from producers.cli.console import remark, terminal
from producers.cli.demo_prompts import MAX_TOKENS, PROMPTS, demo_lines
from producers.cli.exports import whole_file
from producers.cli.fleet import worker_command, worker_environment
from producers.cli.interrupts import run_until_stopped
from producers.cli.options import load_settings, with_limits
from producers.cli.queue_address import reachable_queue
from producers.cli.simulated_account import SimulatedAccount
from producers.cli.working_off import Fleet, work_off
from producers.progress import dollars, summary_view
from producers.runs import RunOptions, RunSummary
from promptmill.errors import BadSettings
from promptmill.lines import job_from_line
from promptmill.models import estimate_input_tokens
from promptmill.settings import Settings
from promptmill.settings_sources import CONFIG_VARIABLE, PREFIX

REQUESTS_A_MINUTE: Final = 240
"""220 prompts then take 56 s: long enough to watch, short enough to wait for."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where a demo's prompts and answers are."""

    prompts: Path
    answers: Path

    @classmethod
    def in_directory(cls, directory: Path) -> Files:
        """Return the files of the next demo: one that was interrupted, and so has no answers yet, is gone on with."""
        numbered = (directory / f"answers-{number}.jsonl" for number in count(1))
        return cls(directory / "prompts.jsonl", next(path for path in numbered if not path.exists()))


@click.command(
    epilog="""\b
Examples:
  promptmill demo
  promptmill demo --prompts 40 --rpm 600
  promptmill demo --simulated          although ANTHROPIC_API_KEY is set
"""
)
@click.option(
    "--simulated/--real",
    default=None,
    help="The simulator, or the API that your key is for.  [default: real where ANTHROPIC_API_KEY is set]",
)
@click.option(
    "--prompts", type=click.IntRange(1, 5_000), default=PROMPTS, metavar="N", help="How many.  [default: 220]"
)
@click.option(
    "--rpm",
    type=click.IntRange(min=1),
    default=REQUESTS_A_MINUTE,
    metavar="N",
    help="Requests a minute; of the real API never more than your settings allow.  [default: 240]",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=Path(".promptmill/demo"),
    metavar="DIR",
    help="Where prompts, answers, queue and results are kept.  [default: .promptmill/demo]",
)
def demo(simulated: bool | None, prompts: int, rpm: int, data_dir: Path) -> None:  # noqa: FBT001 - click's way
    """Answer 220 real prompts in about a minute.

    The prompts are made from the docstrings of Python's standard library. Without ANTHROPIC_API_KEY they go to a
    simulator of the Claude API on this machine, which costs nothing and keeps exact rate limits: at the end it is asked
    how many requests it had to refuse. With a key they go to the real API, after saying what that can cost at most.

    Queue and results are the demo's own, in its directory. Each demo is a new run, unless the last one was interrupted:
    that one is gone on with.
    """
    settings = load_settings(data_dir=data_dir)
    if simulated is False and settings.anthropic_api_key is None:
        raise BadSettings("--real needs a key: set ANTHROPIC_API_KEY")
    worker_command(1)  # refuses at once where packages are missing
    lines = demo_lines(prompts)
    files = Files.in_directory(settings.data_dir)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with whole_file(files.prompts) as stream:
        stream.writelines(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
    if simulated or settings.anthropic_api_key is None:
        ok = _simulated(files, settings.data_dir, rpm)
    else:
        ok = _real(files, settings, rpm, lines)
    if not ok:
        raise click.exceptions.Exit(1)


def _simulated(files: Files, data_dir: Path, rpm: int) -> bool:
    # Limits, key and address of a real account mean nothing to the simulator and must not reach it: every setting is
    # the default, whatever environment and settings file say.
    settings = Settings.model_construct(data_dir=data_dir, rpm=rpm)
    environment = {name: value for name, value in os.environ.items() if not name.startswith((PREFIX, "ANTHROPIC_"))}
    environment[CONFIG_VARIABLE] = os.devnull
    with SimulatedAccount(rpm) as account:
        remark(f"a simulated account with {rpm:,} requests a minute answers at {account.base_url}; nothing is paid for")
        summary = _answer(files, settings, environment, rpm=rpm, base_url=account.base_url)
        requests, refused = account.count_requests()
    _show(summary, files)
    click.echo(f"429s, as the simulated account counted them: {refused:,} of {requests:,} requests")
    return summary.ok and not refused


def _real(files: Files, settings: Settings, rpm: int, lines: list[dict[str, Any]]) -> bool:
    rpm = min(rpm, settings.limits(settings.class_of(settings.model)).requests)
    to = settings.anthropic_base_url or "the Claude API"
    remark(f"{len(lines):,} requests to {to}, {settings.model}: {_most_it_costs(lines, settings)}")
    own = with_limits(settings, {"rpm": rpm}).model_copy(update={"redis_url": None, "store_url": None})
    summary = _answer(files, own, os.environ, rpm=rpm)
    _show(summary, files)
    return summary.ok


def _answer(files: Files, settings: Settings, environment: Mapping[str, str], **given: Any) -> RunSummary:
    """Do what `promptmill run` does."""
    with reachable_queue(settings) as address:
        fleet = Fleet(
            worker_command(1),
            worker_environment(address, given, environment),
            settings.data_dir / "logs" / "worker.log",
        )
        return run_until_stopped(work_off(files.prompts, files.answers, address, options=RunOptions(), fleet=fleet))


def _show(summary: RunSummary, files: Files) -> None:
    terminal().print(summary_view(summary))
    click.echo(
        f"\nprompts: {files.prompts}\nanswers: {files.answers}\n"
        f"more:    {PREFIX}DATA_DIR={files.prompts.parent} promptmill results --run {summary.run} --format csv"
    )


def _most_it_costs(lines: list[dict[str, Any]], settings: Settings) -> str:
    """Return what the requests cost if every answer is as long as it may be."""
    prices: Any = import_module("genai_prices")  # comes with the worker, whose packages were asked for before
    requests = [job_from_line(line, model=settings.model, max_tokens=MAX_TOKENS).request for line in lines]
    most = Decimal(0)
    for request in requests:
        usage = prices.Usage(input_tokens=estimate_input_tokens(request), output_tokens=request["max_tokens"])
        try:
            most += prices.calc_price(usage, model_ref=settings.model, provider_id="anthropic").total_price
        except LookupError:
            return "of a model whose price is not known"
    return f"at most about {dollars(most)}"
