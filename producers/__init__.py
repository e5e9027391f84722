"""Puts prompt jobs into the queue and takes results out.

    async with Client("redis://localhost") as client:
        result = await client.ask("Why is the sky blue? One sentence.")

Light to import: neither worker nor engine, provider SDK, database driver or command line comes with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from producers.client import Client, Handle
    from producers.status import JobStatus
    from producers.sync_client import SyncClient, SyncHandle
    from promptmill.errors import BadJob, KeyReused, PromptmillError, QueueUnavailable, ResultNotFound
    from promptmill.expectations import Expectation
    from promptmill.jobs import Job, JobState, Lane
    from promptmill.queue import Submitted
    from promptmill.results import Result, Status
    from promptmill.settings import Settings

__all__ = [
    "BadJob",
    "Client",
    "Expectation",
    "Handle",
    "Job",
    "JobState",
    "JobStatus",
    "KeyReused",
    "Lane",
    "PromptmillError",
    "QueueUnavailable",
    "Result",
    "ResultNotFound",
    "Settings",
    "Status",
    "Submitted",
    "SyncClient",
    "SyncHandle",
]

_HOMES: Final = {
    "producers.client": ("Client", "Handle"),
    "producers.status": ("JobStatus",),
    "producers.sync_client": ("SyncClient", "SyncHandle"),
    "promptmill.errors": ("BadJob", "KeyReused", "PromptmillError", "QueueUnavailable", "ResultNotFound"),
    "promptmill.expectations": ("Expectation",),
    "promptmill.jobs": ("Job", "JobState", "Lane"),
    "promptmill.queue": ("Submitted",),
    "promptmill.results": ("Result", "Status"),
    "promptmill.settings": ("Settings",),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: `promptmill --help` needs none of it."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
