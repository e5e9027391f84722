"""`python -m tests.bench pacing [--markdown] [CASE ...]`: runs the cases, batch by batch, and prints the table."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterable
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path

from rich.console import Console

from tests.bench.pacing import table, virtual
from tests.bench.pacing.cases import CASES, Case
from tests.bench.pacing.measuring import OURS, measure, systems
from tests.bench.pacing.table import Line


async def compare(arguments: list[str]) -> int:
    """Run the cases whose names are given (`600-*` takes several), or all; the exit status: 1 where a row is missing.

    Ctrl-C and SIGTERM end every process that was started, then this one.
    """
    this = asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, this.cancel)
    patterns = [argument for argument in arguments if argument != "--markdown"]
    chosen = [case for case in CASES if not patterns or any(fnmatch(case.name, pattern) for pattern in patterns)]
    if not chosen or any(not any(fnmatch(case.name, pattern) for case in CASES) for pattern in patterns):
        print(
            f"expected names of cases, got {' '.join(patterns)}; known: {', '.join(c.name for c in CASES)}",
            file=sys.stderr,
        )
        return 2
    lines: list[Line] = []
    expected = sum(len(systems(case)) + (case.virtual is not None) for case in chosen)
    with tempfile.TemporaryDirectory(prefix="promptmill-bench-") as folder:
        batches = groupby(sorted(chosen, key=_first_of_batch), key=_first_of_batch)
        for _, batch in batches:
            for together in _rounds(list(batch)):
                lines += await _side_by_side(together, Path(folder))
        for case in chosen:
            if case.virtual is not None:
                figures = await virtual.measure(case, Path(folder) / case.name)
                lines.append(_told(Line(case, OURS, figures, is_virtual=True)))
    lines.sort(key=_place)
    if "--markdown" in arguments:
        print(table.markdown(lines))
    else:
        Console(width=180).print(table.terminal(lines))
    return int(len(lines) < expected)


def _first_of_batch(case: Case) -> int:
    return next(number for number, other in enumerate(CASES) if other.batch == case.batch)


def _rounds(batch: list[Case]) -> Iterable[list[tuple[Case, str]]]:
    """Yield which systems run at the same time in which cases."""
    light = [(case, name) for case in batch if not case.heavy for name in systems(case)]
    if light:
        yield light
    for case in batch:
        if case.heavy:
            yield from ([(case, name)] for name in systems(case))


async def _side_by_side(together: list[tuple[Case, str]], folder: Path) -> list[Line]:
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(_line(case, name, folder)) for case, name in together]
    return [line for task in running if (line := task.result())]


async def _line(case: Case, name: str, folder: Path) -> Line | None:
    """Return one line; None, said with its reason, where the system failed: the others' half hour is not lost."""
    own = folder / case.name / name.replace(" ", "-")
    own.mkdir(parents=True)
    try:
        return _told(Line(case, name, await measure(case, name, own)))
    except Exception:  # noqa: BLE001 - whatever it is, the row is missing and the exit status tells
        print(f"{case.name}: {name} failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return None


def _told(line: Line) -> Line:
    """Say how it went as soon as it is known: the whole table takes half an hour."""
    _, who, *figures = table.rows([line])[0]
    busy = line.figures.contention
    told = [f"{line.case.name}: {who}", *figures, "" if busy is None else f"waited for a core: {busy:.0%}"]
    print(" | ".join(part for part in told if part), file=sys.stderr, flush=True)
    return line


def _place(line: Line) -> tuple[int, bool, int]:
    """Return where a line stands: by case, ours first, virtual after real."""
    return CASES.index(line.case), line.name != OURS, line.is_virtual
