"""What the simulated model writes: reproducible, obedient, within its limits."""

import re
import statistics
from datetime import timedelta

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.testing.simulator import Answers, Latency, SimulatorConfig
from promptmill.testing.simulator.instructions import read_wishes


def test_the_same_request_gets_the_same_answer_and_takes_equally_long(desk_with):
    latency = Latency(first_byte=timedelta(seconds=1), sigma=0.8, per_token=timedelta(milliseconds=5))
    first, second = desk_with(latency=latency), desk_with(latency=latency)
    second.ask("Something else first.")
    one, other = first.ask("Tell me about rivers."), second.ask("Tell me about rivers.")
    assert one.does.answer.text == other.does.answer.text
    assert one.due_ns == other.due_ns


def test_streaming_changes_nothing_about_the_answer(desk):
    assert desk.ask(stream=True).does.answer.text == desk.ask().does.answer.text


def test_latency_changes_nothing_about_the_answer(desk, desk_with):
    slow = desk_with(latency=Latency(first_byte=timedelta(seconds=9), sigma=1))
    assert slow.text() == desk.text()


def test_another_seed_gives_another_answer(desk, desk_with):
    assert desk_with(seed=1).text() != desk.text()


def test_the_answer_is_about_the_words_of_the_prompt(desk):
    text = desk.text("Please write about granite bridges and medieval masonry.")
    assert {"granite", "bridges", "medieval", "masonry"} & set(re.findall(r"\w+", text.lower()))


@pytest.mark.parametrize("limit", [1, 5, 12, 40, 200])
def test_at_most_so_many_words(desk, limit):
    words = desk.text(f"Describe the harbour of Genoa in at most {limit} words.").split()
    assert 1 <= len(words) <= limit


def test_so_many_sentences_or_bullets(desk):
    assert desk.text("Describe rivers in two sentences.").count(".") == 2
    bullets = desk.text("Give me 4 short bullet points about rivers.").splitlines()
    assert [line[:2] for line in bullets] == ["- "] * 4


def test_json_with_the_keys_asked_for(desk):
    told = orjson.loads(desk.text('Answer in JSON with the keys "title", "score" and "tags" about rivers.'))
    assert list(told) == ["title", "score", "tags"]
    assert isinstance(told["score"], int)
    assert isinstance(told["tags"], list)


def test_python_that_compiles_when_code_is_asked_for(desk):
    code = re.search(r"```python\n(.*?)```", desk.text("Write a function that sorts invoices by date."), re.DOTALL)
    compile(code.group(1), "answer", "exec")


def test_sql_when_sql_is_asked_for(desk):
    assert desk.text("Write a SQL query for overdue invoices.").startswith("```sql\nSELECT")


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Reply with exactly: PONG", "PONG"),
        ('Answer only with "ready to go".', "ready to go"),
        ("What is 17 + 25? Give the number only.", "42"),
    ],
)
def test_exact_answers_to_canaries(desk, prompt, answer):
    assert desk.text(prompt) == answer


def test_one_of_the_choices(desk):
    answers = {desk.text(f"Classify as one of: positive, negative or neutral. Text {n}.") for n in range(20)}
    assert answers == {"positive", "negative", "neutral"}


def test_phrases_that_must_occur(desk):
    assert "northern line" in desk.text('Write about trains and mention "northern line" in at most 20 words.')


def test_instructions_in_a_system_prompt_count(desk):
    assert orjson.loads(desk.text("Tell me about rivers.", system="Always answer in JSON."))


@given(st.text(max_size=300))
def test_reading_a_prompt_never_fails(text):
    read_wishes(text)


@pytest.mark.parametrize("wish", ["in 999999999 sentences", "as 999999999 bullets", f"at most {'9' * 5_000} words"])
def test_outrageous_wishes_are_not_followed_to_the_end(desk, wish):
    assert desk.message(f"Describe rivers {wish}.")["usage"]["output_tokens"] <= 1_000


def test_a_prompt_of_many_instructions_is_read_quickly_enough(desk):
    assert desk.text("answer only say just reply exactly " * 300)


def test_answers_have_the_mean_length_and_a_heavy_tail(desk_with):
    desk = desk_with(answers=Answers(mean_tokens=200, sigma=1.0))
    lengths = [
        desk.ask(f"Tell me about river number {n}.", max_tokens=100_000).does.answer.output_tokens for n in range(800)
    ]
    assert statistics.mean(lengths) == pytest.approx(200, rel=0.2)
    assert max(lengths) > 6 * statistics.median(lengths)


