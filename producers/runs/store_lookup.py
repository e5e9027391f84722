"""Which lines of a run have their final result, by line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from promptmill.results import Status
from promptmill.store import ResultStore

_FAR: Final = 2_000
"""Lines that lie closer together are read in one go."""


async def settled_lines(store: ResultStore, run: str, lines: Iterable[int]) -> dict[int, Status]:
    """Return the status of those of `lines` that have a final result.

    Jobs end roughly in the order in which they were sent, so a few short stretches of the run are read. Raises
    StoreUnavailable.
    """
    found: dict[int, Status] = {}
    for stretch in _stretches(sorted(lines)):
        wanted = set(stretch)
        async for line in store.settled(run, after=stretch[0] - 1):
            if line.position > stretch[-1]:
                break
            if line.position in wanted:
                found[line.position] = line.status
    return found


def _stretches(lines: list[int]) -> list[list[int]]:
    stretches: list[list[int]] = []
    for line in lines:
        if stretches and line - stretches[-1][-1] < _FAR:
            stretches[-1].append(line)
        else:
            stretches.append([line])
    return stretches
