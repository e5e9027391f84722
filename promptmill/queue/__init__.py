"""The queue in Redis: one typed method for each script."""

from promptmill.queue.claims import Claim, Claims, Disposition, Renewal, Reply, Settled, Settlement, Snooze
from promptmill.queue.connection import connect
from promptmill.queue.queue import Queue, Submitted
from promptmill.queue.report import Effect, Report, Standing
from promptmill.queue.submission import Submission, expected_cost, kind_of, prepare

__all__ = [
    "Claim",
    "Claims",
    "Disposition",
    "Effect",
    "Queue",
    "Renewal",
    "Reply",
    "Report",
    "Settled",
    "Settlement",
    "Snooze",
    "Standing",
    "Submission",
    "Submitted",
    "connect",
    "expected_cost",
    "kind_of",
    "prepare",
]
