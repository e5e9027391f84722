"""Logging: structlog, one JSON object a line on standard error (or readable lines on a console)."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import traceback
import warnings
from pathlib import PurePath
from typing import Any, BinaryIO, TextIO, cast

import orjson
import structlog

from promptmill.settings import Settings

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs(settings: Settings) -> None:
    """Set up structlog for this process. Libraries' own loggers are heard from `warning` up."""
    renderer: list[structlog.typing.Processor]
    logger_factory: structlog.BytesLoggerFactory | structlog.WriteLoggerFactory
    if settings.log_format == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=orjson.dumps)]
        logger_factory = structlog.BytesLoggerFactory(cast("BinaryIO", _Spared(sys.stderr.buffer)))
    else:
        renderer = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        logger_factory = structlog.WriteLoggerFactory(cast("TextIO", _Spared(sys.stderr)))
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.log_level]),
        logger_factory=logger_factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    atexit.register(_lose_what_is_left)
    # The SDK's stream helper has pydantic say what in an answer is not of the documented kind, and quote it (I7).
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)


class _Spared:
    """A stream that loses lines where it cannot take them, because its disk is full or whoever read it is gone.

    An exception out of a log call would end the job that it is about, after it was paid for.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, line: Any) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def _lose_what_is_left() -> None:
    """Python tries once more at the end of the process, and a failure then would be its exit code."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def where(error: BaseException) -> str:
    """Return the places through which `error` came, innermost first, without what it says.

    An exception's words may quote a prompt or an answer (I7); a place tells where to look.
    """
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join(f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
