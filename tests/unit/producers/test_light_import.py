"""A web app that imports `producers` must not pay for what only workers and the command line need."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {
    "aiohttp",
    "aiosqlite",
    "alembic",
    "anthropic",
    "arq",
    "asyncpg",
    "click",
    "genai_prices",
    "rich",
    "sqlalchemy",
    "structlog",
    "worker",
}


def imported_by(statement: str) -> set[str]:
    program = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(answer.stdout))


def test_importing_producers_brings_nothing_heavy():
    modules = imported_by("import producers")
    assert modules & HEAVY == set()
    assert not {name for name in modules if name.startswith(("promptmill.store", "producers.runs", "producers.cli."))}


def test_making_a_client_brings_nothing_heavy():
    modules = imported_by("import producers; producers.Client('redis://localhost')")
    assert modules & HEAVY == set()


def test_the_test_can_fail():
    assert "rich" in imported_by("import producers.progress") & HEAVY
