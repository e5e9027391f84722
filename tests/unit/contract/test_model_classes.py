"""Whose budget a model draws on, and what a request is expected to cost."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.models import CLASS_LIMITS, KNOWN_MODELS, UnknownModel, class_of, estimate_input_tokens
from promptmill.queue import expected_cost
from promptmill.settings import Settings


@pytest.mark.parametrize(
    ("model", "model_class"),
    [
        ("claude-haiku-5-5", "haiku-5-5"),
        ("claude-haiku-5-5-20260901", "haiku-5-5"),
        ("claude-haiku-5-5-latest", "haiku-5-5"),
        ("claude-haiku-4-5", "haiku-4-5"),
        ("claude-haiku-4-5-20251001", "haiku-4-5"),
        ("claude-sonnet-5", "sonnet-5"),
        ("claude-sonnet-5-5", "sonnet-5"),
        ("claude-sonnet-5-20260101", "sonnet-5"),
        ("claude-sonnet-5-5-20260101", "sonnet-5"),
        ("claude-opus-5-5", "opus-5"),
        ("claude-fable-5", "fable-5"),
        ("claude-fable-5-1", "fable-5"),
    ],
)
def test_names_of_one_model_share_one_budget(model, model_class):
    assert class_of(model) == model_class
    assert model_class in CLASS_LIMITS


@pytest.mark.parametrize(
    "model",
    [
        "",
        "haiku-5-5",
        "claude-haiku-5",
        "claude-haiku-5-55",
        "claude-haiku-5-5x",
        "claude-sonnet-55",
        "claude-opus-4-1",
        "my-claude-haiku-5-5",
        "gpt-5",
    ],
)
def test_a_name_that_only_looks_like_one_is_unknown(model):
    with pytest.raises(UnknownModel):
        class_of(model)


def test_an_unknown_model_says_which_are_known_and_how_to_declare_another():
    with pytest.raises(UnknownModel) as raised:
        class_of("claude-haiku-55", {"mine": "mine"})
    message = str(raised.value)
    assert "no rate limits are known for model 'claude-haiku-55'; did you mean 'claude-haiku-5-5'?" in message
    assert all(known in message for known in (*KNOWN_MODELS, "mine"))
    assert '[budgets."claude-haiku-55"]' in message


def test_the_message_about_a_very_long_name_is_short():
    with pytest.raises(UnknownModel) as raised:
        class_of("x" * 5_000_000)
    assert len(str(raised.value)) < 600


def test_what_is_declared_wins_and_covers_dated_names_too():
    declared = {"claude-haiku-5-5": "mine", "my-model": "mine"}
    assert class_of("claude-haiku-5-5", declared) == "mine"
    assert class_of("claude-haiku-5-5-20260901", declared) == "mine"
    assert class_of("my-model-latest", declared) == "mine"
    assert class_of("claude-haiku-4-5", declared) == "haiku-4-5"


@given(st.text(st.characters()))
def test_any_name_has_a_class_or_is_unknown(model):
    try:
        assert class_of(model) in CLASS_LIMITS
    except UnknownModel:
        assert model not in KNOWN_MODELS


# tokens --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "per_token"), [("claude-haiku-5-5", 2.5), ("claude-haiku-4-5", 3.5)])
@given(text=st.text())
def test_a_prompt_is_estimated_by_its_characters(model, per_token, text):
    request = {"model": model, "messages": [{"content": text}]}
    assert estimate_input_tokens(request) == max(1, math.ceil(len(text) / per_token))


def test_system_messages_and_tools_count_and_the_rest_does_not():
    text = "x" * 250
    counted = {"system": text, "messages": [{"content": text}], "tools": [{"name": text}], "output_config": {"a": text}}
    ignored = {"metadata": text, "stop_sequences": [text], "max_tokens": 10**9}
    assert estimate_input_tokens({"model": "claude-haiku-5-5", **counted, **ignored}) == 400


def test_an_image_counts_as_a_page_however_many_bytes_it_has():
    def image(size: int):
        source = {"type": "base64", "media_type": "image/png", "data": "x" * size}
        return {"model": "claude-haiku-5-5", "messages": [{"content": [{"type": "image", "source": source}]}]}

    assert estimate_input_tokens(image(10)) == estimate_input_tokens(image(1_000_000)) == 2_002


def test_a_request_nested_100_000_deep_is_counted():
    inside: object = "x" * 100
    for number in range(100_000):
        inside = [inside] if number % 2 else {"a": inside}
    assert estimate_input_tokens({"model": "claude-haiku-5-5", "messages": [inside]}) == 40


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside) | st.tuples(inside),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["model", "system", "messages", "tools", "output_config"]), anything))
def test_whatever_a_request_holds_costs_at_least_a_token(request_body):
    assert estimate_input_tokens(request_body) >= 1


def test_an_answer_is_reserved_as_usual_or_as_short_as_it_has_to_be():
    settings = Settings.load(environ={}, expected_output_tokens=500)
    request = {"model": "claude-haiku-5-5", "messages": [{"content": "x" * 25}]}
    assert expected_cost({**request, "max_tokens": 4_000}, settings).output == 500
    cost = expected_cost({**request, "max_tokens": 40}, settings)
    assert (cost.requests, cost.input, cost.output) == (1, 10, 40)
