"""What leaves the worker for those who watch it: Prometheus metrics."""

from worker.telemetry.exposition import exposition
from worker.telemetry.meters import Meters, NoMeters, make_meters

__all__ = ["Meters", "NoMeters", "exposition", "make_meters"]
