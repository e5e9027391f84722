"""The group of all commands: finds them, and turns what goes wrong into one line and an exit code."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module, metadata
from typing import Any, Final

import click

from producers.cli.console import complain, show_problems
from promptmill.errors import BadFile, MissingExtra, PromptmillError

EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command is, and what the overview says of it without loading it: `--help` stays fast."""

    section: str
    module: str
    summary: str
    extra: str | None = None
    """The optional package that its module needs at import."""


_HERE: Final = "producers.cli"

COMMANDS: Final[dict[str, Entry]] = {
    "demo": Entry("Answer prompts", f"{_HERE}.demo", "Answer 220 real prompts in a minute, free, against a simulator."),
    "run": Entry("Answer prompts", f"{_HERE}.run", "Answer a file of prompts, here and now; the same again resumes."),
    "enqueue": Entry("Answer prompts", f"{_HERE}.enqueue", "Put a file of prompts into the queue and leave."),
    "worker": Entry("Answer prompts", f"{_HERE}.worker", "Answer what is in the queue until stopped."),
    "status": Entry("Look", f"{_HERE}.status", "Lanes, budgets, workers, runs and dead letters."),
    "results": Entry("Look", f"{_HERE}.results", "Results as JSON lines, CSV or Parquet.", extra="store"),
    "spend": Entry("Look", f"{_HERE}.spend", "Tokens and USD an hour, by model, lane or tag.", extra="store"),
    "latency": Entry("Look", f"{_HERE}.latency", "How long answers take: queue, first byte, whole.", extra="store"),
    "errors": Entry("Look", f"{_HERE}.errors", "What failed, whose fault it was, and fallbacks.", extra="store"),
    "quality": Entry("Look", f"{_HERE}.quality", "What answers are like, and what has become worse.", extra="store"),
    "alarms": Entry("Look", f"{_HERE}.alarms", "Where answers have become worse, and since when.", extra="store"),
    "canaries": Entry("Look", f"{_HERE}.canaries", "Known prompts with known answers: who passes them.", extra="store"),
    "doctor": Entry("Look", f"{_HERE}.doctor", "Check Redis, store, key, clock and limits; say what to do."),
    "cancel": Entry("Intervene", f"{_HERE}.cancel", "Stop jobs, or a whole run."),
    "pause": Entry("Intervene", f"{_HERE}.pause", "Send nothing more of a lane until it is resumed."),
    "resume": Entry("Intervene", f"{_HERE}.resume", "Let a budget or a lane go on that is parked, paused or out."),
    "dead": Entry("Intervene", f"{_HERE}.dead", "Dead letters: list, show, redrive, edit, purge.", extra="store"),
    "db": Entry("Intervene", f"{_HERE}.db", "The result store's schema.", extra="store"),
    "simulate": Entry(
        "Try out", "promptmill.testing.simulator.cli", "A simulator of the Claude API on this machine.", "simulator"
    ),
}


class Commands(click.Group):
    """Loads a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which the overview shows them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command. Raises MissingExtra where it needs a package that is not installed."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        try:
            command: click.Command = getattr(import_module(entry.module), cmd_name)
        except ModuleNotFoundError as error:
            if entry.extra is None or _is_ours(error.name):
                raise
            raise MissingExtra(f"promptmill {cmd_name}", entry.extra) from None
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the command that was probably meant."""
        if args and args[0] not in COMMANDS and (near := difflib.get_close_matches(args[0], COMMANDS, n=1)):
            ctx.fail(f"No such command {args[0]!r}; did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview by section."""
        del ctx
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl(
                    [(name, entry.summary) for name, entry in COMMANDS.items() if entry.section == section],
                    col_max=12,
                )

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; whatever it raises on purpose becomes one line on standard error and an exit code."""
        try:
            return super().invoke(ctx)
        except PromptmillError as error:
            complain(str(error))
            if isinstance(error, BadFile):
                show_problems(error.problems)
            ctx.exit(EXIT_BAD_INPUT)
        except BrokenPipeError:
            raise  # `promptmill results | head`: click ends quietly
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            complain(f"{error.strerror or error}{where}")
            ctx.exit(EXIT_BAD_INPUT)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except Exception as error:
            # A command that the server refuses, such as one that an ACL user may not run. Told by its name: importing
            # redis to say so would slow down every `--help`.
            if not type(error).__module__.startswith("redis."):
                raise
            complain(f"Redis refuses: {error}")
            ctx.exit(EXIT_BAD_INPUT)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Settings come from the environment (PROMPTMILL_...) or from ./promptmill.toml:
  ANTHROPIC_API_KEY      the key of your account; ANTHROPIC_BASE_URL: another address than the API's
  PROMPTMILL_RPM         requests a minute of your account; PROMPTMILL_ITPM, PROMPTMILL_OTPM: its tokens
  PROMPTMILL_MODEL       model for prompts that name none (claude-haiku-5-5)
  PROMPTMILL_REDIS_URL   a Redis or Valkey of yours; unset: one is started in the data directory
  PROMPTMILL_STORE_URL   postgresql://...; unset: a SQLite file in the data directory
  PROMPTMILL_DATA_DIR    where queue and results are kept (~/.local/share/promptmill)

\b
Exit codes:
  0 all answered, 1 some failed, 2 bad input or configuration, 130 interrupted

\b
Examples:
  promptmill demo
  promptmill run prompts.jsonl --out answers.jsonl --rpm 1000
  promptmill enqueue nightly.csv --template "Summarize: {text}" --lane overnight && promptmill worker
  promptmill results --since 24 --format csv --out answers.csv
""",
)
@click.version_option(metadata.version("promptmill"), prog_name="promptmill")
def promptmill() -> None:
    """Prompts in, answers out: paced under your rate limits, no 429, none lost, none paid for twice."""


def main() -> None:
    """Run the command line (the entry point `promptmill`)."""
    promptmill.main(prog_name="promptmill")


def _is_ours(module: str | None) -> bool:
    return (module or "").partition(".")[0] in ("producers", "promptmill", "worker")