def test_max_tokens_cuts_the_answer_and_says_so(desk):
    message = desk.message(max_tokens=7)
    assert message["stop_reason"] == "max_tokens"
    assert message["usage"]["output_tokens"] == 7


def test_no_tokens_at_all_prewarms_the_cache_without_an_answer(desk):
    message = desk.message(max_tokens=0)
    assert (message["content"], message["stop_reason"]) == ([], "max_tokens")


def test_a_stop_sequence_ends_the_answer_before_it(desk):
    message = desk.message("Tell me about rivers.", stop_sequences=["never", ". "])
    stopped = message["content"][0]["text"]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", ". ")
    assert stopped
    assert ". " not in stopped


@pytest.mark.parametrize("thinking", [{"type": "adaptive"}, {"type": "enabled", "budget_tokens": 1_024}])
def test_thinking_comes_first_and_is_counted(desk, thinking):
    message = desk.message(thinking=thinking, max_tokens=4_000)
    assert [block["type"] for block in message["content"]] == ["thinking", "text"]
    assert message["content"][0]["signature"]
    details = message["usage"]["output_tokens_details"]
    assert 0 < details["thinking_tokens"] < message["usage"]["output_tokens"]


def test_omitted_thinking_is_not_shown_but_paid_for(desk):
    message = desk.message(thinking={"type": "adaptive", "display": "omitted"}, max_tokens=4_000)
    assert message["content"][0]["thinking"] == ""
    assert message["usage"]["output_tokens_details"]["thinking_tokens"] > 0


def test_thinking_alone_can_use_up_max_tokens(desk):
    message = desk.message(thinking={"type": "adaptive"}, max_tokens=5)
    assert [block["type"] for block in message["content"]] == ["thinking"]
    assert message["stop_reason"] == "max_tokens"


SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 3, "maxLength": 20},
        "grade": {"enum": ["a", "b", "c"]},
        "year": {"type": "integer", "minimum": 1990, "maximum": 1999},
        "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "when": {"type": "string", "format": "date-time"},
        "sources": {"type": "array", "items": {"$ref": "#/$defs/source"}, "minItems": 2, "maxItems": 4},
        "note": {"type": ["string", "null"]},
        "kind": {"const": "report"},
        "either": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        "both": {"allOf": [{"$ref": "#/$defs/source"}, {"type": "object", "required": ["extra"]}]},
    },
    "required": ["title", "grade", "sources"],
    "additionalProperties": False,
    "$defs": {
        "source": {
            "type": "object",
            "properties": {"url": {"type": "string", "format": "uri"}, "page": {"type": "integer"}},
            "required": ["url"],
        }
    },
}


@pytest.mark.parametrize("attempt", range(10))
def test_structured_output_fits_its_schema(desk, attempt):
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    jsonschema.validate(orjson.loads(desk.text(f"Report {attempt}.", output_config=config, max_tokens=5_000)), SCHEMA)


def test_a_recursive_schema_comes_to_an_end(desk):
    tree = {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#"}}, "name": {"type": "string"}},
        "required": ["name"],
    }
    config = {"format": {"type": "json_schema", "schema": tree}}
    text = desk.text("A tree.", output_config=config, max_tokens=128_000)
    jsonschema.validate(orjson.loads(text), tree)


@pytest.mark.parametrize(
    "schema", [{"type": "object", "properties": [1]}, {"type": "integer", "minimum": "low"}, {"enum": 5}], ids=str
)
def test_a_schema_that_is_none_is_refused_with_400(desk, schema):
    plan = desk.ask(output_config={"format": {"type": "json_schema", "schema": schema}})
    assert (plan.does.status, plan.does.kind) == (400, "invalid_request_error")


