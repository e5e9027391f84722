"""Weighted GCRA, pure: the arithmetic of lua/_budget.lua, _seen.lua and observe.lua with the time handed in.

A bucket holds at most `burst` units and is refilled continuously at `rate` units a minute. Its whole state is one
number, the theoretical arrival time (TAT): when it will be full again. What the provider's own bucket holds is reckoned
from its answers. A test compares this with the scripts, step by step.
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

START_SHARE: Final = 0.25
"""What a budget begins with of its rate after a rest of REST_MS."""
REST_MS: Final = 60_000
STEEP_MEMORY_MS: Final = 86_400_000
"""For so long a budget that rose too fast for the provider starts no faster than it came back then."""

LEAST_DEPTH: Final = {"requests": 4, "input": 4_000, "output": 4_000}
"""Of the provider's bucket: a shallower one drowns in the rounding of its headers."""
ROUNDED: Final = {"requests": 0, "input": 500, "output": 500}
"""How much too high a remainder may be stated."""
LEAST_FACTOR: Final = 0.05
AMPLE_MS: Final = 5_000
SPARE: Final = 0.01
"""Headroom that is given up where the provider's bucket is known to be as deep as AMPLE_MS of its limit."""
LATE_MS: Final = 500
"""A worker that wakes up so much too late makes up for it where the provider's bucket is that deep."""
SHALLOW: Final = 1.5
"""Requests left after one of them: the provider's bucket holds no more than two."""
JITTER_MS: Final = 50
JITTER: Final = 0.05
"""How much further apart they are then kept, since on their way one may come nearer to the other; at most a share."""
HALF_LIFE_MS: Final = 3_600_000
"""Of a depth that is not seen again."""
AHEAD_MS: Final = 10_000
"""So far what is urgent may run ahead of the pace."""
WINDOW_MS: Final = 10_000
"""Over which use by others is measured."""
WEIGHT: Final = 0.2
"""Of the newest measurement in the estimate: answers are charged here at once, there while they are generated."""
NOBODY: Final = 0.02
"""A share of the limit that a full bucket hides at most where nobody else drinks from it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request is expected to use up, in each dimension."""

    requests: int = 1
    input: int = 0
    output: int = 0


@dataclass(frozen=True, slots=True)
class Charge:
    """When a budget was charged for a request (ms on Redis' clock), and all that had been spent from it by then."""

    at: float
    spent: Cost


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer says of one dimension: the limit, in units a minute, and what was left just after its request."""

    limit: int | None = None
    remaining: int | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """One dimension: `rate` units a minute, at most `burst` at once."""

    rate: float
    burst: float
    limit: float = 0
    """What the rate was taken from, by leaving some of it unused; 0: none was left."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", self.limit or self.rate)

    def scaled(self, dimension: str, by: float) -> Pace:
        """Return the pace under a limit that is `by` times as high; its burst keeps its length in time."""
        burst = 1 + (self.burst - 1) * by if dimension == "requests" else max(1.0, self.burst * by)
        return Pace(self.rate * by, burst, self.limit)

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
        "requests": Pace(request_rate, 1 + request_rate * (request_burst / minute), limits.requests),
        "input": Pace(input_rate, max(1.0, input_rate * (token_burst / minute)), limits.input_tokens),
        "output": Pace(output_rate, max(1.0, output_rate * (token_burst / minute)), limits.output_tokens),
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

    def withheld(self, now: float) -> float:
        """Return the time (ms) at the whole rate that is still lost until the share has grown."""
        share = self.at(now)
        return (1 - share) ** 2 * MS_PER_MINUTE / (2 * self.growth) if share < 1 else 0.0


@dataclass(frozen=True, slots=True)
class Bucket:
    """The provider's bucket in one dimension, as its answers tell of it; None: nobody knows."""

    limit: float | None = None
    left: float | None = None
    """Just after the newest request that was answered."""
    mark: float = 0
    """All that we had spent by then."""
    depth: float | None = None
    """The most that it was seen to hold."""
    others: float | None = None
    """Share of the limit that others of the same account take."""
    since: tuple[float, float, float] | None = None
    """When, with how much left, and with how much spent the next estimate of that share began."""

    def relimited(self, limit: float, before: float) -> Bucket:
        """Return the bucket of an account whose limit was `before`: its depth keeps its length in time."""
        if limit == before:
            return replace(self, limit=limit)
        depth = None if self.depth is None else self.depth * limit / before
        return replace(self, limit=limit, depth=depth, since=None)

    def told(self, left: float, spent: float, at: float, *, limit: float, age_ms: float) -> Bucket:
        """Return the bucket after an answer to a request of `at`, `age_ms` after the one before."""
        depth = left if self.depth is None else self.depth
        depth = max(left, left + (depth - left) * 0.5 ** (age_ms / HALF_LIFE_MS))
        told = replace(self, left=left, mark=spent, depth=depth)
        if self.since is None:
            return replace(told, since=(at, left, spent))
        began, first, spent_first = self.since
        if at - began < WINDOW_MS:
            return told
        # What came in and neither was charged by us nor is left went to others, or ran over: so it tells only where the
        # bucket could not have become full by what came in.
        came, ours = limit * (at - began) / MS_PER_MINUTE, spent - spent_first
        share = (came - ours - (left - first)) / came
        bounded = min(first, left) > 0 and first + came - ours <= depth
        known = bounded or abs(share) <= NOBODY
        mean = share if self.others is None else self.others + WEIGHT * (share - self.others)
        return replace(told, since=(at, left, spent), others=max(0.0, min(1.0, mean)) if known else None)


