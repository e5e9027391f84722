"""A checked request, read once: what the model would see of it, and how much that is."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import orjson

from promptmill.testing.simulator.models import Model

_NOT_CONTENT = frozenset({"stream", "metadata"})
_FLAT_TOKENS = {"image": 1_600, "document": 3_000}
"""A picture's data says nothing about its tokens; a flat figure is nearer."""
_HOUR = timedelta(hours=1)
_FIVE_MINUTES = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Piece:
    """One cacheable part of a prompt, in the order the cache sees them: tools, system, messages."""

    text: str
    flat_tokens: int = 0
    role: Literal["tool", "system", "user", "assistant"] = "user"
    cache_for: timedelta | None = None
    """Time to live of a cache breakpoint behind this piece; None: no breakpoint."""


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """A prefix of the prompt that is to be cached."""

    digest: bytes
    tokens: int
    cache_for: timedelta

    @property
    def for_an_hour(self) -> bool:
        """Whether it has the longer, dearer time to live."""
        return self.cache_for == _HOUR


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model sees of one request."""

    body: dict[str, Any]
    model: Model
    text: str
    """System prompt and the last turn of the user: where topics and instructions are."""
    digest: bytes
    """Of everything but `stream` and `metadata`: two requests for the same answer have the same digest."""
    tokens: int
    breakpoints: tuple[Breakpoint, ...]

    @property
    def max_tokens(self) -> int:
        """The most that may be generated; 0 when only tokens are counted."""
        return int(self.body.get("max_tokens", 0))

    @property
    def streams(self) -> bool:
        """Whether the client wants the answer in events."""
        return self.body.get("stream") is True


def read_prompt(body: dict[str, Any], model: Model) -> Prompt:
    """Read a request that `validation` has accepted."""
    pieces = list(_pieces(body))
    turns = [piece.text for piece in pieces if piece.role == "system"]
    turns += _last_turn(pieces)
    content = {key: value for key, value in body.items() if key not in _NOT_CONTENT}
    return Prompt(
        body=body,
        model=model,
        text="\n".join(turns),
        digest=hashlib.blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=8).digest(),
        tokens=max(_tokens(model, pieces), 1),
        breakpoints=tuple(_breakpoints(model, pieces)),
    )


def _pieces(body: dict[str, Any]) -> Iterator[Piece]:
    pieces = [
        *(_tool_piece(tool) for tool in body.get("tools") or ()),
        *_content_pieces(body.get("system") or "", "system"),
    ]
    for message in body["messages"]:
        pieces.extend(_content_pieces(message["content"], message["role"]))
    if body.get("cache_control") and pieces:
        last = pieces[-1]
        pieces[-1] = Piece(last.text, last.flat_tokens, last.role, _time_to_live(body))
    yield from pieces


def _tool_piece(tool: dict[str, Any]) -> Piece:
    return Piece(orjson.dumps(tool).decode(), role="tool", cache_for=_time_to_live(tool))


def _content_pieces(content: Any, role: Literal["system", "user", "assistant"]) -> Iterator[Piece]:
    if isinstance(content, str):
        if content:
            yield Piece(content, role=role)
        return
    for block in content:
        text, flat_tokens = _block_text(block)
        yield Piece(text, flat_tokens, role, _time_to_live(block))


def _block_text(block: dict[str, Any]) -> tuple[str, int]:
    """Return the text of one content block, and a flat number of tokens for what is not text."""
    match block.get("type"):
        case "text":
            return block["text"], 0
        case "tool_result":
            inner = block.get("content") or ""
            if isinstance(inner, str):
                return inner, 0
            parts = [_block_text(part) for part in inner]
            return "".join(text for text, _ in parts), sum(flat for _, flat in parts)
        case "image" | "document" as kind:
            source = block.get("source") or {}
            if source.get("type") == "text":
                return str(source.get("data", "")), 0
            return "", _FLAT_TOKENS[kind]
        case _:
            return orjson.dumps(block).decode(), 0


def _time_to_live(marked: dict[str, Any]) -> timedelta | None:
    control = marked.get("cache_control")
    if not isinstance(control, dict):
        return None
    return _HOUR if control.get("ttl") == "1h" else _FIVE_MINUTES


def _last_turn(pieces: list[Piece]) -> list[str]:
    turn: list[str] = []
    for piece in reversed(pieces):
        if piece.role == "user":
            turn.insert(0, piece.text)
        elif turn:
            break
    return turn


def _tokens(model: Model, pieces: list[Piece]) -> int:
    return model.tokens(sum(len(piece.text) for piece in pieces)) + sum(piece.flat_tokens for piece in pieces)


def _breakpoints(model: Model, pieces: list[Piece]) -> Iterator[Breakpoint]:
    if not any(piece.cache_for for piece in pieces):
        return
    digest = hashlib.blake2b(model.id.encode(), digest_size=16)
    for index, piece in enumerate(pieces):
        digest.update(f"{piece.role} {len(piece.text)} {piece.text}".encode())
        if piece.cache_for is not None:
            yield Breakpoint(digest.copy().digest(), _tokens(model, pieces[: index + 1]), piece.cache_for)
