"""An answer of the model, before it is put on the wire: whole as a Message, or piecewise as stream events."""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import orjson

from promptmill.testing.simulator.models import Model


@dataclass(frozen=True, slots=True)
class Block:
    """One content block. `text` is what was generated: prose, thinking, or a tool's input as JSON."""

    kind: Literal["text", "thinking", "tool_use"]
    text: str
    tool: str = ""
    hidden: bool = False
    """Thinking that is paid for and not shown."""

    @property
    def shown(self) -> str:
        """What the client gets to see of `text`."""
        return "" if self.hidden else self.text


@dataclass(frozen=True, slots=True)
class InputUsage:
    """Input tokens of one request, split as they are billed."""

    fresh: int
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0

    @property
    def limited(self) -> int:
        """What counts against the input limit: cache reads are free."""
        return self.fresh + self.cache_write_5m + self.cache_write_1h

    @property
    def total(self) -> int:
        """Length of the prompt."""
        return self.limited + self.cache_read


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model generated for one request, and why it stopped."""

    id: str
    model: Model
    model_name: str
    """As the request named it."""
    usage: InputUsage
    blocks: tuple[Block, ...]
    stop_reason: str | None
    stop_sequence: str | None = None
    stop_details: dict[str, Any] | None = None
    tells_usage: bool = True

    @property
    def output_tokens(self) -> int:
        """Tokens generated, thinking included; at least 1, as in an empty answer."""
        return max(sum(self.model.tokens(len(block.text)) for block in self.blocks), 1)

    @property
    def thinking_tokens(self) -> int:
        """Tokens of the thinking blocks alone."""
        return sum(self.model.tokens(len(block.text)) for block in self.blocks if block.kind == "thinking")

    def with_text(self, text: str) -> Self:
        """Return the same answer saying `text` instead; answers without a text block stay as they are."""
        return replace(
            self,
            blocks=tuple(replace(block, text=text) if block.kind == "text" else block for block in self.blocks),
        )

    @property
    def text(self) -> str:
        """All text blocks together."""
        return "".join(block.text for block in self.blocks if block.kind == "text")

    def message(self) -> dict[str, Any]:
        """Return the body of a whole, non-streaming answer."""
        content = [block_json(self.id, index, block) for index, block in enumerate(self.blocks)]
        return self._envelope(
            content=content,
            stop_reason=self.stop_reason,
            stop_sequence=self.stop_sequence,
            stop_details=self.stop_details,
            usage=self.usage_json(self.output_tokens),
        )

    def opening(self) -> dict[str, Any]:
        """Return the Message a stream begins with: no content, no stop reason, hardly any output."""
        return self._envelope(
            content=[], stop_reason=None, stop_sequence=None, stop_details=None, usage=self.usage_json(1)
        )

    def usage_json(self, output_tokens: int) -> dict[str, Any]:
        """Return `usage` as it stands once `output_tokens` were generated."""
        usage = self.usage
        told: dict[str, Any] = {
            "input_tokens": usage.fresh,
            "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": usage.cache_write_5m,
                "ephemeral_1h_input_tokens": usage.cache_write_1h,
            },
            "output_tokens": output_tokens,
            "service_tier": "standard",
        }
        if self.thinking_tokens:
            told["output_tokens_details"] = {"thinking_tokens": min(self.thinking_tokens, output_tokens)}
        return told

    def _envelope(self, **fields: Any) -> dict[str, Any]:
        if not self.tells_usage:
            del fields["usage"]
        return {"id": self.id, "type": "message", "role": "assistant", "model": self.model_name, **fields}


def block_json(message_id: str, index: int, block: Block, *, empty: bool = False) -> dict[str, Any]:
    """Return a content block as the API shows it; `empty` as a stream opens it."""
    match block.kind:
        case "text":
            return {"type": "text", "text": "" if empty else block.text}
        case "thinking":
            return {
                "type": "thinking",
                "thinking": "" if empty else block.shown,
                "signature": "" if empty else signature(message_id, index),
            }
        case "tool_use":
            return {
                "type": "tool_use",
                "id": f"toolu_{message_id.removeprefix('msg_')}{index:02d}",
                "name": block.tool,
                "input": {} if empty else orjson.loads(block.text),
            }


def signature(message_id: str, index: int) -> str:
    """Return the opaque signature of a thinking block."""
    return f"simulated-{message_id}-{index}"
