"""The result store: every final result, every attempt, every dead letter and every run, for good.

    async with await ResultStore.open("sqlite:///results.sqlite") as store:
        await store.record([result])
        async for result in store.results(run="nightly"):
            ...

The only package that imports SQLAlchemy; nothing else in promptmill imports it before it is needed.
"""

from promptmill.errors import MissingExtra

try:
    import sqlalchemy  # noqa: F401
except ImportError:
    raise MissingExtra("the result store", "store") from None

from promptmill.store.aggregates import Latency, Spend, Times
from promptmill.store.entries import AttemptRecord, Entry, Run, RunTotals, SettledLine
from promptmill.store.failures import Fallbacks, Outcomes
from promptmill.store.quality import Learned, SeriesMetric
from promptmill.store.result_store import ResultStore
from promptmill.store.sums import Sums

__all__ = [
    "AttemptRecord",
    "Entry",
    "Fallbacks",
    "Latency",
    "Learned",
    "Outcomes",
    "ResultStore",
    "Run",
    "RunTotals",
    "SeriesMetric",
    "SettledLine",
    "Spend",
    "Sums",
    "Times",
]
