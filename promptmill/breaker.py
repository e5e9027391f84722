"""When a model class is out, and what finds out that it is back: pure, the rules of lua/_breaker.lua, time handed in.

Closed, until ENOUGH requests in a row came to nothing, and that for longer than answers usually take: those of requests
that were sent before may still be under way, and a provider that refuses some while it answers others is not out. Open
at once where the account is refused (key, billing, spend limit). While it is open one request may go at every interval:
the probe. Only its answer closes the breaker, and the class comes back to its rate by a ramp; whatever else becomes of
it, the next interval has a probe of its own. So a probe that is lost, cancelled or never sent holds up nothing.

What the API answers without asking the model (a request that is not valid) shows that it takes the account, and closes
the breaker where that was refused; where the models are out the next probe goes at once.

A worker that finds no connection while another one is answered is cut off by itself: that is no news of the provider.

Whose fault a failure is shows when the job fails again: its own if, as its request was sent, the provider had answered
requests that were sent after the failure before. In an outage nobody is answered, so an outage uses up no attempts.
What a job to blame does is no news of the provider, and opens nothing. What fails although nothing else is left to show
that the provider works has to end too: after a time without any answer failures count against jobs again.

A test compares this with the scripts, step by step. All times are ms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from promptmill.pacing import MS_PER_MINUTE, Budget, Ramp

ENOUGH: Final = 20
"""Failures in a row that are no coincidence: where half of all requests fail, one in a million is the first of such."""
TIMES_AN_ANSWER: Final = 2
"""For how many times as long as answers usually take, at least LEAST_MS and at most MOST_MS."""
LEAST_MS: Final = 2_000
MOST_MS: Final = 60_000
UNKNOWN_MS: Final = 10_000
"""... where nothing was answered yet."""
FORGOTTEN_MS: Final = 3_600_000
"""A row of failures that nothing was added to for so long is none."""
SMOOTHING: Final = 20
"""Answers that the usual time of an answer is a mean of, about."""

RESTART_SHARE: Final = 0.5
RESTART_GROWTH: Final = 2.0
"""At which share of its rate a class goes on, and what it regains in a minute: all of it within 15 s."""

RETRY_BURST: Final = 10
"""Retries that nobody waits for, beyond the share of the rate that they may take."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """What is known of a job that fails."""

    sent: float
    """When its request was sent."""
    failed_at: float = 0
    """When the one before came to nothing; 0: none did."""
    blamed: bool = False
    """Whether a failure of it was its own fault before."""
    seen: float = 0
    """When the newest request had been sent that was answered by the time when this one was sent."""

    @property
    def is_to_blame(self) -> bool:
        """Whether the job fails alone: as it was sent, the provider had answered others since the failure before."""
        return self.blamed or 0 < self.failed_at < self.seen


@dataclass(frozen=True, slots=True)
class Breaker:
    """The breaker of one model class."""

    answered: float = 0
    """When the newest of the answered requests was sent."""
    answered_at: float = 0
    answered_by: str = ""
    """When the last answer came, and to which worker."""
    others_at: float = 0
    """When the last one came to any other worker."""
    answer_ms: float | None = None
    failures: int = 0
    failing_since: float = 0
    failed_at: float = 0
    open_since: float | None = None
    reason: str = ""
    parked: bool = False
    """Of an open one: whether the account was refused."""
    probe_at: float = 0
    probe_every: float = 0
    open_until: float = 0
    """When it ends at the latest, where that is known: a probe goes then in any case."""
    retry_tat: float = 0
    retry_step: float = 0

    @property
    def is_open(self) -> bool:
        """Whether nobody is sent but the probe."""
        return self.open_since is not None

    def answer(self, job: Suspect, now: float, *, worker: str) -> Breaker:
        """Return the breaker after a request of `worker` was answered."""
        took = max(0.0, now - job.sent)
        smooth = took if self.answer_ms is None else self.answer_ms + (took - self.answer_ms) / SMOOTHING
        seen = replace(
            self,
            answered=max(self.answered, job.sent),
            answered_at=now,
            answered_by=worker,
            others_at=self.others_at if worker == self.answered_by else self.answered_at,
            answer_ms=smooth,
            failures=0,
            failing_since=0,
            failed_at=0,
            retry_tat=self.retry_tat - (self.retry_step if job.failed_at else 0),
        )
        return seen.closed() if self.is_probe(job) else seen

    def take(self, job: Suspect, now: float) -> Breaker:
        """Return the breaker after the API dealt with a request without asking the model."""
        if not self.is_probe(job):
            return self
        return self.closed() if self.parked else replace(self, probe_at=now)

    def closed(self) -> Breaker:
        """Return the breaker closed: everybody may go, as the budget allows."""
        return replace(self, open_since=None, reason="", parked=False, probe_at=0, probe_every=0, open_until=0)

    def is_probe(self, job: Suspect) -> bool:
        """Whether a request was sent as a probe: while the breaker is open no other is sent."""
        return self.open_since is not None and job.sent > self.open_since

    def is_failing(self, now: float) -> bool:
        """Whether nothing was answered lately."""
        return self.failures > 0 and now - self.failed_at <= FORGOTTEN_MS

    def fail(self, job: Suspect, now: float, *, outage_patience: float) -> tuple[Breaker, bool, bool]:
        """Return the breaker after a request came to nothing, whether the job is to blame, and whether it opens.

        Of one that is open already: whether it stays so for this reason.
        """
        after = self
        if not job.is_to_blame and job.sent > self.answered:
            counted, since = (self.failures, self.failing_since) if self.is_failing(now) else (0, now)
            after = replace(self, failures=counted + 1, failing_since=since, failed_at=now)
        opens = after.is_probe(job) or (not after.is_open and after.is_out(now))
        blamed = job.is_to_blame and not after.is_open and not opens
        out_too_long = after.is_failing(now) and now - after.failing_since > outage_patience
        return after, blamed or out_too_long, opens

    @property
    def long_enough(self) -> float:
        """For how long nobody must have been answered to mean anything."""
        within = UNKNOWN_MS if self.answer_ms is None else self.answer_ms * TIMES_AN_ANSWER
        return max(LEAST_MS, min(within, MOST_MS))

    def is_out(self, now: float) -> bool:
        """Whether so many failures, over such a time, mean that nobody is answered any more."""
        return self.failures >= ENOUGH and now - self.failing_since >= self.long_enough

    def is_cut_off(self, worker: str, now: float) -> bool:
        """Whether a worker that finds no connection is so by itself: another one was answered lately."""
        others_at = self.others_at if worker == self.answered_by else self.answered_at
        return bool(self.answered_by) and now - others_at <= self.long_enough

    def refuse(self, job: Suspect) -> bool:
        """Return whether the breaker opens by a refusal of the account, or stays open."""
        return self.is_probe(job) or job.sent > self.answered

    def open(
        self, reason: str, now: float, *, parks: bool, every: float, until: float, wait: float
    ) -> tuple[Breaker, bool]:
        """Return the breaker open for `reason`, and whether that is news.

        An outage changes its face all the time, but each refusal of the account is mended in another way. `wait` is
        what the provider asked everybody to wait.
        """
        is_news = not self.is_open or self.parked != parks or (parks and self.reason != reason)
        after = replace(self, reason=reason, parked=parks)
        if not self.is_open:
            after = replace(after, open_since=float(-(-now // 1)))
        if is_news:
            at = min(now + every, until) if until > now else now + every
            after = replace(after, probe_every=every, open_until=until, probe_at=at)
        return replace(after, probe_at=max(after.probe_at, now + wait)), is_news

    def probe(self, now: float) -> Breaker:
        """Return the breaker after the probe of this interval was let through."""
        at = now + self.probe_every
        return replace(self, probe_at=min(at, self.open_until) if self.open_until > now else at)

    def retry(self, now: float, *, rate: float, share: float, waits: bool = True) -> tuple[Breaker, float]:
        """Return the breaker after a job took a place among the retries, and how long it has to wait for it.

        Retries may take a share of the rate; one that is answered gives its place back. Whoever waits at a screen takes
        a place but does not wait (`waits`).
        """
        step = MS_PER_MINUTE / (rate * share)
        tat = max(self.retry_tat, now) + step
        wait = max(0.0, tat - RETRY_BURST * step - now) if waits else 0.0
        return replace(self, retry_tat=tat, retry_step=step), wait


def restart(budget: Budget, now: float) -> Ramp:
    """Return the ramp by which a class goes on whose probe was answered; one that was gentler stays so.

    Probes are no use: it rises no faster than after a rest, and not before a pause that was asked for is over.
    """
    share, start = budget.ramp.at(now), budget.start_growth(now)
    growth = RESTART_GROWTH if start is None else min(RESTART_GROWTH, start)
    growth = growth if share >= 1 else min(growth, budget.ramp.growth)
    return Ramp(max(float(-(-now // 1)), budget.blocked_until), min(share, RESTART_SHARE), growth)
