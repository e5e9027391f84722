"""Options of commands that read a prompt file, and how its bad lines are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from producers.runs import RunOptions
from promptmill.jobs import Lane

Command = TypeVar("Command", bound=Callable[..., Any])

_FILE_OPTIONS: Final = (
    click.option("--template", metavar="TEXT", help='For CSV: the prompt, such as "Summarize: {text}".'),
    click.option("--format", "form", type=click.Choice(["jsonl", "csv", "tsv"]), help="Default: by the file's name."),
    click.option(
        "--max-tokens",
        type=click.IntRange(min=1),
        metavar="N",
        help="Longest answer, for prompts that state none.  [default: 1024]",
    ),
    click.option(
        "--lane",
        type=click.Choice([lane.value for lane in Lane]),
        help="For lines that state none.  [default: standard]",
    ),
    click.option(
        "--for-claude-code",
        is_flag=True,
        help="The answers go into Claude Code: rewrite the words that make it reason at length, and list them.",
    ),
    click.option("--skip-bad", is_flag=True, help="Leave out lines that cannot be used instead of refusing the file."),
)

FILE_HELP: Final = """
    FILE holds one prompt a line, as JSON (or a CSV file with --template):

    \b
      {"prompt": "Why is the sky blue?"}
      {"id": "q2", "prompt": "...", "model": "claude-sonnet-5-5", "lane": "overnight",
       "expect": {"max_words": 40, "contains": "blue"}, "tags": {"team": "search"}}
      {"custom_id": "q3", "params": {...a whole Messages API body...}}     (Message Batches form)
"""


def file_options(command: Command) -> Command:
    """Add the options that say how a prompt file is to be read."""
    for option in reversed(_FILE_OPTIONS):
        command = option(command)
    return command


def run_options(given: dict[str, Any]) -> RunOptions:
    """Return what the options say about the file."""
    return RunOptions(
        format=given["form"],
        template=given["template"],
        lane=Lane(given["lane"] or Lane.STANDARD),
        for_claude_code=given["for_claude_code"],
        skip_bad=given["skip_bad"],
        retry_failed=given.get("retry_failed", False),
    )
