"""Decides which fault strikes a request: a marker in it, or else the first rule that applies."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from promptmill.testing.simulator.clock import to_ns
from promptmill.testing.simulator.config import FaultRule
from promptmill.testing.simulator.faults import FAULTS, Fault
from promptmill.testing.simulator.models import ModelClass
from promptmill.testing.simulator.replies import invalid

MARKER = b"[[fault:"
_MARKER = re.compile(r"\[\[fault:([^\]\s*]+)(?:\*(\d{1,9}))?\]\]")


@dataclass(frozen=True, slots=True)
class Marker:
    """`[[fault:NAME]]` or `[[fault:NAME*TIMES]]` somewhere in a request."""

    fault: Fault
    times: int | None
    """For how many arrivals of this content; None: for all."""


class FaultPlan:
    """The rules in force and the markers used up.

    Owned by the provider. Chance is drawn from the seed and the request's number, so the same order of requests
    meets the same faults.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rules: tuple[FaultRule, ...] = ()
        self._set_at_ns = 0
        self._requests_before = 0
        self._strikes: Counter[bytes] = Counter()  # by content, of markers alone

    def set_rules(self, rules: Iterable[FaultRule], *, now_ns: int, requests_so_far: int) -> None:
        """Replace all rules; their counts and times start now."""
        self._rules = tuple(rules)
        self._set_at_ns = now_ns
        self._requests_before = requests_so_far

    def choose(
        self,
        *,
        number: int,
        now_ns: int,
        model_class: ModelClass,
        content: bytes,
        markers: tuple[Marker, ...],
    ) -> Fault | None:
        """Return the fault for the `number`th request, or None for a good answer. Uses no marker up."""
        if markers:
            return self._marked(content, markers)
        return next(
            (
                FAULTS[rule.fault]
                for index, rule in enumerate(self._rules)
                if self._strikes_now(rule, index, number, now_ns, model_class)
            ),
            None,
        )

    def use_marker(self, content: bytes) -> None:
        """Count an arrival of marked content. A request that the rate limiter refused is not one."""
        self._strikes[content] += 1

    def _marked(self, content: bytes, markers: tuple[Marker, ...]) -> Fault | None:
        strike = self._strikes[content]
        for marker in markers:
            if marker.times is None or strike < marker.times:
                return marker.fault
            strike -= marker.times
        return None

    def _strikes_now(self, rule: FaultRule, index: int, number: int, now_ns: int, model_class: ModelClass) -> bool:
        since_ns = now_ns - self._set_at_ns - to_ns(rule.after)
        if since_ns < 0 or (rule.lasting is not None and since_ns >= to_ns(rule.lasting)):
            return False
        if rule.requests is not None and number - self._requests_before not in rule.requests:
            return False
        if rule.models is not None and model_class not in rule.models:
            return False
        return rule.probability >= 1 or self._chance(index, number) < rule.probability

    def _chance(self, index: int, number: int) -> float:
        drawn = hashlib.blake2b(f"{self._seed} {index} {number}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn) / 2**64


def markers_in(body: dict[str, Any]) -> tuple[Marker, ...]:
    """Find the markers anywhere in a request, in order. Raises `RejectedError` for an unknown fault."""
    return tuple(
        Marker(_fault_named(match.group(1)), int(match.group(2)) if match.group(2) else None)
        for text in _strings(body)
        for match in _MARKER.finditer(text)
    )


def _fault_named(name: str) -> Fault:
    if name in FAULTS:
        return FAULTS[name]
    near = get_close_matches(name, FAULTS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise invalid(f"simulator: expected the name of a fault in [[fault:...]], got {name!r}{hint}")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
