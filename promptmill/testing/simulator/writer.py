"""Writes the answer to a prompt: always the same one for the same seed and the same content.

Prose is made of the prompt's own words; simple instructions are obeyed (see `instructions`).
"""

import math
from dataclasses import replace
from random import Random
from typing import Any

import orjson

from promptmill.testing.simulator.answer import Answer, Block, InputUsage
from promptmill.testing.simulator.config import Answers
from promptmill.testing.simulator.instructions import Wishes, read_wishes
from promptmill.testing.simulator.prompt import Prompt
from promptmill.testing.simulator.prose import gist, paragraphs, sentence, topics_of, within_words
from promptmill.testing.simulator.schema import SchemaWriter

_CODE = {
    "python": 'def {a}_{b}(items):\n    """Return the items that concern {a}."""\n'
    '    return [item for item in items if "{b}" in item]\n',
    "javascript": "function {a}_{b}(items) {{\n  return items.filter((item) => item.includes('{b}'));\n}}\n",
    "sql": "SELECT id, {a}\nFROM {b}\nWHERE {a} IS NOT NULL\nORDER BY id;\n",
    "bash": '#!/bin/sh\nset -eu\ngrep -i "{a}" "$1" | sort | uniq -c\n',
}


def write_answer(prompt: Prompt, usage: InputUsage, *, message_id: str, settings: Answers, rng: Random) -> Answer:
    """Generate the whole answer, cut where a stop sequence or `max_tokens` ends it."""
    read = gist(prompt.text)
    topics = topics_of(read)
    wanted_tokens = _length(settings, rng)
    blocks: list[Block] = []
    if (prompt.body.get("thinking") or {}).get("type") in {"adaptive", "enabled"}:
        blocks.append(_thinking(prompt, topics, wanted_tokens, rng))
    tool = _chosen_tool(prompt.body, rng)
    if tool is not None:
        given = SchemaWriter(tool.get("input_schema") or {}, rng=rng, topics=topics).value()
        blocks.append(Block("tool_use", orjson.dumps(given or {}).decode(), tool=tool["name"]))
    else:
        blocks.append(Block("text", _text(prompt, read, topics, wanted_tokens, rng)))
    whole = Answer(
        id=message_id,
        model=prompt.model,
        model_name=prompt.body["model"],
        usage=usage,
        blocks=tuple(blocks),
        stop_reason="end_turn" if tool is None else "tool_use",
    )
    return _cut_at_max_tokens(_cut_at_stop_sequence(whole, prompt), prompt)


def _length(settings: Answers, rng: Random) -> int:
    """Draw a length in tokens; lognormal, with the mean as set."""
    center = math.log(settings.mean_tokens) - settings.sigma**2 / 2
    return max(round(rng.lognormvariate(center, settings.sigma)), 1)


def _thinking(prompt: Prompt, topics: tuple[str, ...], wanted_tokens: int, rng: Random) -> Block:
    config = prompt.body["thinking"]
    tokens = min(max(wanted_tokens // 2, 20), config.get("budget_tokens", wanted_tokens + 20))
    text = paragraphs(rng, topics, prompt.model.chars(tokens))
    return Block("thinking", text, hidden=config.get("display") == "omitted")


def _chosen_tool(body: dict[str, Any], rng: Random) -> dict[str, Any] | None:
    """Return the tool to call; none unless the request insists on one."""
    choice = body.get("tool_choice") or {}
    match choice.get("type"):
        case "tool":
            candidates = [tool for tool in body["tools"] if tool["name"] == choice["name"]]
        case "any":
            candidates = body["tools"]
        case _:
            return None
    chosen: dict[str, Any] = rng.choice(candidates)
    return chosen


def _text(prompt: Prompt, read: str, topics: tuple[str, ...], wanted_tokens: int, rng: Random) -> str:
    form = (prompt.body.get("output_config") or {}).get("format")
    if form:
        return orjson.dumps(SchemaWriter(form["schema"], rng=rng, topics=topics).value()).decode()
    wishes = read_wishes(read)
    if wishes.choices:
        return rng.choice(wishes.choices)
    if wishes.exact is not None:
        return wishes.exact
    if wishes.json:
        return orjson.dumps(_fields(wishes, topics, rng), option=orjson.OPT_INDENT_2).decode()
    if wishes.code is not None:
        return _code(wishes.code, topics, rng)
    return _prose(wishes, topics, prompt.model.chars(wanted_tokens), rng)


def _prose(wishes: Wishes, topics: tuple[str, ...], chars: int, rng: Random) -> str:
    if wishes.bullets is not None:
        text = "\n".join(f"- {sentence(rng, topics)}" for _ in range(wishes.bullets))
    elif wishes.sentences is not None:
        text = " ".join(sentence(rng, topics) for _ in range(wishes.sentences))
    elif wishes.max_words is not None:
        text = paragraphs(rng, topics, min(chars, 5 * wishes.max_words))
    else:
        text = paragraphs(rng, topics, chars)
    for phrase in wishes.mentions:
        if phrase.lower() not in text.lower():
            text = f"This is about {phrase}. {text}"
    return text if wishes.max_words is None else within_words(text, wishes.max_words)


def _fields(wishes: Wishes, topics: tuple[str, ...], rng: Random) -> dict[str, Any]:
    return {key: _field(key.lower(), topics, rng) for key in wishes.json_keys or ("topic", "summary", "points")}


def _field(key: str, topics: tuple[str, ...], rng: Random) -> Any:
    """Guess a value's kind from its name."""
    if key.startswith(("is_", "has_", "can_")):
        return rng.random() < 0.5
    if any(word in key for word in ("count", "number", "score", "rating", "year", "age", "total", "price")):
        return rng.randint(1, 100)
    if key in {"points", "tags", "items", "keywords", "topics", "entities", "labels", "list"}:
        return rng.sample(topics, min(3, len(topics)))
    if key in {"topic", "name", "title", "label", "category", "keyword", "id"}:
        return rng.choice(topics)
    return sentence(rng, topics)


def _code(language: str, topics: tuple[str, ...], rng: Random) -> str:
    first, second = (word.replace("-", "_").replace("'", "") for word in rng.sample(topics, 2))
    return f"```{language}\n{_CODE[language].format(a=first, b=second)}```\n\n{sentence(rng, topics)}"


def _cut_at_stop_sequence(answer: Answer, prompt: Prompt) -> Answer:
    text = answer.text
    found = [(at, stop) for stop in prompt.body.get("stop_sequences") or () if (at := text.find(stop)) >= 0]
    if not found:
        return answer
    at, stop = min(found)
    return replace(answer.with_text(text[:at]), stop_reason="stop_sequence", stop_sequence=stop)


def _cut_at_max_tokens(answer: Answer, prompt: Prompt) -> Answer:
    left = prompt.max_tokens
    kept: list[Block] = []
    for block in answer.blocks:
        tokens = prompt.model.tokens(len(block.text))
        if tokens <= left:
            kept.append(block)
            left -= tokens
            continue
        if left and block.kind != "tool_use":  # half of a tool's input is no JSON: the whole call is left out
            kept.append(replace(block, text=block.text[: prompt.model.chars(left)]))
        return replace(answer, blocks=tuple(kept), stop_reason="max_tokens", stop_sequence=None)
    return answer
