"""Weighted GCRA, pure: the arithmetic of lua/_budget.lua with the time handed in.

A bucket holds at most `burst` units and is refilled continuously at `rate` units a minute. Its whole state is one
number, the theoretical arrival time (TAT): when it will be full again. A test compares this with the script, step by
step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from promptmill.models import Limits

TOKENS: Final = ("input", "output")
DIMENSIONS: Final = ("requests", *TOKENS)
MS_PER_MINUTE: Final = 60_000

GROWTH: Final = {"rate_limited": 1.0, "ramp_limited": 0.1}
"""What a budget regains of its rate in a minute after the provider refused a request, by the refusal's name: from half
to all of it in 30 s, or slowly where the provider found that use rose too fast."""
LEAST_SHARE: Final = 1 / 16
"""Below this no further refusal slows a budget down: its pauses do the rest."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request is expected to use up, in each dimension."""

    requests: int = 1
    input: int = 0
    output: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """One dimension: `rate` units a minute, at most `burst` at once."""

    rate: float
    burst: float

    @property
    def ms_per_unit(self) -> float:
        """Time that one unit takes to come back."""
        return MS_PER_MINUTE / self.rate


def paces(limits: Limits, *, headroom: float, request_burst: timedelta, token_burst: timedelta) -> dict[str, Pace]:
    """Return the pace of each dimension under `limits`, less `headroom` (a share of each limit)."""
    request_rate = limits.requests * (1 - headroom)
    input_rate = limits.input_tokens * (1 - headroom)
    output_rate = limits.output_tokens * (1 - headroom)
    minute = timedelta(minutes=1)
    return {
        "requests": Pace(request_rate, 1 + request_rate * (request_burst / minute)),
        "input": Pace(input_rate, max(1.0, input_rate * (token_burst / minute))),
        "output": Pace(output_rate, max(1.0, output_rate * (token_burst / minute))),
    }


@dataclass(frozen=True, slots=True)
class Ramp:
    """How a budget comes back to its rate: from `begins` (ms) on at `share` of it, plus `growth` a minute."""

    begins: float = 0
    share: float = 1
    growth: float = 0

    def at(self, now: float) -> float:
        """Return the share of the rate at which the budget goes at `now`."""
        return min(1.0, self.share + self.growth * max(0.0, now - self.begins) / MS_PER_MINUTE)


@dataclass(frozen=True, slots=True)
class Budget:
    """The state of one model class: its paces, and the TAT of each dimension in ms."""

    paces: Mapping[str, Pace]
    tats: Mapping[str, float] = field(default_factory=dict)
    blocked_until: float = 0
    ramp: Ramp = Ramp()
    slowed_at: float = 0

    @classmethod
    def empty(cls, of: Mapping[str, Pace], now: float) -> Budget:
        """Return a budget that has just spent everything: what one starts with that nobody remembers."""
        return cls(of, {d: now + pace.burst * pace.ms_per_unit for d, pace in of.items()})

    def admissible_at(self, cost: Cost, now: float) -> float:
        """Return when a request of this cost may be sent (ms); not later than `now` means at once.

        A cost above the burst goes on a full bucket and leaves a debt.
        """
        at = self.blocked_until
        for d, pace in self.paces.items():
            units = min(getattr(cost, d), pace.burst)
            at = max(at, max(self.tats[d], now) + (units - pace.burst) * pace.ms_per_unit)
        return at

    def charge(self, cost: Cost, now: float) -> Budget:
        """Return the budget after a request of this cost was admitted."""
        share = self.ramp.at(now)
        tats = {
            d: max(self.tats[d], now) + getattr(cost, d) * pace.ms_per_unit / share for d, pace in self.paces.items()
        }
        return replace(self, tats=tats)

    def block(self, reason: str, now: float, until: float, *, charged_at: float) -> Budget:
        """Return the budget after it was told to rest, for a request that was charged at `charged_at`.

        A shorter block never cuts a longer one. What was under way at the last slow-down halves nothing.
        """
        if until <= self.blocked_until:
            return self
        blocked = replace(self, blocked_until=until)
        if reason not in GROWTH:
            return blocked
        share, growth = self.ramp.at(now), GROWTH[reason]
        if share < 1:
            growth = min(growth, self.ramp.growth)
        if charged_at <= self.slowed_at:
            return replace(blocked, ramp=Ramp(until, share, growth))
        slower = Ramp(until, max(share / 2, min(share, LEAST_SHARE)), growth)
        return replace(blocked, ramp=slower, slowed_at=math.ceil(now))

    def reconcile(self, reserved: Cost, used: Cost) -> Budget:
        """Return the budget after the tokens that were reserved turned out to be `used`; the request stays charged.

        A refund cannot overfill the bucket: a TAT in the past counts as now.
        """
        tats = dict(self.tats)
        for d in TOKENS:
            tats[d] += (getattr(used, d) - getattr(reserved, d)) * self.paces[d].ms_per_unit
        return replace(self, tats=tats)
