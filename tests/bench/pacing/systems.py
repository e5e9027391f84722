"""What a system under test is to the one who measures it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from tests.bench.pacing.cases import Case

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Tally:
    """What a system knows of itself once it has stopped."""

    lost: int = 0
    """Jobs that ended without an answer, or are nowhere to be found."""
    waits: list[tuple[float, float | None]] = field(default_factory=list)
    """For each interactive job when it was asked (`time.monotonic`), and how long it took until its request was sent
    that was answered (s); None: until the end it was not."""
    passed_over: int | None = None
    """Jobs that were not answered although later ones were."""


class System(Protocol):
    """A system that drains prompts into a simulator. What it starts is stopped by the stack it was given."""

    redis_url: str | None
    """The Redis that it paces with; known once it was started."""

    async def start(self) -> None:
        """Begin to send."""

    async def finish(self) -> Tally:
        """Stop sending."""


class MakeSystem(Protocol):
    """Makes a system for a case, a simulator's URL and a folder of its own."""

    def __call__(self, case: Case, base_url: str, folder: Path, stack: contextlib.ExitStack) -> System: ...


async def entered(stack: contextlib.ExitStack, context: contextlib.AbstractContextManager[T]) -> T:
    """Enter a context that blocks, beside others. Whoever is cancelled waits for it: the stack must know of it."""
    return await to_the_end(stack.enter_context, context)


async def to_the_end(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call what blocks in a thread, and wait for it even when cancelled."""
    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise
