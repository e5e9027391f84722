"""Whether the code that an answer shows parses. Parsed only, never run."""

from __future__ import annotations

import ast
import re
import textwrap
import tomllib
import warnings
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Final
from xml.parsers import expat

import orjson

from worker.quality.markdown import Fence
from worker.quality.patterns import Undecided

_MAX_BLOCKS: Final = 10
_MAX_CHARS: Final = 8_000
"""Of all blocks that are parsed: CPython's parser takes about a millisecond for so much."""
_MAX_DEPTH: Final = 20
"""Of brackets: deeper than people write, and far from where a parser runs out of stack or of patience."""
_MAX_TOML_LINE: Final = 300
"""tomllib takes the square of the length of a dotted key."""

_BRACKETS = re.compile(r"[()\[\]{}]")
_STEP = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_NOT_MEANT_TO_PARSE = re.compile(r"\.\.\.|…|^[ \t]*(?:[%!>$]|//|/\*)|[ \t]//[ \t]", re.MULTILINE)
"""What abridges code (an ellipsis), comments JSON, or belongs to a notebook, a console session or a block quote."""


def code_parses(fences: tuple[Fence, ...]) -> bool | None:
    """Whether every code block parses whose language says how; None where there is none to check.

    Sees: closed blocks marked as Python (3, as this interpreter knows it), JSON, JSON lines, TOML or XML (also SVG;
    a fragment with several roots is allowed), the first ten of at most 8,000 characters together.
    Leaves out: blocks that fail and are abridged ("..."), commented JSON, and notebook or console sessions.
    Cannot see: other languages (HTML takes anything; SQL, shell and JavaScript have no parser here), blocks without a
    language, whether names exist, and whether the code does what it should.
    """
    verdicts: list[bool] = []
    chars = 0
    for fence in fences[:_MAX_BLOCKS]:
        parse = _PARSERS.get(fence.language)
        if parse is None or not fence.closed or not fence.code.strip():
            continue
        chars += len(fence.code)
        if chars > _MAX_CHARS:
            break
        verdict = _parses(parse, fence.code)
        if verdict is not None:
            verdicts.append(verdict)
    return all(verdicts) if verdicts else None


def _parses(parse: Callable[[str], None], code: str) -> bool | None:
    try:
        parse(code)
    except (Undecided, MemoryError, RecursionError):
        return None
    except (ValueError, SyntaxError, expat.ExpatError):
        return None if _NOT_MEANT_TO_PARSE.search(code) else False
    return True


def _python(code: str) -> None:
    depth = accumulate(_STEP[bracket] for bracket in _BRACKETS.findall(code))
    if max(depth, default=0) > _MAX_DEPTH:
        raise Undecided
    if code[0] in " \t":  # a block inside a list item
        code = textwrap.dedent(code)
    with warnings.catch_warnings(action="ignore"):  # of what the code would warn, with a piece of it
        ast.parse(code)


def _json_lines(code: str) -> None:
    for line in code.splitlines():
        if line.strip():
            orjson.loads(line)


def _toml(code: str) -> None:
    if any(len(line) > _MAX_TOML_LINE for line in code.splitlines()):
        raise Undecided
    tomllib.loads(code)


def _xml(code: str) -> None:
    document = code.strip()
    if not document.startswith(("<?", "<!DOCTYPE")):
        document = f"<fragments>{document}</fragments>"
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = _refuse_entities
    parser.Parse(document, True)


def _refuse_entities(*_declaration: object) -> None:
    raise Undecided  # entities made of entities grow without bound


def _json(code: str) -> None:
    orjson.loads(code)


_PARSERS: Mapping[str, Callable[[str], None]] = {
    **dict.fromkeys(("python", "py", "python3", "py3"), _python),
    "json": _json,
    **dict.fromkeys(("jsonl", "ndjson", "jsonlines"), _json_lines),
    "toml": _toml,
    **dict.fromkeys(("xml", "svg", "xsd", "xslt"), _xml),
}
