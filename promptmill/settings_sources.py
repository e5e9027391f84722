"""Where settings come from: the environment and `promptmill.toml`. Unknown names are refused, with a suggestion."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsError

from promptmill.errors import BadSettings

PREFIX: Final = "PROMPTMILL_"
CONFIG_FILE: Final = "promptmill.toml"
CONFIG_VARIABLE: Final = "PROMPTMILL_CONFIG"

_SERVICE_LINK: Final = re.compile(
    r"PROMPTMILL_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
"""What Kubernetes puts into every container for a Service called promptmill or promptmill-something."""


def refuse_unknown(environ: Mapping[str, str], cls: type[BaseSettings]) -> None:
    """Raise BadSettings where a variable of ours names no setting of `cls`."""
    known = {CONFIG_VARIABLE, *_variables(cls)}
    for name in sorted(environ):
        if name.upper().startswith(PREFIX) and name not in known and not _SERVICE_LINK.fullmatch(name):
            raise BadSettings(f"unknown setting {name} in the environment{_suggest(name, known)}")


def _variables(cls: type[BaseSettings]) -> dict[str, str]:
    """Return the environment's name of each setting."""
    return {str(field.validation_alias or PREFIX + name.upper()): name for name, field in cls.model_fields.items()}


def read_environment(environ: Mapping[str, str], cls: type[BaseSettings]) -> dict[str, Any]:
    """Return the settings of `cls` that the environment gives, not validated yet. Raises BadSettings."""
    names = _variables(cls)
    source = EnvSettingsSource(cls)
    source.env_vars = {name.lower(): environ[name] for name in names if environ.get(name)}
    try:
        return {names.get(name, name): value for name, value in source().items()}
    except SettingsError as error:
        raise BadSettings(f"settings: {_unparsed(error)}") from None
    except RecursionError:
        raise BadSettings("settings: budgets: expected a JSON object, got one that is nested without end") from None


def _unparsed(error: SettingsError) -> str:
    """Say of which variable it is that is no JSON. What stands in it may be secret."""
    named = re.search(r'field "(\w+)"', str(error))
    says = f"expected JSON, such as [...] or {{...}}, got something else: {error.__cause__}"
    return f"{named[1]}: {says}" if named else says


def read_file(
    environ: Mapping[str, str], cls: type[BaseSettings], *, tables: Mapping[str, type[BaseModel]]
) -> dict[str, Any]:
    """Return the settings of `cls` that the file gives, not validated yet; nothing where there is no file.

    `tables` are the settings that are tables of tables with names of the owner's choice. Raises BadSettings.
    """
    named = environ.get(CONFIG_VARIABLE)
    path = Path(named or CONFIG_FILE)
    if not named and not path.exists():
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, no TOML, an endless number
        raise BadSettings(f"cannot read settings file {path}: {error}") from None
    _refuse_unknown_in(content, {name for name in cls.model_fields if not name.startswith("anthropic_")}, str(path))
    for table, model in tables.items():
        entries = content.get(table)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            if isinstance(entry, dict):
                _refuse_unknown_in(entry, set(model.model_fields), f"[{table}.{name}] of {path}")
    return content


def _refuse_unknown_in(content: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in content:
        if name not in known:
            raise BadSettings(f"unknown setting {name!r} in {where}{_suggest(name, known)}")


def _suggest(name: str, known: set[str]) -> str:
    """Say which known name was meant; the prefix, which all of them share, makes none of them more alike."""
    bare = {full.removeprefix(PREFIX).lower(): full for full in known}
    near = difflib.get_close_matches(name.lower().removeprefix(PREFIX.lower()), bare, n=1)
    return f"; did you mean {bare[near[0]]}?" if near else f"; known are {', '.join(sorted(known))}"
