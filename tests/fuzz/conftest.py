"""Untrusted input (I8), tens of thousands of cases: each ends in a clear error of its own, or well; never in a crash,
and never at the cost of what stands beside it. `make soak` tries twenty times as many."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.support.workers import Workshop, workshop


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """No setting or key of whoever runs the tests is seen."""
    for name in os.environ:
        if name.startswith(("PROMPTMILL_", "ANTHROPIC_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One event loop for all cases of a module: to make one takes longer than a case."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def shop(loop, tmp_path_factory) -> Iterator[Workshop]:
    """A worker's parts, for all cases of a module."""
    made = workshop(tmp_path_factory.mktemp("shop"))
    yield loop.run(made.__aenter__())
    loop.run(made.__aexit__(None, None, None))
