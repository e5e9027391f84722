"""The table: what was reached, beside what was aimed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from tests.bench.pacing.cases import Aim, Case
from tests.bench.pacing.measuring import OURS, Figures

HEADINGS = ("case", "pacer", "used", "429s", "lost", "wait P50, P99", "calls", "Redis", "aim", "met")

_LEGEND = (
    "used: of what the limit permits, rate x time, over whole minutes that begin 10 s after the first request (30 to "
    "60 s where the limit must be found out or single answers weigh much), counted by the simulator. What a full "
    "bucket held at the start is not permitted by this count: who still draws on it, or others, gets more than 100 %. "
    "429s: all, from the first request on. lost: jobs that ended without an answer. wait: of interactive jobs until "
    "their request was sent, in slots (the time of one request at the limit). calls: claims for each grant; of the "
    "log, calls of its script. Redis: CPU seconds in a second. Token rows of a few minutes vary by some 2 %: single "
    "answers and prompts are large; of requests one is 0.2 % in a minute at 600 RPM. virtual: real scripts and exact "
    "buckets on a virtual clock, requests 40 to 80 ms under way."
)


@dataclass(frozen=True)
class Line:
    """One system in one case."""

    case: Case
    name: str
    figures: Figures
    is_virtual: bool = False


def misses(aim: Aim, figures: Figures) -> list[str]:
    """Return which parts of an aim were missed, as they are shown: what rounds to the aim has reached it."""
    waited = None if figures.waits is None else figures.waits[1]
    found = {
        "use": aim.use is not None and round(figures.use, 3) < aim.use,
        "early use": aim.early_use is not None and round(figures.early_use, 3) < aim.early_use,
        "429s": figures.refused > aim.refused,
        "lost": bool(figures.lost),
        "wait": aim.slots is not None and waited is not None and round(waited, 2) > aim.slots,
        "calls": aim.calls is not None and figures.calls is not None and round(figures.calls, 2) > aim.calls,
        "Redis": aim.cores is not None and figures.cores is not None and round(figures.cores, 2) > aim.cores,
        "starved": aim.starved is not None and (figures.starved or 0) > aim.starved,
    }
    return [what for what, missed in found.items() if missed]


def rows(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """Return the table's cells. A case is named in its first row; only ours has an aim."""
    told: list[tuple[str, ...]] = []
    before = None
    for line in lines:
        case, figures = line.case, line.figures
        missed = misses(case.aim, figures)
        judged = line.name == OURS
        minutes = "" if case.virtual is None else f"{case.virtual.total_seconds() / 60:g} min"
        told.append(
            (
                "" if case is before else case.title,
                f"{line.name}, {minutes} virtual" if line.is_virtual else line.name,
                _used(case.aim, figures),
                f"{figures.refused:,}",
                _shown(figures.lost, "{:,}"),
                "" if figures.waits is None else "{:.2f}, {:.2f}".format(*figures.waits),
                _shown(figures.calls, "{:.2f}"),
                _shown(figures.cores, "{:.2f}"),
                _aim(case.aim) if judged else "",
                ("yes" if not missed else f"no: {', '.join(missed)}") if judged else "",
            )
        )
        before = case
    return told


def legend(lines: Sequence[Line]) -> str:
    """Return what the columns mean, and how busy the machine was."""
    contention = [line.figures.contention for line in lines if line.figures.contention is not None]
    if not contention:
        return _LEGEND
    return (
        f"{_LEGEND} While this was measured, something on the machine waited for a core during {min(contention):.0%} "
        f"to {max(contention):.0%} of the time: a slot that a worker wakes too late for is lost."
    )


def terminal(lines: Sequence[Line]) -> Table:
    """Return the table for people."""
    table = Table(*HEADINGS, caption=legend(lines), caption_justify="left")
    for row in rows(lines):
        if row[0] and table.row_count:
            table.add_section()
        table.add_row(*row, style="bold" if row[1].startswith(OURS) else "")
    return table


def markdown(lines: Sequence[Line]) -> str:
    """Return the table for the README."""
    written = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    written += ["| " + " | ".join(row) + " |" for row in rows(lines)]
    return "\n".join([*written, "", legend(lines)])


def _used(aim: Aim, figures: Figures) -> str:
    early = "" if aim.early_use is None else f" ({figures.early_use:.1%} from the start)"
    return f"{figures.use:.1%}{early}"


def _shown(number: float | None, form: str) -> str:
    return "" if number is None else form.format(number)


def _aim(aim: Aim) -> str:
    parts = [
        "" if aim.use is None else f"{aim.use:.0%}",
        "" if aim.early_use is None else f"{aim.early_use:.0%} from the start",
        f"{aim.refused} 429s",
        "" if aim.starved is None else f"{aim.starved} starved",
        "" if aim.slots is None else f"P99 {aim.slots} slots",
        "" if aim.calls is None else f"{aim.calls} calls",
        "" if aim.cores is None else f"Redis {aim.cores}",
    ]
    return ", ".join(part for part in parts if part)