TOOLS = [
    {"name": "get_weather", "input_schema": SCHEMA},
    {"name": "get_time", "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}}},
]


def test_a_tool_that_must_be_used_is_used_with_fitting_input(desk):
    message = desk.message(tools=TOOLS, tool_choice={"type": "tool", "name": "get_weather"}, max_tokens=5_000)
    call = message["content"][-1]
    assert (message["stop_reason"], call["type"], call["name"]) == ("tool_use", "tool_use", "get_weather")
    jsonschema.validate(call["input"], SCHEMA)


def test_any_tool_means_one_of_them_and_auto_means_none(desk):
    used = {
        desk.message(f"Call {n}.", tools=TOOLS, tool_choice={"type": "any"}, max_tokens=5_000)["content"][0]["name"]
        for n in range(20)
    }
    assert used == {"get_weather", "get_time"}
    assert desk.message(tools=TOOLS, tool_choice={"type": "auto"})["stop_reason"] == "end_turn"


def test_a_tool_call_that_does_not_fit_max_tokens_is_left_out(desk):
    message = desk.message(tools=TOOLS, tool_choice={"type": "tool", "name": "get_weather"}, max_tokens=3)
    assert (message["content"], message["stop_reason"]) == ([], "max_tokens")


@pytest.mark.parametrize(
    ("model", "tokens"), [("claude-haiku-4-5-20251001", 4), ("claude-haiku-5-5", 5), ("claude-sonnet-5-5", 5)]
)
def test_input_tokens_follow_the_local_rule_of_the_model(desk, model, tokens):
    assert desk.message("twelve chars", model=model)["usage"]["input_tokens"] == tokens


def test_output_tokens_follow_it_too(desk):
    assert desk.message("Reply with exactly: 1234567", model="claude-haiku-4-5")["usage"]["output_tokens"] == 2
    assert desk.message("Reply with exactly: 12345678", model="claude-haiku-4-5")["usage"]["output_tokens"] == 3


def cached(text: str, **control) -> list[dict]:
    marked = {"type": "text", "text": text, "cache_control": {"type": "ephemeral", **control}}
    return [marked, {"type": "text", "text": "1234567890"}]


def usage_of(message) -> tuple[int, int, int]:
    usage = message["usage"]
    return usage["input_tokens"], usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]


def test_a_prefix_is_written_once_then_read_until_it_expires(desk):
    prompt = cached("x" * 100)
    assert usage_of(desk.message(prompt)) == (4, 40, 0)
    assert usage_of(desk.message(prompt)) == (4, 0, 40)
    desk.clock.advance(timedelta(minutes=5))
    assert usage_of(desk.message(prompt)) == (4, 40, 0)


def test_a_prefix_can_be_kept_for_an_hour(desk):
    prompt = cached("x" * 100, ttl="1h")
    assert desk.message(prompt)["usage"]["cache_creation"] == {
        "ephemeral_1h_input_tokens": 40,
        "ephemeral_5m_input_tokens": 0,
    }
    desk.clock.advance(timedelta(minutes=59))
    assert usage_of(desk.message(prompt)) == (4, 0, 40)


def test_a_longer_prompt_reads_the_part_that_it_shares(desk):
    first = [*cached("x" * 100)[:1], {"type": "text", "text": "y" * 50, "cache_control": {"type": "ephemeral"}}]
    desk.message(cached("x" * 100))
    assert usage_of(desk.message(first)) == (0, 20, 40)


def test_another_model_does_not_share_the_cache(desk):
    desk.message(cached("x" * 100))
    assert usage_of(desk.message(cached("x" * 100), model="claude-sonnet-5"))[2] == 0


def test_cache_reads_are_free_under_the_input_limit(desk_with):
    desk = desk_with(limits={"itpm": 100})
    for _ in range(3):
        desk.message(cached("x" * 100))
    assert desk.provider.stats.input_tokens_granted == 44 + 4 + 4


def test_a_request_that_was_refused_leaves_nothing_in_the_cache(desk_with):
    desk = desk_with(limits={"rpm": 60, "burst": 1})
    desk.ask("Something else.")
    assert desk.ask(cached("x" * 100)).does.status == 429
    desk.clock.advance(timedelta(seconds=1))
    assert usage_of(desk.message(cached("x" * 100))) == (4, 40, 0)


def test_tools_system_and_pictures_count_as_input(desk):
    plain = desk.message("Hello")["usage"]["input_tokens"]
    assert desk.message("Hello", system="12345678901234567890")["usage"]["input_tokens"] == plain + 8
    assert desk.message("Hello", tools=TOOLS)["usage"]["input_tokens"] > plain + 100
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}}
    assert desk.message([picture, {"type": "text", "text": "Hello"}])["usage"]["input_tokens"] == plain + 1_600


def test_settings_can_be_given_as_plain_numbers():
    assert SimulatorConfig(latency={"first_byte": 0.5}).latency.first_byte == timedelta(milliseconds=500)
