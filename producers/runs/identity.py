"""The names of a run and of its jobs: the same for the same command, so that it goes on where it stopped."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from producers.files import PromptFile
from producers.runs.options import RunOptions
from promptmill.errors import BadJob
from promptmill.jobs import MAX_ID_BYTES
from promptmill.lines import job_from_line
from promptmill.queue import Submission, prepare
from promptmill.settings import Settings

RUN_ID_CHARS: Final = 12
"""60 bits; short, since Redis holds it five times for each queued job."""
UNNAMED: Final = "-" * RUN_ID_CHARS
"""Stands for the run while its file is being checked: its name depends on the whole content."""

MAX_LINE_ID_BYTES: Final = MAX_ID_BYTES - RUN_ID_CHARS - 1

_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_UNUSABLE: Final = re.compile("[\x00-\x20\x7f\ud800-\udfff]")


def run_id(target: Path, content: bytes, file: PromptFile, settings: Settings) -> str:
    """Return the id of the run that turns `file`, whose content has this digest, into `target`.

    Whatever alters the requests is part of it: other answers must not be taken for these.
    """
    parts = [
        1,
        os.fsencode(os.path.abspath(target)).hex(),  # noqa: PTH100 - a link is kept as it is: it is what is replaced
        content.hex(),
        file.format,
        None if file.template is None else file.template.text,
        settings.model,
        settings.max_tokens,
    ]
    number = int.from_bytes(hashlib.blake2b(orjson.dumps(parts), digest_size=8).digest())
    return "".join(_DIGITS[number >> 5 * place & 31] for place in range(RUN_ID_CHARS))


def line_id(job_id: str) -> str:
    """Return the id that the file's owner gave to the line of this job."""
    return job_id[RUN_ID_CHARS + 1 :]


class LineJobs:
    """Makes jobs, ready for the queue, of the lines of one run; `options` speak for lines that do not themselves."""

    def __init__(self, settings: Settings, *, run: str = UNNAMED, options: RunOptions | None = None) -> None:
        options = options or RunOptions()
        self._settings = settings
        self._run = run
        self._defaults = {"lane": options.lane, "for_claude_code": options.for_claude_code}

    def __call__(self, line: int, fields: Mapping[str, Any]) -> Submission:
        """Return the job of the line of this number. Raises BadJob or UnknownModel."""
        job = job_from_line(
            {**self._defaults, **fields},
            model=self._settings.model,
            max_tokens=self._settings.max_tokens,
            id=f"{self._run}/{_own_id(line, fields)}",
            run=self._run,
            position=line,
            keep_result=timedelta(0),  # nobody waits for it in Redis: the answers file is made from the store
        )
        return prepare(job, self._settings)


def _own_id(line: int, fields: Mapping[str, Any]) -> str:
    name = next((name for name in ("id", "custom_id") if fields.get(name) is not None), None)
    if name is None:
        return f"line-{line}"
    own = fields[name]
    if not isinstance(own, str):
        raise BadJob(f"{name}: expected a text or a whole number, got {type(own).__name__}")
    if not 0 < len(own.encode("utf-8", "surrogatepass")) <= MAX_LINE_ID_BYTES or _UNUSABLE.search(own):
        raise BadJob(
            f"{name}: expected 1 to {MAX_LINE_ID_BYTES} bytes without white space or control characters, "
            f"got {own[:80]!r}"
        )
    return own
