"""Loads the scripts beside this module. A first line `-- needs: a, b` puts `_a.lua` and `_b.lua` before the script."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

_FOLDER: Final = files("promptmill.queue") / "lua"
_NEEDS: Final = "-- needs: "

NAMES: Final = (
    "submit",
    "claim",
    "adopt",
    "renew",
    "settle",
    "report",
    "snooze",
    "cancel",
    "configure",
    "block",
    "halt",
    "lift",
    "hasten",
    "observe",
    "backlog",
)


@cache
def source(name: str) -> str:
    """Return the whole text of the script `name`, with what it needs."""
    text = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    first = text.partition("\n")[0]
    needed = first.removeprefix(_NEEDS).split(", ") if first.startswith(_NEEDS) else []
    return "\n".join([*((_FOLDER / f"_{part}.lua").read_text(encoding="utf-8") for part in needed), text])