def _unknown() -> dict[str, Bucket]:
    return dict.fromkeys(DIMENSIONS, Bucket())


@dataclass(frozen=True, slots=True)
class Budget:
    """The state of one model class: its paces, and the TAT of each dimension in ms."""

    paces: Mapping[str, Pace]
    tats: Mapping[str, float] = field(default_factory=dict)
    blocked_until: float = 0
    ramp: Ramp = Ramp()
    slowed_at: float = 0
    warm_up: float = 0
    """How long (ms) a budget that has rested takes to its whole rate."""
    charged_at: float = 0
    steep_at: float | None = None
    """When the provider last found that use rose too fast."""
    spent: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(DIMENSIONS, 0))
    """All that was ever charged, corrected by what was really used."""
    buckets: Mapping[str, Bucket] = field(default_factory=_unknown)
    seen_at: float = 0
    """When the newest request was charged whose answer told of the provider's buckets."""
    pinned: bool = False
    """Whether the owner's limits hold whatever the provider says."""

    @classmethod
    def empty(cls, of: Mapping[str, Pace], now: float, *, warm_up: float = 0, pinned: bool = False) -> Budget:
        """Return a budget that has just spent everything: what one starts with that nobody remembers."""
        tats = {d: now + pace.burst * pace.ms_per_unit for d, pace in of.items()}
        return cls(of, tats, warm_up=warm_up, pinned=pinned)

    def admissible_at(self, cost: Cost, now: float, *, urgent: bool = False) -> float:
        """Return when a request of this cost may be sent (ms); not later than `now` means at once.

        A cost above the burst goes on a full bucket and leaves a debt. What is urgent passes a debt of tokens as far as
        the provider's bucket has them to spare.
        """
        at = self.blocked_until
        for d, pace in self.paces.items():
            units, burst = getattr(cost, d), self.burst_at(d, now)
            due = max(self.tats[d], now) + (min(units, burst) - burst) * pace.ms_per_unit
            if urgent and due > now and d in TOKENS and self.ramp.at(now) == 1:
                due = min(due, max(due - AHEAD_MS, self.spare_at(d, units, now)))
            at = max(at, due)
        return at

    def charge(self, cost: Cost, now: float) -> Budget:
        """Return the budget after a request of this cost was admitted."""
        ramp = self._ramp_at(now)
        tats, spent = dict(self.tats), dict(self.spent)
        for d in self.paces:
            rate, kept, behind = self.pace_at(d, now)
            takes = getattr(cost, d) * MS_PER_MINUTE / rate
            slowed = min(takes / (ramp.at(now) * kept), takes + ramp.withheld(now) + behind)
            tats[d] = max(tats[d], now) + slowed
            spent[d] += getattr(cost, d)
        return replace(self, tats=tats, spent=spent, ramp=ramp, charged_at=now)

    def _ramp_at(self, now: float) -> Ramp:
        """Return the ramp on which a request goes: a new one after a rest."""
        growth = self.start_growth(now)
        if growth is None or now - self.charged_at < REST_MS or self.ramp.at(now) < 1:
            return self.ramp
        return Ramp(now, START_SHARE, growth)

    def start_growth(self, now: float) -> float | None:
        """Return how fast, of its rate a minute, the budget may come to its whole rate; None: at once."""
        if not self.warm_up:
            return None
        growth = (1 - START_SHARE) * MS_PER_MINUTE / self.warm_up
        is_steep = self.steep_at is not None and now - self.steep_at < STEEP_MEMORY_MS
        return min(growth, GROWTH["ramp_limited"]) if is_steep else growth

    def limit_of(self, d: str) -> float:
        """Return the limit as the provider says, or else as it was set."""
        said = self.buckets[d].limit
        return self.paces[d].limit if said is None else said

    def level_at(self, d: str, now: float) -> float | None:
        """Return what the provider's bucket holds: the newest answer, what came in since, less what we charged since.

        None where nobody knows: while a bucket could have been filled twice others may have done anything.
        """
        bucket, per_ms, age = self.buckets[d], self.limit_of(d) / MS_PER_MINUTE, now - self.seen_at
        if bucket.left is None or bucket.depth is None or bucket.depth < LEAST_DEPTH[d]:
            return None
        if age * per_ms > 2 * bucket.depth:
            return None
        return min(bucket.depth, bucket.left + age * per_ms - (self.spent[d] - bucket.mark))

    def is_ample(self, d: str) -> bool:
        """Return whether the provider's bucket is so deep that it forgives a pace which is off by a little."""
        depth = self.buckets[d].depth
        return depth is not None and depth * MS_PER_MINUTE / self.limit_of(d) >= AMPLE_MS

    def spare_at(self, d: str, units: float, now: float) -> float:
        """Return when the provider's bucket is sure to be half full still after so many units, inf: never."""
        level, half, per_ms = self.level_at(d, now), (self.buckets[d].depth or 0) / 2, self.limit_of(d) / MS_PER_MINUTE
        if level is None or not self.is_ample(d) or (now - self.seen_at) * per_ms > half:
            return math.inf
        return now + max(0.0, half + units - level) / per_ms

    def is_shallow(self, d: str) -> bool:
        """Return whether the provider's bucket holds no more than two requests."""
        depth = self.buckets[d].depth
        return d == "requests" and depth is not None and depth < SHALLOW

    def burst_at(self, d: str, now: float) -> float:
        """Return how many units may go at once."""
        pace, bucket = self.paces[d], self.buckets[d]
        if d != "requests":
            return pace.burst
        if self.is_shallow(d):
            return 1
        level = self.level_at(d, now)
        if level is None or bucket.depth is None or level < bucket.depth / 2 or not self.is_ample(d):
            return pace.burst
        return max(pace.burst, 1 + pace.rate * LATE_MS / MS_PER_MINUTE)

    def pace_at(self, d: str, now: float) -> tuple[float, float, float]:
        """Return the rate, the share of it that is kept to, and how far (ms) the bucket is below its half.

        Below half of its depth something else takes from the bucket too. Where it is deep, this holds the pace, and
        headroom need not.
        """
        level, rate, half = self.level_at(d, now), self.paces[d].rate, (self.buckets[d].depth or 0) / 2
        if self.is_shallow(d):
            rate /= 1 + min(JITTER_MS * rate / MS_PER_MINUTE, JITTER)
        if level is None:
            return rate, 1.0, 0.0
        limit = self.limit_of(d)
        if self.is_ample(d):
            rate = max(rate, min(self.paces[d].limit if self.pinned else limit, rate / (1 - SPARE)))
        return rate, max(LEAST_FACTOR, min(1.0, level / half)), max(0.0, half - level) * MS_PER_MINUTE / limit

    def observe(self, charge: Charge, readings: Mapping[str, Reading], now: float) -> Budget:
        """Return the budget after an answer told of the provider's buckets; one to an older request changes nothing."""
        if not self.seen_at < charge.at <= now or charge.spent.requests > self.spent["requests"]:
            return self
        of, buckets = dict(self.paces), dict(self.buckets)
        age_ms = charge.at - (self.seen_at or charge.at)
        for d, reading in readings.items():
            limit = self.limit_of(d)
            if reading.limit is not None:
                buckets[d] = buckets[d].relimited(reading.limit, limit)
                if not self.pinned:
                    of[d] = of[d].scaled(d, reading.limit / limit)
                limit = reading.limit
            if reading.remaining is None:
                buckets[d] = replace(buckets[d], left=None)
                continue
            left = min(max(0, reading.remaining - ROUNDED[d]), limit)
            buckets[d] = buckets[d].told(left, getattr(charge.spent, d), charge.at, limit=limit, age_ms=age_ms)
        return replace(self, paces=of, buckets=buckets, seen_at=charge.at)

    def block(self, reason: str, now: float, until: float, *, charged_at: float) -> Budget:
        """Return the budget after it was told to rest, for a request that was charged at `charged_at`.

        A shorter block never cuts a longer one. What was under way at the last slow-down halves nothing.
        """
        if until <= self.blocked_until:
            return self
        blocked = replace(self, blocked_until=until)
        if reason not in GROWTH:
            return blocked
        if reason == "ramp_limited":
            blocked = replace(blocked, steep_at=now)
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
        tats, spent = dict(self.tats), dict(self.spent)
        for d in TOKENS:
            difference = getattr(used, d) - getattr(reserved, d)
            tats[d] += difference * self.paces[d].ms_per_unit
            spent[d] += difference
        return replace(self, tats=tats, spent=spent)
