"""Which fault strikes which request, what it costs, and what the wrong answers look like."""

import unicodedata
from datetime import timedelta

import pytest
from pydantic import ValidationError

from promptmill.testing.simulator import FAULTS, Control, FaultRule
from promptmill.testing.simulator.faults import Reached
from promptmill.testing.simulator.provider import Delivery
from promptmill.testing.simulator.replies import ErrorReply


def status(plan) -> int:
    return 200 if isinstance(plan.does, Delivery) else plan.does.status


def struck(desk, times: int, **body) -> list[bool]:
    return [status(desk.ask(f"Request {n}.", **body)) == 529 for n in range(times)]


def test_a_rule_without_conditions_strikes_always(desk_with):
    assert all(struck(desk_with(faults=[FaultRule(fault="overloaded_error")]), 5))


def test_a_probability_strikes_that_often_and_the_same_requests_every_time(desk_with):
    rule = FaultRule(fault="overloaded_error", probability=0.3)
    first = struck(desk_with(faults=[rule]), 1_000)
    assert sum(first) == pytest.approx(300, abs=60)
    assert struck(desk_with(faults=[rule]), 1_000) == first
    assert struck(desk_with(faults=[rule], seed=1), 1_000) != first


def test_numbered_requests_are_counted_from_when_the_rule_was_set(desk):
    struck(desk, 3)
    desk.provider.control(Control(faults=[{"fault": "overloaded_error", "requests": [1, 3]}]))
    assert struck(desk, 4) == [True, False, True, False]


def test_an_outage_has_a_start_and_an_end(desk_with):
    outage = FaultRule(fault="overloaded_error", after=timedelta(seconds=10), lasting=timedelta(seconds=5))
    desk = desk_with(faults=[outage])
    assert struck(desk, 1) == [False]
    desk.clock.advance(timedelta(seconds=10))
    assert struck(desk, 1) == [True]
    desk.clock.advance(timedelta(seconds=5) - timedelta(microseconds=1))
    assert struck(desk, 1) == [True]
    desk.clock.advance(timedelta(microseconds=1))
    assert struck(desk, 1) == [False]


def test_a_rule_can_be_for_one_model_class_only(desk_with):
    desk = desk_with(faults=[FaultRule(fault="overloaded_error", models={"claude-haiku-5-5"})])
    assert struck(desk, 1) == [True]
    assert struck(desk, 1, model="claude-sonnet-5-5") == [False]


def test_the_first_rule_that_strikes_wins(desk_with):
    desk = desk_with(
        faults=[FaultRule(fault="api_error", requests={2}), FaultRule(fault="overloaded_error", requests={1, 2})]
    )
    assert [status(desk.ask()) for _ in range(3)] == [529, 500, 200]


@pytest.mark.parametrize("name", ["overload_error", "nonsense"])
def test_an_unknown_fault_in_a_rule_is_refused_with_a_hint(name):
    with pytest.raises(ValidationError, match=r"did you mean 'overloaded_error'|one of: invalid_request_error"):
        FaultRule(fault=name)


def test_a_marker_in_the_prompt_asks_for_its_fault(desk):
    assert status(desk.ask("Hello [[fault:overloaded_error]]")) == 529
    assert status(desk.ask("Hello")) == 200


def test_a_marker_in_the_metadata_asks_too(desk):
    assert status(desk.ask(metadata={"user_id": "me [[fault:api_error]]"})) == 500


def test_a_marker_with_a_number_strikes_the_first_arrivals_of_that_content_only(desk):
    prompts = ["One [[fault:overloaded_error*2]]", "Two [[fault:overloaded_error*2]]"]
    told = [[status(desk.ask(prompt)) for prompt in prompts] for _ in range(4)]
    assert told == [[529, 529], [529, 529], [200, 200], [200, 200]]


def test_several_markers_follow_one_another(desk):
    prompt = "[[fault:overloaded_error*1]] Hello [[fault:api_error*2]]"
    assert [status(desk.ask(prompt)) for _ in range(4)] == [529, 500, 500, 200]


def test_a_request_that_the_rate_limiter_refused_uses_no_marker_up(desk_with):
    desk = desk_with(limits={"rpm": 60, "burst": 1})
    prompt = "Hello [[fault:overloaded_error*1]]"
    desk.ask()
    assert status(desk.ask(prompt)) == 429
    desk.clock.advance(timedelta(seconds=1))
    assert status(desk.ask(prompt)) == 529
    desk.clock.advance(timedelta(seconds=1))
    assert status(desk.ask(prompt)) == 200


