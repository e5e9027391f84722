"""Requests to the simulator, damaged in any way: each is answered or refused as the API would refuse it."""

from __future__ import annotations

import random

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from promptmill.testing.simulator import ManualClock, SimulatorConfig
from promptmill.testing.simulator.provider import Provider
from promptmill.testing.simulator.replies import ErrorReply
from tests.support.damage import damaged_json
from tests.support.effort import cases

WHOLE = {
    "model": "claude-haiku-5-5",
    "max_tokens": 200,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": 'Answer as JSON with keys: a, b. Mention "stars" in at most ten words.'},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "3"}]},
    ],
    "stop_sequences": ["END"],
    "thinking": {"type": "disabled"},
    "tools": [{"name": "look", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}],
    "tool_choice": {"type": "auto"},
    "output_config": {
        "format": {"type": "json_schema", "schema": {"type": "object", "properties": {"a": {"enum": [1]}}}}
    },
    "metadata": {"user_id": "u"},
}


@settings(max_examples=cases(300))
@given(seed=st.integers(0, 2**64))
def test_ten_damaged_requests_are_answered_or_refused(seed):
    chance = random.Random(seed)
    provider = Provider(SimulatorConfig(), ManualClock())
    for number in range(10):
        plan = provider.create(damaged_json(WHOLE, chance), authorization="Bearer key", job=f"job-{number}")
        if isinstance(plan.does, ErrorReply):
            assert 400 <= plan.does.status < 500
            assert plan.does.message
        else:
            message = plan.does.answer.message()
            assert orjson.loads(orjson.dumps(message)) == message
