"""Metrics of the owner's own, named in the settings: run beside the built-in ones, and never at an answer's expense."""

from __future__ import annotations

import importlib
import math
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Any, Final

import structlog

from promptmill.errors import BadSettings
from worker import events
from worker.logs import where
from worker.quality.measure import METRICS
from worker.quality.metric import Metric, Subject

PATIENCE: Final = timedelta(seconds=1)
"""How long one plug-in may take for one answer: the event loop waits for it, and every lease with it. Much more than a
plug-in needs, so that a busy machine switches none off."""
_MAX_LATE: Final = 3

Value = bool | float | None


class PlugIns:
    """The plug-ins of one worker. Used from its event loop only; the plug-ins themselves run in a thread beside it.

    One that raises, or returns what its kind does not have, is logged by name and its value is None. One that does
    not return in time is left behind in its thread; after three times in a row it is switched off until the worker
    restarts. Only code that never lets go of the interpreter cannot be stopped.
    """

    def __init__(self, metrics: Iterable[Metric] = (), *, new_thread: Callable[[], Thread] | None = None) -> None:
        self.metrics = tuple(metrics)
        """For whoever watches their values."""
        self._new_thread = new_thread or Thread
        self._late: dict[str, int] = {}
        self._thread: Thread | None = None

    @classmethod
    def load(cls, names: Iterable[str]) -> PlugIns:
        """Import the metrics that the setting `quality_plugins` names, each as "module:attribute".

        Raises BadSettings where there is none, where it is not a `Metric`, or where its name is taken.
        """
        seen = {metric.name for metric in METRICS} | {"instructions", "overall"}
        metrics = [_import(name) for name in names]
        for metric in metrics:
            if metric.name in seen:
                raise BadSettings(f"quality_plugins: expected a new name, got another metric called {metric.name!r}")
            seen.add(metric.name)
        return cls(metrics)

    def measure(self, subject: Subject, *, job: str) -> dict[str, Value]:
        """Return the value of each plug-in by name; None where it does not apply, failed, or is switched off."""
        return {metric.name: self._measure(metric, subject, job) for metric in self.metrics}

    def _measure(self, metric: Metric, subject: Subject, job: str) -> Value:
        if self._late.get(metric.name, 0) >= _MAX_LATE:
            return None
        self._thread = self._thread or self._new_thread()
        try:
            value = _checked(metric, self._thread.call(lambda: metric.of(subject)))
        except Empty:
            self._thread.leave()
            self._thread = None
            late = self._late[metric.name] = self._late.get(metric.name, 0) + 1
            structlog.get_logger().error(events.METRIC_LATE, job=job, metric=metric.name, off=late >= _MAX_LATE)
            return None
        except Exception as error:  # noqa: BLE001 - somebody else's code; the answer was paid for (I6)
            structlog.get_logger().error(
                events.METRIC_FAILED, job=job, metric=metric.name, error=type(error).__name__, where=where(error)
            )
            value = None
        self._late.pop(metric.name, None)
        return value


class Thread:
    """Calls one function after the other in a thread that nobody has to wait for."""

    def __init__(self, patience: timedelta = PATIENCE) -> None:
        self._patience = patience
        self._asked: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._said: SimpleQueue[tuple[Any, Exception | None]] = SimpleQueue()
        threading.Thread(target=self._serve, name="quality-plug-ins", daemon=True).start()

    def call(self, function: Callable[[], Any]) -> Any:
        """Return or raise what the function does; raise `queue.Empty` when it takes too long."""
        self._asked.put(function)
        value, error = self._said.get(timeout=self._patience.total_seconds())
        if error is not None:
            raise error
        return value

    def leave(self) -> None:
        """End the thread as soon as it comes back."""
        self._asked.put(None)

    def _serve(self) -> None:
        while (function := self._asked.get()) is not None:
            try:
                self._said.put((function(), None))
            except BaseException as error:  # noqa: BLE001 - also `exit()`: it must not end the thread unheard
                self._said.put((None, error if isinstance(error, Exception) else RuntimeError(type(error).__name__)))


def _import(name: str) -> Metric:
    module_name, _, attribute = name.partition(":")
    try:
        metric = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # noqa: BLE001 - a module runs whatever it likes
        raise BadSettings(f"quality_plugins: cannot import {name}: {type(error).__name__}: {error}") from None
    if not isinstance(metric, Metric):
        raise BadSettings(f"quality_plugins: expected a worker.quality.Metric at {name}, got {type(metric).__name__}")
    return metric


def _checked(metric: Metric, value: Any) -> Value:
    """Return a value that the metric's kind has, as a type that JSON has. Raises TypeError or ValueError."""
    if value is None:
        return None
    if metric.kind == "flag":
        if not isinstance(value, bool):
            raise TypeError(metric.kind)
        return value
    number = float(value)
    if not 0 <= number <= (1 if metric.kind == "score" else math.inf) or math.isinf(number):
        raise ValueError(metric.kind)
    return number
