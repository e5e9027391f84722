"""Where Prometheus scrapes: one address for a whole supervisor with its worker processes.

The processes count into files of one directory (prometheus_client's own way), and whoever started them adds the files
up; a process that died keeps its counts there, so that no counter ever falls.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

import structlog

from promptmill.errors import BadSettings, MissingExtra
from promptmill.settings import Settings
from worker import events

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


@contextlib.contextmanager
def exposition(settings: Settings) -> Iterator[None]:
    """Serve the metrics of this process and of those that it will start, at `metrics_address`.

    Serves nothing where that is unset. Must be entered before anything is counted here and before other
    processes start. Raises BadSettings where the address cannot be had, MissingExtra where prometheus_client is not
    installed.
    """
    if settings.metrics_address is None:
        yield
        return
    host, _, port = settings.metrics_address.rpartition(":")
    with tempfile.TemporaryDirectory(prefix="promptmill-metrics-", ignore_cleanup_errors=True) as directory:
        os.environ[_DIRECTORY] = directory
        try:
            from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - an extra
            from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415
        except ImportError:
            raise MissingExtra("metrics_address", "prometheus") from None
        registry = CollectorRegistry()
        MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
        try:
            server, thread = start_http_server(int(port), host, registry)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadSettings(f"metrics_address: cannot listen on {settings.metrics_address}: {reason}") from None
        address = f"http://{host}:{server.server_port}/metrics"
        structlog.get_logger().info(events.METRICS_SERVED, address=address)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
            del os.environ[_DIRECTORY]