def test_an_unknown_marker_is_answered_with_400_and_a_hint(desk):
    reply = desk.ask("[[fault:overload_error]]").does
    assert (reply.status, reply.message.endswith("did you mean 'overloaded_error'?")) == (400, True)


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_fault_costs(desk_with, name):
    desk = desk_with(limits={"rpm": 600, "itpm": 60_000, "otpm": 60_000, "depth": 1})
    desk.ask(f"Hello [[fault:{name}]]")
    stats, reached = desk.provider.snapshot(), FAULTS[name].reached
    assert stats.by_fault == {name: 1}
    assert (stats.input_tokens_granted > 0) == (reached is not Reached.EDGE)
    assert stats.billed == (1 if reached is Reached.MODEL else 0)
    requests = stats.use.get("haiku-5-5", {}).get("requests")
    assert (requests.granted if requests else 0) == (0 if reached is Reached.EDGE else 1)


def test_a_failed_request_gives_back_what_max_tokens_was_charged(desk_with):
    desk = desk_with(limits={"otpm": 60_000}, charge_max_tokens=True)
    desk.ask("Hello [[fault:api_error]]", max_tokens=5_000)
    assert desk.provider.snapshot().use["haiku-5-5"]["output-tokens"].granted == 0


def test_errors_carry_their_code_and_retry_after_where_the_api_does():
    told = {name: (fault.action.error_code, fault.action.retry_after) for name, fault in errors_with(429).items()}
    assert told == {
        "rate_limit_error": (None, 2),
        "rate_limit_error_without_retry_after": (None, None),
        "ramp_limit_exceeded": ("ramp_limit_exceeded", 5),
        "enforced_spend_limit_reached": ("enforced_spend_limit_reached", None),
        "contract_spend_limit_reached": ("contract_spend_limit_reached", None),
    }


def test_the_own_spend_limit_is_a_400_that_begins_as_documented(desk):
    reply = desk.ask("[[fault:own_spend_limit_reached]]").does
    assert (reply.status, reply.kind) == (400, "invalid_request_error")
    assert reply.message.startswith("You have reached your specified")


def errors_with(code: int) -> dict[str, object]:
    return {
        name: fault
        for name, fault in FAULTS.items()
        if isinstance(fault.action, ErrorReply) and fault.action.status == code
    }


PROMPT = "Tell me about old rivers and new bridges in at most 60 words."


def scripts(text: str) -> set[str]:
    return {unicodedata.name(char).split()[0] for char in text if char.isalpha()}


def test_stray_script_puts_other_characters_into_an_english_answer(desk):
    assert scripts(desk.text(PROMPT)) == {"LATIN"}
    assert scripts(desk.text(f"{PROMPT} [[fault:stray_script]]")) & {"THAI", "CJK"}


def test_a_short_answer_is_five_words_that_claim_to_be_complete(desk):
    message = desk.message(f"{PROMPT} [[fault:short_answer]]")
    assert (len(message["content"][0]["text"].split()), message["stop_reason"]) == (5, "end_turn")


TOOL = {"name": "add", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}


def test_an_unfit_tool_input_is_a_call_that_nobody_asked_for(desk):
    asked = {"tools": [TOOL], "tool_choice": {"type": "any"}}
    fit = desk.message("Add.", **asked)["content"][-1]["input"]
    unfit = desk.message("Add. [[fault:unfit_tool_input]]", **asked)["content"][-1]["input"]
    assert (set(fit), set(unfit)) == ({"a"}, {"nobody_asked_for"})


def test_a_message_cut_at_max_tokens_is_half_of_what_it_would_have_been(desk):
    whole, cut = desk.message(PROMPT), desk.message(f"{PROMPT} [[fault:max_tokens]]")
    assert (whole["stop_reason"], cut["stop_reason"]) == ("end_turn", "max_tokens")
    assert len(cut["content"][0]["text"]) < len(whole["content"][0]["text"])


def test_a_worse_model_ignores_the_format_it_was_asked_for(desk):
    text = desk.text("Answer in JSON about rivers. [[fault:worse_model]]")
    assert not text.startswith("{")


def test_a_degraded_mode_can_be_a_matter_of_chance(desk_with):
    desk = desk_with(faults=[FaultRule(fault="stray_script", probability=0.16)])
    stray = sum(scripts(desk.text(PROMPT)) != {"LATIN"} for _ in range(500))
    assert stray == pytest.approx(80, abs=30)
