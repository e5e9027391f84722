"""A script is a contract: its header says all that goes in and comes out, and its keys are those of keys.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import promptmill.queue
from promptmill.foresight import SHARES
from promptmill.jobs import Lane
from promptmill.pacing import DIMENSIONS
from promptmill.queue import keys, scripts

FOLDER = Path(promptmill.queue.__file__).parent / "lua"
FILES = sorted(FOLDER.glob("*.lua"))
PARTS = [path for path in FILES if path.name.startswith("_")]

each_script = pytest.mark.parametrize("name", scripts.NAMES)


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text(encoding="utf-8")


def split(name: str) -> tuple[list[str], str]:
    """The comment lines at a script's head, without their dashes, and the rest."""
    lines = text_of(name).splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("--"))
    return [line.removeprefix("--") for line in lines[:end]], "\n".join(lines[end:])


def test_every_file_is_a_script_that_queue_runs_or_a_part_of_one():
    assert {path.stem for path in FILES} == {*scripts.NAMES, *(path.stem for path in PARTS)}
    needed = {part for name in scripts.NAMES for part in split(name)[0][0].removeprefix(" needs: ").split(", ")}
    assert {path.stem for path in PARTS} == {f"_{part}" for part in needed}


def test_keys_and_channels_have_the_same_names_in_lua_and_in_python():
    declared = re.findall(
        r"^local ([A-Z_, ]+) = ('.+)$", (FOLDER / "_keys.lua").read_text(encoding="utf-8"), re.MULTILINE
    )
    in_lua = {}
    for names, values in declared:
        in_lua |= dict(zip(names.split(", "), re.findall(r"'([^']*)'", values), strict=True))
    in_python = {name: value for name, value in vars(keys).items() if name.isupper()}
    only_python = {"WORKERS", "STATUS_PAGE", "STATUS_PAGE_TURN"}
    assert in_lua == {name: value for name, value in in_python.items() if name not in only_python}


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "_keys.lua"], ids=lambda path: path.stem)
def test_no_script_spells_a_key_out(path):
    code = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
    assert re.findall(r"'(?:promptmill|arq):[^']*'", code) == []


def test_the_table_of_keys_names_them_all():
    values = {value for name, value in vars(keys).items() if name.isupper()}
    documented = set(re.findall(r"^\| `([^`]+)`", keys.__doc__, re.MULTILINE))
    assert values == {name.partition("<")[0] for name in documented}


@each_script
def test_the_header_says_what_a_script_is_for_what_it_takes_and_what_it_returns(name):
    header = split(name)[0]
    assert header[0].startswith(" needs: ")
    assert not header[1].startswith((" ARGV", " Returns"))
    assert any(line.startswith(" ARGV  ") for line in header)
    assert any(line.startswith(" Returns ") for line in header)


@each_script
def test_the_header_names_every_argument_that_is_used_and_no_other(name):
    header, code = split(name)
    start = next(number for number, line in enumerate(header) if line.startswith(" ARGV  "))
    end = next(number for number, line in enumerate(header) if line.startswith(" Returns "))
    arguments = "\n".join(header[start:end])
    documented = {int(number) for number in re.findall(r"(?:ARGV|\s{2})\s*(\d+) (?=[a-z])", arguments)}
    used = {int(number) for number in re.findall(r"ARGV\[(\d+)\]", code)}
    assert used == documented
    repeated = re.search(r"ARGV\[(?!\d+\])", code)
    assert bool(repeated) == ("for each" in arguments or "then the ids" in arguments)


@each_script
def test_a_script_brings_along_what_it_needs_and_nothing_else(name):
    """A part's local functions are known after it; a name nobody declared would be an error at run time alone."""
    header, code = split(name)
    parts = header[0].removeprefix(" needs: ").split(", ")
    declared = {part: set(re.findall(r"^local function (\w+)", text_of(f"_{part}"), re.MULTILINE)) for part in parts}
    everywhere = set().union(*(re.findall(r"^local function (\w+)", path.read_text(), re.MULTILINE) for path in PARTS))
    brought = "\n".join([*(text_of(f"_{part}") for part in parts), code])
    called = {function for function in everywhere if re.search(rf"(?<!function )\b{function}\(", brought)}
    assert called <= set().union(*declared.values())


@each_script
def test_every_script_but_submit_goes_on_when_memory_is_full(name):
    """Its first write must take none, or Redis refuses what would make room with the rest; who only looks has none."""
    code = re.sub(r"--.*", "", split(name)[1])
    if name == "backlog":
        reads = {"EXISTS", "HGET", "HGETALL", "HMGET", "ZCARD", "ZCOUNT", "ZRANGE", "ZRANK"}
        assert set(re.findall(r"redis\.call\('(\w+)'", code)) <= reads
    elif name == "submit":
        assert "run_when_full" not in code
    else:
        before = code.partition("run_when_full()")[0]
        assert before != code
        assert "redis.call" not in before


def test_lanes_their_shares_and_dimensions_are_the_same_as_in_python():
    assert f"for lane = 1, {len(Lane)} do" in text_of("claim")
    shares = dict(re.findall(r"\[(\d)\] = ([\d.]+)", re.search(r"local SHARES = (.+)", text_of("_budget"))[1]))
    assert {lane: float(shares[str(n)]) for n, lane in enumerate(Lane, start=1) if str(n) in shares} == SHARES
    assert re.findall(r"local DIMENSIONS = \{ (.+) \}", text_of("_budget")) == [", ".join(map(repr, DIMENSIONS))]
