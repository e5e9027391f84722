"""A simulator of the Claude Messages API, to be run on loopback.

    async with Simulator(SimulatorConfig(limits=Limits(rpm=600, burst=10))) as simulator:
        client = AsyncAnthropic(api_key="any", base_url=simulator.base_url, max_retries=0)

or as a process of its own: `python -m promptmill.testing.simulator --port 8010 --tier start`.

It keeps real token buckets, sends the real headers, streams, takes time, and goes wrong in every way of `FAULTS`:
by rule (`FaultRule`), or because a prompt says so (`[[fault:overloaded_error*2]]`: on its first two arrivals).
The same request gets the same answer for the same seed.

What it does not do: understand anything, run server tools, offer Message Batches or Files, limit the growth of
use (only on demand, as a fault), or forgive an answer whose client has gone: it is billed in full.
"""

from typing import TYPE_CHECKING, Any

from promptmill.testing.simulator.clock import Clock, ManualClock, SystemClock
from promptmill.testing.simulator.config import (
    TIERS,
    Answers,
    Control,
    FaultRule,
    ForeignLoad,
    Latency,
    Limits,
    SimulatorConfig,
)
from promptmill.testing.simulator.faults import FAULTS, Fault
from promptmill.testing.simulator.models import CATALOGUE, ModelClass

if TYPE_CHECKING:
    from promptmill.testing.simulator.simulator import Simulator
    from promptmill.testing.simulator.stats import StatsSnapshot

__all__ = [
    "CATALOGUE",
    "FAULTS",
    "TIERS",
    "Answers",
    "Clock",
    "Control",
    "Fault",
    "FaultRule",
    "ForeignLoad",
    "Latency",
    "Limits",
    "ManualClock",
    "ModelClass",
    "Simulator",
    "SimulatorConfig",
    "StatsSnapshot",
    "SystemClock",
]


def __getattr__(name: str) -> Any:
    # The server needs aiohttp, an extra. The command line must be able to mount `simulate` without it.
    if name == "Simulator":
        from promptmill.testing.simulator.simulator import Simulator  # noqa: PLC0415

        return Simulator
    if name == "StatsSnapshot":
        from promptmill.testing.simulator.stats import StatsSnapshot  # noqa: PLC0415

        return StatsSnapshot
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
