"""Counts of what really arrived: the truth that a pipeline's own numbers are compared with."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from promptmill.testing.simulator.bucket import TokenBucket
from promptmill.testing.simulator.budget import Dimension
from promptmill.testing.simulator.clock import SECOND_NS
from promptmill.testing.simulator.models import ModelClass

_SPACINGS_KEPT = 100_000
_SECONDS_KEPT = 3_600
_PERCENTILES = (0, 1, 10, 50, 90, 99, 100)


@dataclass(frozen=True, slots=True)
class KeyCount:
    """How often one job or one content came, and how often it was paid for."""

    requests: int
    billed: int
    """Answers that were generated, delivered or not: more than 1 was paid for twice."""


@dataclass(frozen=True, slots=True)
class Second:
    """What arrived in one second since the first request."""

    at: int
    granted: int
    refused: int


@dataclass(frozen=True, slots=True)
class Use:
    """How much was made of one bucket, from the first request to the latest."""

    granted: int
    permitted: int
    """What the bucket held at the first request, and all that flowed in since."""
    by_others: int
    """What the foreign load took."""
    share: float
    """`granted / permitted`."""


@dataclass(frozen=True, slots=True)
class StatsSnapshot:
    """All counts at one moment. Everything but `count_tokens` is about `POST /v1/messages`."""

    seconds: float
    """From the first request until now; 0 before it."""
    requests: int
    by_status: dict[int, int]
    """0: no status was ever sent."""
    by_model: dict[str, int]
    by_fault: dict[str, int]
    rate_limited: dict[str, int]
    """429s of the buckets themselves, by the dimension that was short; injected ones are in `by_fault`."""
    billed: int
    """Answers that were generated, delivered or not."""
    input_tokens_granted: int
    input_tokens_refused: int
    output_tokens_granted: int
    abandoned: int
    """Requests whose client was gone before the answer was complete."""
    in_flight: int
    max_in_flight: int
    count_tokens: dict[int, int]
    """Requests to `/v1/messages/count_tokens`, by status."""
    arrival_spacing_ms: dict[str, float]
    """Percentiles of the time between arrivals, of the latest 100,000."""
    use: dict[str, dict[str, Use]]
    """By model class and dimension."""
    timeline: tuple[Second, ...]
    """The latest hour, without its empty seconds."""
    jobs: dict[str, KeyCount] = field(default_factory=dict)
    """By `x-promptmill-job` header; only when tracking, and asked for."""
    met: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By `x-promptmill-job` header likewise: what each request met, in order; a fault's name, or the status sent where
    none struck."""
    contents: dict[str, KeyCount] = field(default_factory=dict)
    """By digest of the content; only when tracking, and asked for."""


