"""Runs: files of prompts worked off through the queue, resumable at any point.

Needs the result store (`promptmill[store]`), so `producers` itself does not import it.
"""

from producers.runs.answers import CannotWrite
from producers.runs.enqueue import Enqueued, enqueue_file
from producers.runs.file_run import run_file
from producers.runs.options import RunOptions
from producers.runs.progress import Phase, RunProgress
from producers.runs.summary import Mean, Percentiles, RunSummary

__all__ = [
    "CannotWrite",
    "Enqueued",
    "Mean",
    "Percentiles",
    "Phase",
    "RunOptions",
    "RunProgress",
    "RunSummary",
    "enqueue_file",
    "run_file",
]
