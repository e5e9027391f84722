"""How a file is to be worked off, beside what the settings say."""

from __future__ import annotations

from dataclasses import dataclass

from producers.files import FormatName
from promptmill.jobs import Lane


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of one command. None of them alters a request but `format` and `template`."""

    format: FormatName | None = None
    """None: by the file's name."""
    template: str | None = None
    """For CSV: the prompt, with {column} where a cell goes."""
    lane: Lane = Lane.STANDARD
    """For lines that state none."""
    for_claude_code: bool = False
    """For lines that do not say whether their answers go into Claude Code."""
    skip_bad: bool = False
    """Leave out lines that cannot be used instead of refusing the file."""
    retry_failed: bool = False
    """Send again what ended without an answer in an earlier session: failed, cancelled or expired."""
    window: int = 20_000
    """Jobs of the run that are in Redis at a time."""
