"""What leaves the worker for those who watch it: Prometheus metrics, OpenTelemetry traces."""

from worker.telemetry.exposition import exposition
from worker.telemetry.meters import Meters, NoMeters, make_meters
from worker.telemetry.traces import span_of_job, span_of_request, start_exporting, tell_attempt

__all__ = [
    "Meters",
    "NoMeters",
    "exposition",
    "make_meters",
    "span_of_job",
    "span_of_request",
    "start_exporting",
    "tell_attempt",
]
