"""What a simulator is told: at its start (`SimulatorConfig`) and while it runs (`Control`).

Spans of time are `timedelta`; in JSON a number of seconds.
"""

from collections.abc import Mapping
from datetime import timedelta
from difflib import get_close_matches
from fractions import Fraction
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveInt, model_validator

from promptmill.testing.simulator.bucket import ForeignDrain
from promptmill.testing.simulator.clock import to_ns
from promptmill.testing.simulator.faults import FAULTS
from promptmill.testing.simulator.models import ModelClass, find_model


def _not_negative(span: timedelta) -> timedelta:
    if span < timedelta():
        raise ValueError(f"expected a span of time of 0 or more, got {span}")
    return span


def _known_fault(name: str) -> str:
    if name not in FAULTS:
        near = get_close_matches(name, FAULTS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(FAULTS)}"
        raise ValueError(f"expected the name of a fault, got {name!r}; {hint}")
    return name


def _model_classes(names: frozenset[str]) -> frozenset[str]:
    return frozenset(_model_class(name) for name in names)


def _model_class(name: str) -> str:
    if name in set(ModelClass):
        return name
    model = find_model(name)
    if model is None:
        raise ValueError(f"expected a model or a model class ({', '.join(ModelClass)}), got {name!r}")
    return model.model_class.value


Span = Annotated[timedelta, AfterValidator(_not_negative)]


class Settings(BaseModel):
    """Base of everything here: frozen, and a mistyped name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(Settings):
    """Rate limits of one model class. None: no limit in that dimension."""

    rpm: PositiveInt | None = None
    itpm: PositiveInt | None = None
    otpm: PositiveInt | None = None
    depth: Span = timedelta(seconds=60)
    """How much a full bucket holds, as a span of refilling."""
    burst: PositiveInt | None = None
    """The same as a number of requests, instead of `depth`; the token buckets are as many seconds deep."""

    @model_validator(mode="after")
    def _burst_needs_a_rate(self) -> Self:
        if self.burst is not None and self.rpm is None:
            raise ValueError(f"expected rpm together with burst={self.burst}, got none; set rpm, or depth instead")
        return self

    def depth_of(self, per_minute: int) -> int:
        """Tokens or requests that a full bucket holds in the dimension limited to `per_minute`; at least 1."""
        if self.burst is not None and self.rpm is not None:
            return max(per_minute * self.burst // self.rpm, 1)
        return max(int(per_minute * Fraction(to_ns(self.depth), to_ns(timedelta(minutes=1)))), 1)


class Latency(Settings):
    """How long answers take; the same request always takes equally long."""

    first_byte: Span = timedelta()
    """Median time to the first byte; the distribution is lognormal."""
    sigma: NonNegativeFloat = 0.0
    """Of the logarithm of the time to the first byte; 0.5 makes one in twenty 2.3 times the median or more."""
    per_token: Span = timedelta()
    """Time of each output token after the first byte."""
    scale: NonNegativeFloat = 1.0
    """Multiplies all of it; 0 answers at once."""


class Answers(Settings):
    """How long answers are, where the prompt does not say; the distribution is lognormal."""

    mean_tokens: PositiveInt = 120
    sigma: NonNegativeFloat = 0.6
    """Of the logarithm of the length; 1.0 and more is a heavy tail."""


class FaultRule(Settings):
    """When a fault strikes. All its conditions must hold; counts and times start when the rule is set."""

    fault: Annotated[str, AfterValidator(_known_fault)]
    probability: float = Field(default=1.0, ge=0, le=1)
    requests: frozenset[PositiveInt] | None = None
    """Numbers of the requests it strikes, counting from 1 when the rule was set; None: any."""
    after: Span = timedelta()
    lasting: Span | None = None
    """An outage: for how long, from `after` on; None: until the rules are set again."""
    models: Annotated[frozenset[str], AfterValidator(_model_classes)] | None = None
    """Models or model classes it strikes; None: all."""


class ForeignLoad(Settings):
    """Somebody else's use of the same account, in every dimension of every model class."""

    share: float = Field(gt=0)
    """Of the limit."""
    period: timedelta | None = Field(default=None, ge=timedelta(milliseconds=100))
    """A square wave of this period that begins with load; None: all the time."""

    def as_drain(self, start_ns: int) -> ForeignDrain:
        """Return the same as the buckets want it."""
        period_ns = None if self.period is None else to_ns(self.period)
        return ForeignDrain(Fraction(str(self.share)), period_ns, start_ns)


