"""What is logged must never be what ends a job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_full_disk_under_the_log_costs_lines_and_stops_nothing(log_format: str) -> None:
    code = (
        "import structlog; from promptmill.settings import Settings; from worker.logs import configure_logs\n"
        f"configure_logs(Settings.load(environ={{}}, log_format={log_format!r}))\n"
        "for _ in range(1_000): structlog.get_logger().error('store_away', error='the disk is full')\n"
        "print('went on')"
    )
    with FULL.open("wb") as full:
        run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, check=True)
    assert run.stdout == b"went on\n"
