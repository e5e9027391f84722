"""A token bucket in exact integers.

Levels are kept in units of 1/`MINUTE_NS` token: a limit of L tokens a minute then refills exactly L units
a nanosecond, so nothing is ever rounded and "never more than r*t + b" holds without a tolerance.

Time is given to every method and must not run backwards between calls.
"""

import heapq
from dataclasses import dataclass
from fractions import Fraction

from promptmill.testing.simulator.clock import MINUTE_NS


@dataclass(frozen=True, slots=True)
class ForeignDrain:
    """Somebody else's use of the same bucket: a steady share, or a square wave that begins with load.

    Like every caller it gets nothing from an empty bucket.
    """

    share: Fraction
    """Of the limit, above 0; more than 1 is somebody who asks for more than there is."""
    period_ns: int | None = None
    """Length of one wave, half of it with load and half without; None: always load."""
    start_ns: int = 0
    """When the first wave begins."""

    def rate_at(self, now_ns: int, per_minute: int) -> int:
        """Units a nanosecond asked for at `now_ns`."""
        if self.period_ns is not None and self._phase(now_ns) >= self.period_ns // 2:
            return 0
        return int(self.share * per_minute)

    def next_change(self, now_ns: int) -> int | None:
        """When `rate_at` next changes, strictly after `now_ns`."""
        if self.period_ns is None:
            return None
        phase, half = self._phase(now_ns), self.period_ns // 2
        return now_ns - phase + (half if phase < half else self.period_ns)

    def _phase(self, now_ns: int) -> int:
        return (now_ns - self.start_ns) % self.period_ns if self.period_ns else 0


class TokenBucket:
    """One dimension of one limit: refilled continuously, starts full.

    A request larger than the bucket goes when the bucket is full and leaves a debt; without that rule it could
    never go at all. So in any window of length t at most r*t + max(b, largest request) is taken.
    """

    def __init__(self, per_minute: int, depth: int, *, now_ns: int, foreign: ForeignDrain | None = None) -> None:
        self.per_minute = per_minute
        self.depth = depth
        self._foreign = foreign
        self._full = depth * MINUTE_NS
        self._level = self._full
        self._at_ns = now_ns
        self._draining = 0  # units a nanosecond, by answers being generated now
        self._changes: list[tuple[int, int, int]] = []  # (when, change of draining, change of level): a heap
        self._granted = 0
        self._offered: int | None = None  # units permitted since the first request; None before it
        self._offered_at_last_request = 0
        self._taken_by_others = 0

    def wait_ns(self, tokens: int, now_ns: int) -> int:
        """How long until `tokens` could be taken if nobody else took any; 0 means now."""
        self._advance(now_ns)
        if self._offered is None:
            self._offered = self._level
        self._offered_at_last_request = self._offered
        missing = min(tokens * MINUTE_NS, self._full) - self._level
        return -(-missing // self.per_minute) if missing > 0 else 0

    def take(self, tokens: int, now_ns: int) -> None:
        """Take `tokens` at once. Whether they may be taken, the caller has asked with `wait_ns`."""
        self._advance(now_ns)
        self._level -= tokens * MINUTE_NS
        self._granted += tokens

    def take_while(self, tokens: int, start_ns: int, end_ns: int) -> None:
        """Take `tokens` evenly between two moments to come: they go as they are generated, debt or not."""
        self._granted += tokens
        units = tokens * MINUTE_NS
        rate = units // (end_ns - start_ns) if end_ns > start_ns else 0
        rest = units - rate * (end_ns - start_ns)
        heapq.heappush(self._changes, (start_ns, rate, 0))
        heapq.heappush(self._changes, (end_ns, -rate, -rest))

    def give_back(self, tokens: int, at_ns: int) -> None:
        """Return `tokens` that were taken and not used, at a moment to come; what overflows is lost."""
        self._granted -= tokens
        heapq.heappush(self._changes, (at_ns, 0, tokens * MINUTE_NS))

    def remaining(self, now_ns: int) -> int:
        """Whole tokens left; 0 while in debt."""
        self._advance(now_ns)
        return max(self._level // MINUTE_NS, 0)

    def full_in_ns(self, now_ns: int) -> int:
        """How long until the bucket is full again if nobody took any more."""
        self._advance(now_ns)
        return -(-(self._full - self._level) // self.per_minute)

    @property
    def granted(self) -> int:
        """Tokens taken, net of what was given back, including what answers under way will still take."""
        return self._granted

    @property
    def permitted(self) -> int:
        """Tokens that could have been taken between the first request and the latest one: level then + r*t."""
        return self._offered_at_last_request // MINUTE_NS

    @property
    def taken_by_others(self) -> int:
        """Tokens the foreign load got so far."""
        return self._taken_by_others // MINUTE_NS

    def relimit(self, per_minute: int, depth: int, *, now_ns: int, foreign: ForeignDrain | None) -> None:
        """Change the limit under way. The level stays, at most a full bucket of the new depth."""
        self._advance(now_ns)
        self.per_minute = per_minute
        self.depth = depth
        self._foreign = foreign
        self._full = depth * MINUTE_NS
        self._level = min(self._level, self._full)

    def refill(self, now_ns: int) -> None:
        """Fill the bucket to the brim and forgive every debt."""
        self._advance(now_ns)
        if self._offered is not None:
            self._offered += self._full - self._level
        self._level = self._full

    def restart_counts(self, now_ns: int) -> None:
        """Begin to count granted and permitted tokens anew."""
        self._advance(now_ns)
        self._granted = 0
        self._offered = None
        self._offered_at_last_request = 0
        self._taken_by_others = 0

    def _advance(self, now_ns: int) -> None:
        while self._changes and self._changes[0][0] <= now_ns:
            at_ns, rate, level = heapq.heappop(self._changes)
            self._flow_until(at_ns)
            self._draining += rate
            self._level = min(self._level + level, self._full)
        self._flow_until(now_ns)

    def _flow_until(self, end_ns: int) -> None:
        if self._offered is not None:
            self._offered += self.per_minute * max(end_ns - self._at_ns, 0)
        while self._at_ns < end_ns:
            stop_ns, rate = end_ns, 0
            if self._foreign is not None:
                rate = self._foreign.rate_at(self._at_ns, self.per_minute)
                stop_ns = min(end_ns, self._foreign.next_change(self._at_ns) or end_ns)
            self._flow(stop_ns - self._at_ns, rate)
            self._at_ns = stop_ns

    def _flow(self, span_ns: int, foreign_rate: int) -> None:
        """Move the level through a span in which every rate is constant."""
        gain = self.per_minute - self._draining
        if foreign_rate and self._level < 0:  # in debt: others are refused too, until it is repaid
            climb_ns = span_ns if gain <= 0 else min(span_ns, -(self._level // gain))
            self._level += gain * climb_ns
            span_ns -= climb_ns
            if not span_ns:
                return
        net = gain - foreign_rate
        fall_ns = span_ns if net >= 0 or not foreign_rate else min(span_ns, self._level // -net)
        self._level = min(self._level + net * fall_ns, self._full)
        self._taken_by_others += foreign_rate * fall_ns
        empty_ns = span_ns - fall_ns
        if gain >= 0:  # empty: others drink what trickles in
            self._taken_by_others += gain * empty_ns
        else:
            self._level += gain * empty_ns