class Stats:
    """Owned by the provider, which calls it once for every event; nothing else writes here."""

    def __init__(self, *, track: bool) -> None:
        self._track = track
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything but what is in flight."""
        self.requests = 0
        self.by_status: Counter[int] = Counter()
        self.by_model: Counter[str] = Counter()
        self.by_fault: Counter[str] = Counter()
        self.rate_limited: Counter[str] = Counter()
        self.count_tokens: Counter[int] = Counter()
        self.billed = 0
        self.abandoned = 0
        self.input_tokens_granted = 0
        self.input_tokens_refused = 0
        self.output_tokens_granted = 0
        self.max_in_flight = self.in_flight
        self._first_ns: int | None = None
        self._latest_ns = 0
        self._spacings_ns: deque[int] = deque(maxlen=_SPACINGS_KEPT)
        self._seconds: deque[list[int]] = deque(maxlen=_SECONDS_KEPT)  # second, granted, refused
        self._arrived: dict[str, Counter[str]] = {"job": Counter(), "content": Counter()}
        self._paid: dict[str, Counter[str]] = {"job": Counter(), "content": Counter()}
        self._met: dict[str, list[str]] = {}

    def arrival(self, now_ns: int) -> None:
        """Count a request that has come in."""
        self.requests += 1
        if self._first_ns is None:
            self._first_ns = now_ns
        else:
            self._spacings_ns.append(now_ns - self._latest_ns)
        self._latest_ns = now_ns
        second = (now_ns - self._first_ns) // SECOND_NS
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0, 0])

    def started(self) -> None:
        """Count a request whose handling begins."""
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)

    def ended(self) -> None:
        """Count a request whose handling is over, one way or another."""
        self.in_flight -= 1

    def key(self, *, job: str | None, content: str) -> None:
        """Count a request under its keys."""
        if self._track:
            self._arrived["content"][content] += 1
            if job:
                self._arrived["job"][job] += 1

    def decided(self, status: int, *, fault: str | None, job: str | None) -> None:
        """Count what is sent for a request, and what struck it."""
        self.by_status[status] += 1
        if fault is not None:
            self.by_fault[fault] += 1
        if self._track and job:
            self._met.setdefault(job, []).append(fault or str(status))

    def granted(self, input_tokens: int) -> None:
        """Count a request that the rate limiter let through."""
        self.input_tokens_granted += input_tokens
        if self._seconds:
            self._seconds[-1][1] += 1

    def refused(self, dimension: Dimension, input_tokens: int) -> None:
        """Count a request that the rate limiter answered with 429."""
        self.rate_limited[dimension.value] += 1
        self.input_tokens_refused += input_tokens
        if self._seconds:
            self._seconds[-1][2] += 1

    def generated(self, output_tokens: int, *, job: str | None, content: str) -> None:
        """Count an answer that was generated and so is paid for."""
        self.billed += 1
        self.output_tokens_granted += output_tokens
        if self._track:
            self._paid["content"][content] += 1
            if job:
                self._paid["job"][job] += 1

    def snapshot(
        self, buckets: Iterable[tuple[ModelClass, Dimension, TokenBucket]], *, now_ns: int, keys: bool
    ) -> StatsSnapshot:
        """Return all counts; those by key only when `keys`."""
        return StatsSnapshot(
            seconds=0.0 if self._first_ns is None else (now_ns - self._first_ns) / SECOND_NS,
            requests=self.requests,
            by_status=dict(self.by_status),
            by_model=dict(self.by_model),
            by_fault=dict(self.by_fault),
            rate_limited=dict(self.rate_limited),
            billed=self.billed,
            input_tokens_granted=self.input_tokens_granted,
            input_tokens_refused=self.input_tokens_refused,
            output_tokens_granted=self.output_tokens_granted,
            abandoned=self.abandoned,
            in_flight=self.in_flight,
            max_in_flight=self.max_in_flight,
            count_tokens=dict(self.count_tokens),
            arrival_spacing_ms=self._spacing(),
            use=_use(buckets),
            timeline=tuple(Second(*second) for second in self._seconds),
            jobs=self._counts("job") if keys else {},
            met={job: tuple(met) for job, met in self._met.items()} if keys else {},
            contents=self._counts("content") if keys else {},
        )

    def _counts(self, kind: str) -> dict[str, KeyCount]:
        paid = self._paid[kind]
        return {key: KeyCount(times, paid[key]) for key, times in self._arrived[kind].items()}

    def _spacing(self) -> dict[str, float]:
        ordered = sorted(self._spacings_ns)
        last = len(ordered) - 1
        return {f"p{at}": ordered[round(last * at / 100)] / 1e6 for at in _PERCENTILES} if ordered else {}


def _use(buckets: Iterable[tuple[ModelClass, Dimension, TokenBucket]]) -> dict[str, dict[str, Use]]:
    use: dict[str, dict[str, Use]] = {}
    for model_class, dimension, bucket in buckets:
        if bucket.permitted:
            use.setdefault(model_class.value, {})[dimension.value] = Use(
                granted=bucket.granted,
                permitted=bucket.permitted,
                by_others=bucket.taken_by_others,
                share=bucket.granted / bucket.permitted,
            )
    return use
