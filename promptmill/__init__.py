"""The contract that producers and workers share: jobs, results, Redis keys and scripts, settings, the store.

Imports neither `producers` nor `worker`; both import it.
"""

from promptmill.errors import PromptmillError
from promptmill.expectations import Expectation
from promptmill.jobs import Job, JobState, Lane
from promptmill.results import Attempt, Result, Status, Usage

__all__ = [
    "Attempt",
    "Expectation",
    "Job",
    "JobState",
    "Lane",
    "PromptmillError",
    "Result",
    "Status",
    "Usage",
]
