"""Answers as a model gives them to a kind of prompt, with realistic variation, and as it gives them on a bad day."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from promptmill.expectations import Expectation
from promptmill.testing.simulator.prose import sentence
from worker.quality import Answer, measure

_TOPICS = (
    "queues", "retries", "budgets", "latency", "caching", "backups", "indexes", "locks", "schemas", "tokens", "prompts",
    "workers", "leases", "deadlines", "batches", "metrics", "alarms", "outages", "tenants", "migrations", "sockets",
)  # fmt: skip
_NAMES = ("Ada Lovelace", "Grace Hopper", "Alan Turing", "Barbara Liskov", "Edgar Codd", "Leslie Lamport")
_EXAMPLES = (
    "For example, {name} measured {number} requests per second in {year}.",
    "A team in Zurich cut {topic} by {percent} % within {number} days, as {name} reports.",
    "The setting `{topic}_limit = {number}` is a common choice, such as in release {major}.{minor}.",
    "In March {year} the cost of {topic} rose from ${number} to ${more}.",
    '"{topic} first" was the rule that {name} wrote down in {year}.',
)
_HEDGES = (
    "It is hard to say for certain, but {topic} might matter here.",
    "I'm not sure whether this applies, although {topic} could perhaps be involved.",
)
_WAFFLE = (
    "It is important to note that there are many factors to consider.",
    "This can vary depending on a number of different things.",
    "As mentioned before, it is important to consider many factors.",
)
_CODE = (
    "def {a}_{b}(items):\n    total = {number}\n    for item in items:\n        total += len(item)\n    return total\n",
    "class {A}:\n    def __init__(self, {b}):\n        self.{b} = {b}\n\n    def size(self):\n        return {more}\n",
    "import json\n\nwith open('{a}.json') as file:\n    {b} = json.load(file)\nprint({b}['{a}'], {number})\n",
)
_STRAY = ("สวัสดี", "ครับ", "ความ", "的", "谢谢", "问题", "因此")


@dataclass(frozen=True)
class Style:
    """How a model answers one kind of prompt. Rates and shares are of answers, unless said otherwise."""

    name: str
    sentences: float = 10
    """In the median answer."""
    spread: float = 0.4
    """Standard deviation of the log of the length."""
    code: float = 0.0
    examples: float = 0.8
    """That give any specific example."""
    density: float = 0.25
    """Share of the sentences of such an answer that are one."""
    fidelity: float | None = None
    """Share of its other sentences that are those of the known good answer; None: none is known."""
    bullets: int | None = None
    """The prompt asks for exactly so many."""
    obeys: float = 0.97
    hedges: float = 0.1
    truncated: float = 0.01
    stray: float = 0.0
    broken_code: float = 0.02
    waffle: float = 0.0
    """Share of the sentences that say nothing."""

    def changed(self, **fields: Any) -> Style:
        return replace(self, **fields)


def worse(style: Style) -> Style:
    """The same prompts, answered by a smaller model: shorter, vaguer, less obedient, further from the known answer."""
    return style.changed(
        sentences=style.sentences * 0.75,
        code=style.code * 0.7,
        examples=style.examples * 0.6,
        fidelity=None if style.fidelity is None else style.fidelity * 0.6,
        obeys=0.6,
        hedges=0.4,
        broken_code=0.15,
        waffle=0.25,
    )


class Prompts:
    """One kind of prompt: many prompts with the same instructions, each with its own known good answer."""

    def __init__(self, style: Style, rng: Random) -> None:
        self._style = style
        self._known = [[sentence(rng, _TOPICS) for _ in range(40)] for _ in range(20)]
        wishes = "" if style.bullets is None else f" Use exactly {style.bullets} bullet points."
        self._system = f"You explain software to newcomers.{wishes}"

    def measured(self, style: Style, rng: Random) -> dict[str, Any]:
        """The metrics of one answer in this style."""
        known = rng.choice(self._known)
        text, code = self._text(style, known, rng)
        truncated = rng.random() < style.truncated
        if truncated:
            text = text[: len(text) * 2 // 3]
        expected = None if style.fidelity is None else " ".join(known[: round(style.sentences)])
        answer = Answer(
            text + code,
            stop_reason="max_tokens" if truncated else "end_turn",
            output_tokens=round(len(text + code) / rng.uniform(3.3, 4.2)),
        )
        request = {"system": self._system, "messages": [{"role": "user", "content": "Explain the chapter."}]}
        expectation = None if expected is None else Expectation(similar_to=expected)
        quality = measure(answer, request=request, expectation=expectation)
        return {name: value for name, value in quality.items() if isinstance(value, bool | int | float)}

    def _text(self, style: Style, known: list[str], rng: Random) -> tuple[str, str]:
        count = max(1, round(style.sentences * rng.lognormvariate(0, style.spread)))
        if style.bullets is not None:
            count = style.bullets if rng.random() < style.obeys else style.bullets + rng.choice((-1, 1, 2))
        exemplary = rng.random() < style.examples
        written = []
        for place in range(count):
            chance = rng.random()
            if chance < style.waffle:
                written.append(rng.choice(_WAFFLE))
            elif exemplary and chance < style.waffle + style.density:
                written.append(_filled(rng.choice(_EXAMPLES), rng))
            elif style.fidelity is not None and rng.random() < style.fidelity:
                written.append(known[place % len(known)])
            else:
                written.append(sentence(rng, _TOPICS))
        if rng.random() < style.hedges:
            written.insert(rng.randrange(count + 1), _filled(rng.choice(_HEDGES), rng))
        if rng.random() < style.stray:
            place = rng.randrange(len(written))
            words = written[place].split(" ")
            words.insert(rng.randrange(len(words)), rng.choice(_STRAY))
            written[place] = " ".join(words)
        code = ""
        if rng.random() < style.code:
            body = _filled(rng.choice(_CODE), rng)
            if rng.random() < style.broken_code:
                body = body.replace("(", "((", 1)
            code = f"\n\n```python\n{body}```\n"
        text = "\n".join(f"- {line}" for line in written) if style.bullets is not None else " ".join(written)
        return text, code


def _filled(template: str, rng: Random) -> str:
    topic = rng.choice(_TOPICS)
    return template.format(
        a=topic,
        b=rng.choice(_TOPICS),
        A=topic.title(),
        topic=topic,
        name=rng.choice(_NAMES),
        number=rng.randrange(2, 900),
        more=rng.randrange(900, 2000),
        year=rng.randrange(1990, 2026),
        percent=rng.randrange(2, 60),
        major=rng.randrange(1, 9),
        minor=rng.randrange(20),
    )
