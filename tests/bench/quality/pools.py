"""Answers that were measured once, to be drawn from as often as a replay needs them."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from tests.bench.quality.answers import Prompts, Style, worse

Quality = dict[str, Any]
Pool = list[Quality]

EXPLAIN = Style("explain", fidelity=0.85)
BRIEF = Style("brief", sentences=4, spread=0.25, fidelity=0.9, density=0.15)
ESSAY = Style("essay", sentences=16, spread=0.6, fidelity=0.6)
BULLETS = Style("bullets", bullets=5)
CODE = {rate: Style(f"code {rate:.0%}", code=rate) for rate in (0.97, 0.9, 0.7, 0.5)}


@dataclass(frozen=True)
class Scenario:
    """What happens to the answers of one kind of prompt."""

    name: str
    aim: int
    """Answers until the alarm."""
    before: Style
    after: Style
    share: float = 1.0
    """Of the answers after the change that are in the style `after`."""


def _subtly_worse(style: Style, *, fidelity: float, examples: float) -> Style:
    """A sampler that takes wrong tokens now and then.

    Both shares are lowered by as much as lowers the measured similarity by 0.05, and the measured share of answers with
    a specific example by 10 points.
    """
    return style.changed(fidelity=(style.fidelity or 0) - fidelity, examples=style.examples - examples)


_SUBTLY_WORSE = (
    (EXPLAIN, _subtly_worse(EXPLAIN, fidelity=0.145, examples=0.105)),
    (BRIEF, _subtly_worse(BRIEF, fidelity=0.105, examples=0.24)),
    (ESSAY, _subtly_worse(ESSAY, fidelity=0.13, examples=0.11)),
)


SCENARIOS = (
    *(
        Scenario("(a) 16 % from a worse model", 300, style, worse(style), share=0.16)
        for style in (EXPLAIN, BULLETS, CODE[0.9])
    ),
    *(
        Scenario("(b) stray characters in 1 %", 500, style, style.changed(stray=1.0), share=0.01)
        for style in (EXPLAIN, BULLETS)
    ),
    *(Scenario("(c) subtly worse sampler", 1000, style, after) for style, after in _SUBTLY_WORSE),
    *(
        Scenario("(d) code blocks 10 points down", 300, style, style.changed(code=rate - 0.1))
        for rate, style in CODE.items()
    ),
    *(
        Scenario("(e) answers 20 % shorter", 300, style, style.changed(sentences=style.sentences * 0.8))
        for style in (EXPLAIN, BRIEF, ESSAY)
    ),
)


def measured(style: Style, count: int, *, seed: str, of: Style | None = None) -> Pool:
    """`count` answers in `style`, to the prompts that `of` usually answers."""
    rng = Random(f"{seed} {style}")
    prompts = Prompts(of or style, Random(f"{seed} prompts"))
    return [prompts.measured(style, rng) for _ in range(count)]


def any_style(rng: Random) -> Style:
    """Some style within what is usual: no two series are alike."""
    return Style(
        "any",
        sentences=rng.uniform(3, 16),
        spread=rng.uniform(0.2, 0.7),
        code=rng.choice((0.0, rng.random() ** 3, 1 - rng.random() ** 3)),
        examples=rng.uniform(0.4, 1.0),
        density=rng.uniform(0.1, 0.4),
        fidelity=rng.choice((None, rng.uniform(0.4, 0.95))),
        bullets=rng.choice((None, None, rng.randrange(3, 8))),
        obeys=1 - 0.2 * rng.random() ** 3,
        hedges=0.5 * rng.random() ** 2,
        truncated=0.1 * rng.random() ** 4,
        broken_code=0.1 * rng.random() ** 3,
    )
