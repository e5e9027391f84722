"""What the whole fleet holds back until somebody lets it go on: paused lanes, models not to be used as fallbacks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, Self

from promptmill.jobs import Lane

OWNER: Final = "owner"
"""Who holds back what was asked for on the command line."""
_VERSION: Final = "version"
_LANES: Final = tuple(Lane)

What = Literal["lane", "fallback"]


@dataclass(frozen=True, slots=True)
class Halt:
    """One lane that claims nothing, or one model that jobs which asked for another do not go on to."""

    what: What
    name: str
    """Of the lane, or of the model."""
    by: str
    """`owner`, or the alarm that it is due to, such as `alarm 12`. What two hold back goes on when both let it go."""
    since: datetime
    until: datetime | None
    """None: until it is lifted."""
    why: str


def in_short(halts: Iterable[Halt]) -> tuple[Halt, ...]:
    """Return the same with one entry for all the alarms that hold back one thing: a model gets worse in many metrics.

    It names each of them, and the why of the first.
    """
    found: dict[tuple[str, str, str], list[Halt]] = {}
    for halt in halts:
        kind, _, number = halt.by.partition(" ")
        found.setdefault((halt.what, halt.name, "alarm" if kind == "alarm" and number else halt.by), []).append(halt)
    return tuple(_as_one(same) for same in found.values())


def _as_one(same: list[Halt]) -> Halt:
    first, *others = same
    if not others:
        return first
    numbers = [halt.by.partition(" ")[2] for halt in same]
    ends = [halt.until for halt in same if halt.until is not None]
    return replace(
        first,
        by=f"alarms {', '.join(numbers)}",
        since=min(halt.since for halt in same),
        until=max(ends) if len(ends) == len(same) else None,
        why=f"{first.why}, and {len(others)} more",
    )


def _in_order(by: str) -> list[tuple[int, str]]:
    """Return what sorts `alarm 9` before `alarm 10`."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", by)]


def halt_field(what: What, name: str, by: str) -> str:
    """Return where the halt stands in the hash; see lua/_halts.lua."""
    return f"{what}:{by}:{_LANES.index(Lane(name)) + 1 if what == 'lane' else name}"


@dataclass(frozen=True, slots=True)
class Halts:
    """All that is held back at one moment."""

    all: tuple[Halt, ...] = ()
    version: int = 0
    """Another one after each change."""

    @classmethod
    def read(cls, stored: Mapping[bytes, bytes], now: float = 0) -> Self:
        """Return what the hash says at `now` (ms on Redis' clock). What somebody else wrote there is passed over."""
        entries = {
            field.decode("utf-8", "replace"): entry.decode("utf-8", "replace") for field, entry in stored.items()
        }
        found = (_read(field, entry) for field, entry in entries.items() if field != _VERSION)
        version = entries.get(_VERSION, "")
        return cls(
            tuple(
                sorted(
                    (halt for halt in found if halt and (halt.until is None or halt.until.timestamp() * 1000 > now)),
                    key=lambda halt: (halt.what, halt.name, _in_order(halt.by)),
                )
            ),
            int(version) if version.isdecimal() else 0,
        )

    @property
    def lanes(self) -> frozenset[Lane]:
        """Those that claim nothing."""
        return frozenset(Lane(halt.name) for halt in self.all if halt.what == "lane")

    @property
    def fallbacks(self) -> frozenset[str]:
        """Models that are not to be used as fallbacks."""
        return frozenset(halt.name for halt in self.all if halt.what == "fallback")


def _read(field: str, entry: str) -> Halt | None:
    what, _, rest = field.partition(":")
    by, _, name = rest.partition(":")
    try:
        since, until, why = entry.split(" ", 2)
        times = _time(since), _time(until) if int(until) else None
        if what == "lane":
            return Halt("lane", _LANES[int(name) - 1].value, by, *times, why)
        return Halt("fallback", name, by, *times, why) if what == "fallback" else None
    except (ValueError, IndexError, OverflowError, OSError):
        return None


def _time(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
