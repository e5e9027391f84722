"""Similarity in meaning, by a model of the owner's that turns texts into vectors: a plug-in made from any such."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import mul

from worker.quality.metric import Metric, Subject

Vector = Sequence[float]
Embed = Callable[[Sequence[str]], Sequence[Vector]]
"""Returns a vector for each text, all of one length; lists and numpy's arrays will both do."""

_KNOWN = 256
"""Expected answers whose vectors are kept: canaries and whole runs are compared with the same few again and again."""


def similarity_in_meaning(embed: Embed, *, name: str = "meaning") -> Metric:
    """Return a metric for the setting `quality_plugins`: how close an answer comes in meaning to the expected one.

    The cosine of the angle between their vectors, on 0..1: what points the other way is 0. None where the job expects
    no answer like its own (`similar_to`), and for a text without direction, such as an empty one.

    Sees: what the model behind `embed` was trained to see; a paraphrase scores high. Cannot see: more of a long text
    than that model reads, and often not a missing "not". Its level means nothing by itself and differs from model to
    model: with another one, give the metric another name, so that a new series begins.
    """

    @lru_cache(maxsize=_KNOWN)
    def direction_of_known(text: str) -> tuple[float, ...]:
        return _direction(embed, text)

    def meaning(subject: Subject) -> float | None:
        known = None if subject.expectation is None else subject.expectation.similar_to
        if known is None:
            return None
        theirs, ours = direction_of_known(known), _direction(embed, subject.answer.text)
        if not theirs or not ours:
            return None
        if len(theirs) != len(ours):
            raise ValueError(f"expected vectors of one length, got {len(theirs)} and {len(ours)}")
        cosine: float = sum(map(mul, theirs, ours))
        return max(0.0, min(1.0, cosine))

    return Metric(name, "score", "lower", meaning, similarity_in_meaning)


def _direction(embed: Embed, text: str) -> tuple[float, ...]:
    """Return the vector of length 1; empty where it has none. Raises ValueError for what is not one vector."""
    (vector,) = embed([text])
    numbers = [float(number) for number in vector]
    length = math.hypot(*numbers)
    if not math.isfinite(length):
        raise ValueError("expected a vector of finite numbers, got one of others")
    return tuple(number / length for number in numbers) if length else ()
