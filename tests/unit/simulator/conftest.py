"""One provider behind no server at all, on a clock that the test moves."""

from typing import Any

import orjson
import pytest

from promptmill.testing.simulator import ManualClock, SimulatorConfig
from promptmill.testing.simulator.provider import Plan, Provider


class Desk:
    """Asks a provider as a client would, and reads what it plans to send."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.clock = ManualClock()
        self.provider = Provider(config, self.clock)

    def ask(self, prompt: Any = "Tell me about rivers.", *, key: str = "key", job: str | None = None, **body) -> Plan:
        request = {
            "model": "claude-haiku-5-5",
            "max_tokens": 1_000,
            "messages": [{"role": "user", "content": prompt}],
            **body,
        }
        return self.ask_raw(orjson.dumps(request), key=key, job=job)

    def ask_raw(self, raw: bytes | None, *, key: str = "key", job: str | None = None) -> Plan:
        return self.provider.create(raw, authorization=f"Bearer {key}", job=job)

    def message(self, prompt: Any = "Tell me about rivers.", **body) -> dict[str, Any]:
        """The body of a whole answer."""
        return self.ask(prompt, **body).does.answer.message()

    def text(self, prompt: Any = "Tell me about rivers.", **body) -> str:
        return "".join(block["text"] for block in self.message(prompt, **body)["content"] if block["type"] == "text")


@pytest.fixture
def desk_with():
    return lambda **settings: Desk(SimulatorConfig(**settings))


@pytest.fixture
def desk():
    return Desk(SimulatorConfig())
