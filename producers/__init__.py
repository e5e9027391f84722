"""Puts prompt jobs into the queue and takes results out.

    async with Client("redis://localhost") as client:
        result = await client.ask("Why is the sky blue? One sentence.")

Light to import: neither worker nor engine, provider SDK, database driver or command line comes with it.
"""

from producers.client import Client, Handle
from producers.status import JobStatus
from producers.sync_client import SyncClient, SyncHandle
from promptmill.errors import BadJob, PromptmillError, QueueUnavailable, ResultNotFound
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
