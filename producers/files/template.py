"""A prompt with `{column}` where the cells of a row go; `{{` and `}}` stand for the braces themselves."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from promptmill.errors import BadInput

_PARTS: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class Template:
    """Raises BadInput for a brace that belongs to nothing, and for a template without any column."""

    def __init__(self, text: str) -> None:
        self.text: Final = text
        self._parts: list[tuple[str, str | None]] = []
        """Plain text, and the column whose cell follows it."""
        plain, end = "", 0
        for found in _PARTS.finditer(text):
            plain += text[end : found.start()]
            end = found.end()
            if found[1] is not None:
                self._parts.append((plain, found[1].strip()))
                plain = ""
            elif len(found[0]) == 2:
                plain += found[0][0]
            else:
                raise BadInput(
                    f"template: expected {{column}}, got a single {found[0]!r} at character {found.start() + 1}; "
                    f"write {found[0] * 2!r} for the brace itself"
                )
        self._parts.append((plain + text[end:], None))
        if not self.columns:
            raise BadInput("template: expected at least one {column}, got none: every prompt would be the same")

    @property
    def columns(self) -> list[str]:
        """Names in the order in which they appear."""
        return [column for _, column in self._parts if column is not None]

    def require(self, known: Sequence[str]) -> None:
        """Raise BadInput, naming the column, unless every column of the template is one of `known`."""
        for column in self.columns:
            if column not in known:
                near = difflib.get_close_matches(column, known, n=1)
                hint = f"; did you mean {{{near[0]}}}?" if near else f"; expected one of {', '.join(known)}"
                raise BadInput(f"template: the file has no column {column!r}{hint}")

    def fill(self, row: Mapping[str, str]) -> str:
        """Return the prompt for `row`, which has every column."""
        return "".join(plain if column is None else plain + row[column] for plain, column in self._parts)
