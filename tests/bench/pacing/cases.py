"""Every row of the benchmark as data: an account, what is asked of it, and what is to be reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from promptmill.testing.simulator.budget import Dimension
from promptmill.testing.simulator.config import ForeignLoad, Limits

_MINUTE = timedelta(minutes=1)


class Prompts(StrEnum):
    """What is asked; see `prompts`."""

    SHORT = "short"
    """Short prompts, short answers."""
    ESSAYS = "essays"
    """Short prompts, answers of 500 tokens on average with a heavy tail."""
    ANY_SIZE = "any size"
    """Prompts of 50 to 50,000 tokens, every order of magnitude as often, short answers."""


@dataclass(frozen=True)
class Aim:
    """What ours is to reach. What is None is not judged."""

    use: float | None = 0.99
    early_use: float | None = None
    refused: int = 0
    """Most 429s, from the first request to the last."""
    slots: float | None = None
    """P99 of what interactive jobs wait, in slots."""
    calls: float | None = None
    """Claims for each grant."""
    cores: float | None = None
    """CPU seconds of Redis in a second."""
    starved: int | None = None
    """Jobs that were passed over."""


@dataclass(frozen=True)
class Change:
    """The account gets other limits under way."""

    at: timedelta
    limits: Limits


@dataclass(frozen=True)
class Case:
    """One comparison. Times count from the first request that reaches the simulator."""

    name: str
    title: str
    batch: str
    """Cases of one batch run side by side."""
    limits: Limits
    """What the account really may; None in a dimension: no limit."""
    aim: Aim = Aim()
    told: Limits | None = None
    """What the pacers are told; None: the truth."""
    bound_by: Dimension = Dimension.REQUESTS
    """The dimension whose use is measured."""
    processes: int = 4
    connections: int | None = None
    """Workers with a connection of their own, in so many processes; None: each process is a worker."""
    prompts: Prompts = Prompts.SHORT
    others: ForeignLoad | None = None
    change: Change | None = None
    interactive: bool = False
    """Whether somebody waits at a screen, while everything else is overnight work."""
    waiting: int = 2_000
    """Jobs in the queue when it begins: the budget is what is scarce."""
    warm_up: timedelta = timedelta(seconds=10)
    """What happens before is not counted as use; a full bucket's first depth is therefore counted for nobody."""
    window: timedelta = timedelta(seconds=60)
    """A whole number of minutes, since some pacers go by the minute."""
    heavy: bool = False
    """Whether each system has the machine to itself."""
    virtual: timedelta | None = None
    """Also shown on a virtual clock, for so long."""

    @property
    def told_limits(self) -> Limits:
        """What the pacers are told."""
        return self.told or self.limits

    @property
    def judged_limits(self) -> Limits:
        """What the account may at the end."""
        return self.limits if self.change is None else self.change.limits

    @property
    def judged_per_minute(self) -> int:
        """Units a minute of the dimension that is measured."""
        limits = self.judged_limits
        per_minute = {
            Dimension.REQUESTS: limits.rpm,
            Dimension.INPUT_TOKENS: limits.itpm,
            Dimension.OUTPUT_TOKENS: limits.otpm,
        }[self.bound_by]
        assert per_minute is not None
        return per_minute

    @property
    def slot(self) -> timedelta:
        """How long one request's worth of the request limit takes to come back."""
        assert self.limits.rpm is not None
        return timedelta(minutes=1) / self.limits.rpm


def _limits(rpm: int | None = None, *, depth: float, itpm: int | None = None, otpm: int | None = None) -> Limits:
    return Limits(rpm=rpm, itpm=itpm, otpm=otpm, depth=timedelta(seconds=depth))


def _evenly_spaced() -> Iterator[Case]:
    """Yield the first rows: nothing but requests, from few and many processes, into deep and shallow buckets."""
    for processes in (1, 4, 8):
        for depth in (60, 2, 1):
            yield Case(
                name=f"600-{processes}p-{depth}s",
                title=f"600 RPM, {_counted(processes)}, bucket {depth} s deep",
                batch=f"600-{processes}p",
                limits=_limits(600, depth=depth),
                processes=processes,
                aim=Aim(calls=1.5 if processes == 8 else None),
                virtual=5 * _MINUTE,
            )
    for depth in (60, 2):
        yield Case(
            name=f"50-{depth}s",
            title=f"50 RPM, 4 processes, bucket {depth} s deep",
            batch="slow",
            limits=_limits(50, depth=depth),
            window=3 * _MINUTE,
            virtual=30 * _MINUTE,
        )
    yield Case(
        name="10000-1s",
        title="10,000 RPM, 4 processes, bucket 1 s deep",
        batch="10000",
        limits=_limits(10_000, depth=1),
        waiting=20_000,
        heavy=True,
        virtual=_MINUTE,
    )