_Merging = TypeVar("_Merging", Limits, Latency, Answers)


def _merged(old: _Merging, new: _Merging) -> _Merging:
    """Return `old` with the fields that were set in `new`."""
    return type(old).model_validate({**dict(old), **{name: getattr(new, name) for name in new.model_fields_set}})


class _Changeable(Settings):
    """What can be set at the start and changed while running."""

    limits: Limits = Limits()
    """Of every model class that has none of its own in `class_limits`."""
    class_limits: Mapping[ModelClass, Limits] = Field(default_factory=dict)
    count_tokens_rpm: PositiveInt | None = None
    charge_max_tokens: bool = False
    """The rule until February 2026: `max_tokens` is charged up front and the unused part given back."""
    latency: Latency = Latency()
    answers: Answers = Answers()
    faults: tuple[FaultRule, ...] = ()
    """The first rule that strikes wins."""
    foreign_load: ForeignLoad | None = None
    rejected_keys: frozenset[str] = frozenset()
    """API keys answered with 401; every other non-empty key is good."""

    def limits_by_class(self) -> dict[ModelClass, Limits]:
        """Limits of every model class."""
        return {model_class: self.class_limits.get(model_class, self.limits) for model_class in ModelClass}


class SimulatorConfig(_Changeable):
    """Everything a simulator is told at its start. The defaults answer at once and never refuse."""

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65_535)
    """0: any free port."""
    seed: int = 0
    track: bool = False
    """Count requests by `x-promptmill-job` header and by content too; memory grows with every new key."""

    def changed_by(self, control: "Control") -> Self:
        """Return these settings with those of `control`; `limits`, `latency` and `answers` merge field by field.

        New `limits` reach every model class, also one with limits of its own, unless `class_limits` come with them.
        """
        changes: dict[str, Any] = {}
        for name in control.model_fields_set & _Changeable.model_fields.keys():
            new = getattr(control, name)
            changes[name] = _merged(getattr(self, name), new) if isinstance(new, Limits | Latency | Answers) else new
        if "limits" in changes and "class_limits" not in changes:
            changes["class_limits"] = {
                model_class: _merged(limits, control.limits) for model_class, limits in self.class_limits.items()
            }
        return self.model_copy(update=changes)


class Control(_Changeable):
    """One `POST /control`: what is given is set, what is left out stays."""

    refuse_connections: Span | None = None
    """Drop every connection and stop listening for so long: the API host is down."""
    refill: bool = False
    """Fill every bucket and forgive every debt."""
    reset_stats: bool = False


_ALL_FOUR = (ModelClass.HAIKU_5_5, ModelClass.HAIKU_4_5, ModelClass.SONNET_5, ModelClass.OPUS_5)

TIERS: dict[str, dict[ModelClass, Limits]] = {
    "none": {},
    "start": dict.fromkeys(_ALL_FOUR, Limits(rpm=1_000, itpm=2_000_000, otpm=400_000))
    | {ModelClass.FABLE_5: Limits(rpm=1_000, itpm=500_000, otpm=100_000)},
    "build": dict.fromkeys(_ALL_FOUR, Limits(rpm=5_000, itpm=5_000_000, otpm=1_000_000))
    | {ModelClass.FABLE_5: Limits(rpm=2_000, itpm=1_500_000, otpm=300_000)},
    "scale": dict.fromkeys(_ALL_FOUR, Limits(rpm=10_000, itpm=10_000_000, otpm=2_000_000))
    | {ModelClass.FABLE_5: Limits(rpm=4_000, itpm=4_000_000, otpm=800_000)},
}
"""Limits of the usage tiers, for `class_limits`. They change: compare with the account's own."""
