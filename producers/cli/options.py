"""Options that several commands take, and the settings that they make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from promptmill.errors import BadSettings
from promptmill.settings import Settings
from promptmill.settings_sources import PREFIX

Command = TypeVar("Command", bound=Callable[..., Any])

VARIABLES: Final[Mapping[str, str]] = {
    "model": f"{PREFIX}MODEL",
    "max_tokens": f"{PREFIX}MAX_TOKENS",
    "rpm": f"{PREFIX}RPM",
    "itpm": f"{PREFIX}ITPM",
    "otpm": f"{PREFIX}OTPM",
    "concurrency": f"{PREFIX}CONCURRENCY",
    "base_url": "ANTHROPIC_BASE_URL",
}
"""Options that are settings too, by the variable in which a worker process is handed them."""

NO_KEY: Final = "none"
"""Sent as the key where an address is given and no key: a simulator or a gateway may not care which it is."""

_LIMITS: Final = ("rpm", "itpm", "otpm")

_POSITIVE: Final = click.IntRange(min=1)

HOURS: Final = click.FloatRange(min=0, min_open=True)
"""How far back it is looked."""

prompt_file = click.Path(exists=False, dir_okay=True, path_type=Path)
"""Whether it can be read is told by whoever reads it, in the same words for every command."""

_FLEET: Final = (
    click.option("--model", metavar="NAME", help="Model for prompts that name none.  [default: claude-haiku-5-5]"),
    click.option(
        "--rpm",
        type=_POSITIVE,
        metavar="N",
        help="Requests a minute of your account.  [default: the lowest tier's, 1000]",
    ),
    click.option(
        "--itpm", type=_POSITIVE, metavar="N", help="Input tokens a minute.  [default: the lowest tier's, 2000000]"
    ),
    click.option(
        "--otpm", type=_POSITIVE, metavar="N", help="Output tokens a minute.  [default: the lowest tier's, 400000]"
    ),
    click.option(
        "--concurrency", type=_POSITIVE, metavar="N", help="Requests at a time of one process.  [default: 50]"
    ),
    click.option(
        "--processes", type=_POSITIVE, default=1, metavar="N", help="Worker processes on this machine.  [default: 1]"
    ),
    click.option("--base-url", metavar="URL", help="Where the API is, such as a simulator's address."),
)


def fleet_options(command: Command) -> Command:
    """Add the options that say how workers are to send."""
    for option in reversed(_FLEET):
        command = option(command)
    return command


def load_settings(**given: Any) -> Settings:
    """Return the settings with the options given on the command line on top. Raises BadSettings."""
    options = {name: given.get(name) for name in VARIABLES if name != "base_url"}
    settings = Settings.load(**options, data_dir=given.get("data_dir"), anthropic_base_url=given.get("base_url"))
    # Workers are other processes: what is relative to this one's directory is made absolute once, here.
    settings = settings.model_copy(update={"data_dir": settings.data_dir.expanduser().absolute()})
    return with_limits(settings, {name: given[name] for name in _LIMITS if given.get(name) is not None})


def with_limits(settings: Settings, limits: Mapping[str, int]) -> Settings:
    """Return the settings with these limits for every model class, those that have their own in the file included.

    A limit in the environment is for classes that have none of their own; one on the command line is meant.
    """
    budgets = {name: budget.model_copy(update=limits) for name, budget in settings.budgets.items()}
    return settings.model_copy(update={**limits, "budgets": budgets})


def environment_of(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the options given on the command line as the variables in which a worker process reads them."""
    return {variable: str(given[name]) for name, variable in VARIABLES.items() if given.get(name) is not None}


def require_key(settings: Settings) -> None:
    """Raise BadSettings where nothing could be sent: neither a key nor an address that may not need one."""
    if settings.anthropic_api_key is None and settings.anthropic_base_url is None:
        raise BadSettings(
            "no API key: set ANTHROPIC_API_KEY, or try it out for free with `promptmill simulate` in another terminal "
            "and --base-url http://127.0.0.1:8010 here"
        )