def _counted(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


_TEN_SECONDS_DEEP = _limits(600, depth=10)

CASES: tuple[Case, ...] = (
    *_evenly_spaced(),
    Case(
        name="output",
        title="80k OTPM, heavy-tailed answers, mean 500, max_tokens 4,096",
        batch="slow",
        limits=_limits(10_000, itpm=10**9, otpm=80_000, depth=60),
        aim=Aim(use=0.97, early_use=0.90),
        bound_by=Dimension.OUTPUT_TOKENS,
        prompts=Prompts.ESSAYS,
        warm_up=_MINUTE,
        window=3 * _MINUTE,
        virtual=30 * _MINUTE,
    ),
    Case(
        name="input",
        title="500k ITPM, prompts of 50 to 50,000 tokens",
        batch="slow",
        limits=_limits(10_000, itpm=500_000, otpm=10**9, depth=60),
        aim=Aim(use=0.97, starved=0),
        bound_by=Dimension.INPUT_TOKENS,
        prompts=Prompts.ANY_SIZE,
        waiting=800,
        warm_up=_MINUTE,
        window=3 * _MINUTE,
        virtual=30 * _MINUTE,
    ),
    Case(
        name="others",
        title="others use 20 % (total use)",
        batch="others",
        limits=_TEN_SECONDS_DEEP,
        aim=Aim(use=0.97, refused=3),
        others=ForeignLoad(share=0.2),
        warm_up=_MINUTE,
        window=3 * _MINUTE,
        virtual=10 * _MINUTE,
    ),
    Case(
        name="others-wave",
        title="others use 0 and 40 % in turns, a minute each (total use)",
        batch="others",
        limits=_TEN_SECONDS_DEEP,
        aim=Aim(use=0.97, refused=3),
        others=ForeignLoad(share=0.4, period=2 * _MINUTE),
        warm_up=_MINUTE,
        window=2 * _MINUTE,
        virtual=10 * _MINUTE,
    ),
    Case(
        name="told-double",
        title="setting twice the true limit (from 30 s on)",
        batch="wrong",
        limits=_TEN_SECONDS_DEEP,
        told=_limits(1_200, depth=10),
        aim=Aim(use=0.97, refused=5),
        warm_up=_MINUTE / 2,
        virtual=5 * _MINUTE,
    ),
    Case(
        name="told-half",
        title="setting half the true limit (from 30 s on)",
        batch="wrong",
        limits=_TEN_SECONDS_DEEP,
        told=_limits(300, depth=10),
        aim=Aim(use=0.97, refused=5),
        warm_up=_MINUTE / 2,
        virtual=5 * _MINUTE,
    ),
    Case(
        name="halved",
        title="limit halved in flight (from 30 s after it on)",
        batch="wrong",
        limits=_TEN_SECONDS_DEEP,
        change=Change(_MINUTE / 2, _limits(300, depth=10)),
        aim=Aim(use=0.97, refused=5),
        warm_up=_MINUTE,
        virtual=5 * _MINUTE,
    ),
    Case(
        name="lanes",
        title="100,000 overnight jobs waiting, interactive ones arriving",
        batch="slow",
        limits=_limits(600, depth=2),
        aim=Aim(slots=1.5),
        interactive=True,
        waiting=100_000,
        window=2 * _MINUTE,
    ),
    Case(
        name="200-workers",
        title="200 workers on one budget of 10,000 RPM, bucket 2 s deep",
        batch="200-workers",
        limits=_limits(10_000, depth=2),
        aim=Aim(cores=0.25),
        connections=200,
        waiting=20_000,
        heavy=True,
    ),
    # The finish predicted after a tenth of a run is measured in simulated hours alone: test_virtual_foresight.py.
)
