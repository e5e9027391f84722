"""Prompts for the demo, made from text that every machine has: the docstrings of Python's standard library."""

from __future__ import annotations

import inspect
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from promptmill.errors import BadInput

PROMPTS: Final = 220
MAX_TOKENS: Final = 400

_HOME: Final = Path(sysconfig.get_path("stdlib"))
_LONGEST_DOCSTRING: Final = 1_500
_SHORTEST_DOCSTRING: Final = 60
_NOT_FOR_USERS: Final = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "ensurepip", "turtledemo", "pydoc_data"}
)

# Found without importing or parsing: a docstring stands first, after comments and blank lines.
_DOCSTRING: Final = re.compile(r"(?:\s*#[^\n]*\n|\s*\n)*[rRuU]?(\"\"\"|''')(.+?)\1", re.DOTALL)


class Module(NamedTuple):
    """A module of the standard library and what it says of itself."""

    name: str
    docstring: str

    @property
    def summary(self) -> str:
        """The docstring's first sentence, in one line."""
        first = re.split(r"(?<=[.!?])\s|\n\s*\n", self.docstring, maxsplit=1)[0]
        return " ".join(first.split())


def demo_lines(count: int = PROMPTS) -> list[dict[str, Any]]:
    """Return `count` lines of a prompt file, the same each time on the same Python.

    Raises BadInput where this Python came without the sources of its standard library.
    """
    modules = list(standard_modules())
    if not modules:
        raise BadInput(
            f"the demo makes its prompts from Python's standard library, and finds no sources of it ({_HOME})"
        )
    return [_line(number, module) for number, module in enumerate(_evenly(modules, count))]


def standard_modules(library: Path | None = None) -> Iterator[Module]:
    """Yield the documented public modules below `library` (Python's own by default), in the order of their names."""
    root = library or _HOME
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        names = parts[:-1] if parts[-1] == "__init__" else parts
        if not names or any(name in _NOT_FOR_USERS or name.startswith("_") or "-" in name for name in names):
            continue
        found = _DOCSTRING.match(path.read_text(encoding="utf-8", errors="replace"))
        if found and len(found[2]) >= _SHORTEST_DOCSTRING:
            yield Module(".".join(names), inspect.cleandoc(found[2])[:_LONGEST_DOCSTRING])


def _evenly(modules: list[Module], count: int) -> list[Module]:
    """Return `count` of them from all over the alphabet; where there are fewer, some come twice."""
    return [modules[number * len(modules) // count] for number in range(count)]


def _line(number: int, module: Module) -> dict[str, Any]:
    kind = _KINDS[number % len(_KINDS)]
    return {
        "id": f"{number + 1:03d}-{module.name}",
        "max_tokens": MAX_TOKENS,
        "tags": {"source": "standard library", "kind": kind},
        **_ASK[kind](module),
    }


def _explain(module: Module) -> dict[str, Any]:
    return {
        "prompt": f"Explain this Python module to a newcomer in at most 40 words.\n\n{_quoted(module)}",
        "expect": {"max_words": 40, "format": "text", "language": "en"},
    }


def _name_it(module: Module) -> dict[str, Any]:
    name = module.name
    return {
        "prompt": f'Say in at most 2 sentences when to use this module, and mention "{name}".\n\n{_quoted(module)}',
        "expect": {"contains": name, "excludes": "As an AI"},
        "lane": "interactive",
    }


def _summarize(module: Module) -> dict[str, Any]:
    return {
        "prompt": f"Summarize this documentation in one sentence, with at most 30 words.\n\n{_quoted(module)}",
        "expect": {"similar_to": module.summary, "max_words": 30},
    }


def _show_code(module: Module) -> dict[str, Any]:
    return {
        "prompt": f"Write a Python code snippet that shows what this module is for.\n\n{_quoted(module)}",
        "expect": {"format": "code", "min_words": 5},
        "lane": "overnight",
    }


def _as_json(module: Module) -> dict[str, Any]:
    keys = ("module", "purpose", "audience")
    return {
        "prompt": f'Describe this module as a JSON object with the keys "module", "purpose", "audience".\n\n'
        f"{_quoted(module)}",
        "expect": {"json_schema": {"type": "object", "required": list(keys)}},
    }


_ASK: Final = {
    "explain": _explain,
    "name": _name_it,
    "summarize": _summarize,
    "code": _show_code,
    "json": _as_json,
}

_KINDS: Final = ("explain", "explain", "name", "explain", "summarize", "explain", "code", "explain", "explain", "json")


def _quoted(module: Module) -> str:
    return f"Module {module.name}:\n<documentation>\n{module.docstring}\n</documentation>"
