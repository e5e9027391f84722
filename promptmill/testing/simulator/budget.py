"""What an account may use of one model class: requests, input tokens and output tokens a minute.

Pure: time is given. `Account` is owned by the provider and touched from one event loop only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from promptmill.testing.simulator.bucket import ForeignDrain, TokenBucket
from promptmill.testing.simulator.clock import SECOND_NS
from promptmill.testing.simulator.config import ForeignLoad, Limits
from promptmill.testing.simulator.models import ModelClass


class Dimension(StrEnum):
    """What is counted; the values are the words of the `anthropic-ratelimit-*` headers."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input-tokens"
    OUTPUT_TOKENS = "output-tokens"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was not admitted: the dimension that has to be waited for longest."""

    dimension: Dimension
    per_minute: int
    wait_ns: int

    @property
    def retry_after(self) -> int:
        """Whole seconds, rounded up: whoever waits that long is early in no dimension."""
        return max(-(-self.wait_ns // SECOND_NS), 1)


class Budget:
    """The buckets of one model class. A dimension without a limit has no bucket."""

    def __init__(self, limits: Limits, *, charge_max_tokens: bool, foreign: ForeignDrain | None, now_ns: int) -> None:
        self.buckets: dict[Dimension, TokenBucket] = {}
        self.change(limits, charge_max_tokens=charge_max_tokens, foreign=foreign, now_ns=now_ns)

    def change(self, limits: Limits, *, charge_max_tokens: bool, foreign: ForeignDrain | None, now_ns: int) -> None:
        """Set other limits. Levels stay; a dimension that was unlimited starts with a full bucket."""
        self._charge_max_tokens = charge_max_tokens
        for dimension, per_minute in (
            (Dimension.REQUESTS, limits.rpm),
            (Dimension.INPUT_TOKENS, limits.itpm),
            (Dimension.OUTPUT_TOKENS, limits.otpm),
        ):
            if per_minute is None:
                self.buckets.pop(dimension, None)
                continue
            depth = limits.depth_of(per_minute)
            bucket = self.buckets.get(dimension)
            if bucket is None:
                self.buckets[dimension] = TokenBucket(per_minute, depth, now_ns=now_ns, foreign=foreign)
            else:
                bucket.relimit(per_minute, depth, now_ns=now_ns, foreign=foreign)

    def admit(self, *, input_tokens: int, max_tokens: int, now_ns: int) -> Refusal | None:
        """Charge a request at its start in every dimension, or in none.

        Output is charged here only under the older rule (`charge_max_tokens`); otherwise the bucket must merely
        not be empty, and `generate` charges what is really generated.
        """
        cost = {
            Dimension.REQUESTS: 1,
            Dimension.INPUT_TOKENS: input_tokens,
            Dimension.OUTPUT_TOKENS: max_tokens if self._charge_max_tokens else 1,
        }
        refusals = [
            Refusal(dimension, bucket.per_minute, wait_ns)
            for dimension, bucket in self.buckets.items()
            if (wait_ns := bucket.wait_ns(cost[dimension], now_ns))
        ]
        if refusals:
            return max(refusals, key=lambda refusal: refusal.wait_ns)
        if not self._charge_max_tokens:
            cost[Dimension.OUTPUT_TOKENS] = 0
        for dimension, bucket in self.buckets.items():
            bucket.take(cost[dimension], now_ns)
        return None

    def generate(self, tokens: int, *, max_tokens: int, start_ns: int, end_ns: int) -> None:
        """Charge the output of an admitted request, generated evenly between two moments to come."""
        bucket = self.buckets.get(Dimension.OUTPUT_TOKENS)
        if bucket is None:
            return
        if self._charge_max_tokens:
            bucket.give_back(max_tokens - tokens, end_ns)
        else:
            bucket.take_while(tokens, start_ns, end_ns)

    def headers(self, *, now_ns: int, utc: datetime) -> Iterator[tuple[str, str]]:
        """Yield the `anthropic-ratelimit-*` headers: token remainders to the nearest thousand, full-again times."""
        tokens_limit = tokens_left = tokens_reset_ns = 0
        for dimension, bucket in self.buckets.items():
            left, reset_ns = bucket.remaining(now_ns), bucket.full_in_ns(now_ns)
            if dimension is not Dimension.REQUESTS:
                left = _thousands(left)
                tokens_limit += bucket.per_minute
                tokens_left += left
                tokens_reset_ns = max(tokens_reset_ns, reset_ns)
            yield from _triple(dimension.value, bucket.per_minute, left, utc, reset_ns)
        if tokens_limit:
            yield from _triple("tokens", tokens_limit, tokens_left, utc, tokens_reset_ns)


class Account:
    """The budgets of one organization, one for each model class, and the one for counting tokens."""

    def __init__(self, now_ns: int) -> None:
        self._start_ns = now_ns
        self.budgets: dict[ModelClass, Budget] = {}
        self.counting = Budget(Limits(), charge_max_tokens=False, foreign=None, now_ns=now_ns)

    def change(
        self,
        limits: Mapping[ModelClass, Limits],
        *,
        counting: Limits,
        charge_max_tokens: bool,
        foreign_load: ForeignLoad | None,
        now_ns: int,
    ) -> None:
        """Set the limits of every class; levels stay as they are."""
        foreign = None if foreign_load is None else foreign_load.as_drain(self._start_ns)
        self.counting.change(counting, charge_max_tokens=False, foreign=None, now_ns=now_ns)
        for model_class, of_class in limits.items():
            budget = self.budgets.get(model_class)
            if budget is None:
                self.budgets[model_class] = Budget(
                    of_class, charge_max_tokens=charge_max_tokens, foreign=foreign, now_ns=now_ns
                )
            else:
                budget.change(of_class, charge_max_tokens=charge_max_tokens, foreign=foreign, now_ns=now_ns)

    def buckets(self) -> Iterator[tuple[ModelClass, Dimension, TokenBucket]]:
        """Every bucket there is."""
        for model_class, budget in self.budgets.items():
            for dimension, bucket in budget.buckets.items():
                yield model_class, dimension, bucket


def _thousands(tokens: int) -> int:
    return (tokens + 500) // 1_000 * 1_000


def _triple(kind: str, limit: int, remaining: int, utc: datetime, reset_ns: int) -> Iterator[tuple[str, str]]:
    seconds, part = divmod(utc.microsecond * 1_000 + reset_ns, SECOND_NS)
    full_at = utc.replace(microsecond=0) + timedelta(seconds=seconds + (part > 0))
    yield f"anthropic-ratelimit-{kind}-limit", str(limit)
    yield f"anthropic-ratelimit-{kind}-remaining", str(remaining)
    yield f"anthropic-ratelimit-{kind}-reset", full_at.strftime("%Y-%m-%dT%H:%M:%SZ")
