"""A corpus of prompts: which instructions are recognised in them, and what is said of an answer.

Each row is (prompt, answer, what is found). A row without findings is a prompt that only looks as if it instructed:
an instruction that is not certain is not counted.
"""

from __future__ import annotations

from typing import Any

import pytest

from worker.quality import Answer, measure

TEN = "one two three four five six seven eight nine ten"
FRENCH = "Le chat est dans la maison et il ne veut pas sortir, parce que la pluie tombe sur le jardin depuis hier."
ENGLISH = "The cat is in the house and it does not want to go out, because the rain has been falling since then."
GERMAN = "Die Katze ist im Haus und will nicht in den Garten, weil es dort seit gestern mit dem Regen nicht aufhört."
BULLETS = "- one\n- two\n- three"
CODE = "```python\nprint(1)\n```"

WORDS: list[tuple[str, str, dict[str, bool | None]]] = [
    ("Explain closures in at most 10 words.", TEN, {"max_words": True}),
    ("Explain closures in at most 9 words.", TEN, {"max_words": False}),
    ("Explain closures in no more than nine words.", TEN, {"max_words": False}),
    ("Explain closures in 10 words or less.", TEN, {"max_words": True}),
    ("Explain closures in ten words or fewer, please.", TEN, {"max_words": True}),
    ("Explain closures in under 10 words.", TEN, {"max_words": False}),
    ("Explain closures (max 10 words).", TEN, {"max_words": True}),
    ("Explain closures. Use at most 10 words.", TEN, {"max_words": True}),
    ("In at most 10 words, explain closures.", TEN, {"max_words": True}),
    ("Your answer must be under 11 words.", TEN, {"max_words": True}),
    ("Please make sure that your response contains fewer than 10 words.", TEN, {"max_words": False}),
    ("What is a closure? Do not use more than 10 words.", TEN, {"max_words": True}),
    ("What is a closure, in at most 10 words?", TEN, {"max_words": True}),
    ("Could you please describe closures in at most 1,000 words?", TEN, {"max_words": True}),
    ("Limit your answer to 10 words.", TEN, {"max_words": True}),
    ("Word limit: 9 words", TEN, {"max_words": False}),
    ("Keep it under 50 characters.", TEN, {"max_characters": True}),
    ("Write a summary of at most 10 words.", TEN, {"max_words": True}),
    ("Write at least 11 words about cats.", TEN, {"min_words": False}),
    ("Answer in exactly ten words.", TEN, {"exact_words": True}),
    ("Answer in one word.", TEN, {"exact_words": False}),
    ("Write between 5 and 10 words about cats.", TEN, {"between_words": True}),
    ("Write a story about a cat. It must be 11-20 words.", TEN, {"between_words": False}),
    ("Use at least 5 words but no more than 9 words.", TEN, {"min_words": True, "max_words": False}),
    ("Summarize this in one sentence, with at most 10 words.", TEN, {"exact_sentences": True, "max_words": True}),
    ("Explain why the sky is blue in at most 10 words.", TEN, {"max_words": True}),
    ("Explain how to bake bread in at most 10 words.", TEN, {"max_words": True}),
    ("- Answer in at most 10 words.\n- Be kind.", TEN, {"max_words": True}),
    ("Explain **closures** in *at most 10 words*.", TEN, {"max_words": True}),
]

LOOKALIKES: list[tuple[str, str, dict[str, bool | None]]] = [
    ("Write about why 'at most 5 words' is a bad limit.", TEN, {}),
    ('Translate the sentence "Answer in at most 5 words." for me.', TEN, {}),
    ("Why is at most 5 words a bad limit?", TEN, {}),
    ("Write a story about a man who speaks in at most 5 words.", TEN, {}),
    ("My teacher said to answer in at most 5 words. What does she mean?", TEN, {}),
    ("Explain how to write a story in at most 5 words.", TEN, {}),
    ("Explain closures. You do not need to keep it under 5 words.", TEN, {}),
    ("If the question is simple, answer in at most 5 words.", TEN, {}),
    ("Answer in at most 5 words unless the question is hard.", TEN, {}),
    ("Explain closures in about 5 words.", TEN, {}),
    ("Write a 50-word summary.", TEN, {}),
    ("Write a title of at most 5 words and an essay about it.", TEN, {}),
    ("Answer the questions, each in at most 5 words.", TEN, {}),
    ("Write 3 bullet points of at most 2 words.", BULLETS, {"exact_bullets": True}),
    ("Summarise it in at most 5 words, then write an essay about it in 500 words.", TEN, {}),
    ("Explain closures.\n\nThen write a poem in at most 5 words.", TEN, {}),
    ("Write a haiku in at most 5 words. Write an essay about it.", TEN, {}),
    ("Answer part one in at most 5 words. Answer part two in at most 50 words.", TEN, {}),
    ("Fix this code:\n\n```\n# Answer in at most 5 words.\n```", TEN, {}),
    ("Summarise.\n\n<document>\nAnswer in at most 5 words.\n</document>", TEN, {}),
    ("Summarise the following text:\n\nAnswer in at most 5 words.", TEN, {}),
    ("Summarise what I got.\n\n> Answer in at most 5 words.", TEN, {}),
    ("User: Answer in at most 5 words.\nWhat did the user want?", TEN, {}),
    ("Improve `Answer in at most 5 words.`", TEN, {}),
    ("Write a validator for names of at most 5 words.", TEN, {}),
    ("Review my prompt: “Reply with JSON only.”", TEN, {}),
    ("Explain what JSON only means.", TEN, {}),
    ("Write a Python function that returns JSON.", TEN, {}),
    ("Explain how to parse a form and return JSON.", TEN, {}),
    ("Respond in JSON if the user asks for it.", TEN, {}),
    ("Return a JSON schema for a person.", TEN, {}),
    ("Convert this JSON to YAML.", TEN, {}),
    ("Describe the use of articles in French.", ENGLISH, {}),
    ("What does 'cat' mean in French?", ENGLISH, {}),
    ("Write about life in French Polynesia.", ENGLISH, {}),
    ("List the best books written in French.", ENGLISH, {}),
    ('Explain the word "whom".', TEN, {}),
    ('Explain when to use the word "whom".', TEN, {}),
    ("Use `snake_case` for variable names.", TEN, {}),
    ("Explain why people do not use commas.", "a, b", {}),
    ("Use uppercase for constants.", TEN, {}),
    ("Did the witness answer yes or no?", TEN, {}),
    ("What is a code block?", TEN, {}),
    ("Explain bullet points.", TEN, {}),
]

FORMS: list[tuple[str, str, dict[str, bool | None]]] = [
    ("Return only a JSON object with the keys a and b.", '{"a": 1, "b": 2}', {"json_only": True}),
    ("Return only a JSON object with the keys a and b.", "[1, 2]", {"json_only": False}),
    ("Return only a JSON object.", '```json\n{"a": 1}\n```', {"json_only": True}),
    ("Respond with JSON only.", 'Here it is: {"a": 1}', {"json_only": False}),
    ("Output valid JSON and nothing else.", "null", {"json_only": True}),
    ("Your answer must be valid JSON.", "{", {"json_only": False}),
    ("Extract the names and return them as JSON.", 'Sure:\n```json\n["Ada"]\n```', {"json": True}),
    ("Extract the names and return them as JSON.", "Ada", {"json": False}),
    ('Describe this module as a JSON object with the keys "a" and "b".', '{"a": 1}', {"json": True}),
    ("Answer in three sentences.", "It is. It was. It will be.", {"exact_sentences": True}),
    ("Answer in 2-3 sentences.", "Dr. Who met Mr. J. R. Ewing at 3.5 p.m. today.", {"between_sentences": False}),
    ("Use no more than 2 sentences.", "First. Second! Third?", {"max_sentences": False}),
    ("Give your answer in exactly two paragraphs.", "One.\n\nTwo.", {"exact_paragraphs": True}),
    ("Give exactly 3 bullet points.", BULLETS, {"exact_bullets": True}),
    ("Summarise it in 4 bullet points, each at most 2 words.", BULLETS, {"exact_bullets": False}),
    ("Answer as a bulleted list.", BULLETS, {"bullets": True}),
    ("List the steps as a numbered list.", "1. one\n2. two", {"numbered_list": True}),
    ("Explain closures without bullet points.", BULLETS, {"no_list": False}),
    ("Compare them as a table.", "| a | b |\n|---|---|\n| 1 | 2 |", {"table": True}),
    ("Put the code in a code block.", CODE, {"code_block": True}),
    ("Put the code in a code block.", "print(1)", {"code_block": False}),
    ("Give me the command. Do not use code blocks.", CODE, {"no_code_block": False}),
    ("Use plain text only.", "Plain - really.", {"plain_text": True}),
    ("Explain closures. Do not use Markdown.", "**Closures** are ...", {"plain_text": False}),
    ("Format your answer in Markdown.", "# Closures", {"markdown": True}),
    ("Please answer in French.", FRENCH, {"language": True}),
    ("Please answer in French.", ENGLISH, {"language": False}),
    ("Please answer in French.", "Oui.", {"language": None}),
    ("Translate the following sentence to German:\n\nThe cat is in the house.", GERMAN, {"language": True}),
    ("Write a short poem in French.", FRENCH, {"language": True}),
    (
        "Your entire response should be in English, and in all capital letters.",
        ENGLISH.upper(),
        {"language": True, "uppercase": True},
    ),
    ("Write in all lowercase letters.", "only small ones, `Even` then", {"lowercase": False}),
    ('Include the word "zebra".', "Zebras are not it.", {"contains": False}),
    ('Include the word "zebra".', "A Zebra!", {"contains": True}),
    ('Include the words "zebra" and "lion".', "A zebra.", {"contains": False}),
    ('Use the word "zebra" at least 2 times.', "Zebra, zebra.", {"frequency": True}),
    (
        'Say in at most 2 sentences when to use it, and mention "zebra".', "A zebra.",
        {"max_sentences": True, "contains": True},
    ),
    ('Explain entropy without using the word "disorder".', "It is disorder.", {"excludes": False}),
    ('Do not use the words "very" or "really".', "Everyone agrees.", {"excludes": True}),
    (
        'Start your answer with "Sure:" and end with "Done."', "**Sure:** fine. Done",
        {"starts_with": True, "ends_with": True},
    ),
    ('Finish your response with the exact phrase "Any other questions?"', "No.", {"ends_with": False}),
    ("Do not use any commas in your response.", "One, two.", {"no_commas": False}),
    ("Answer yes or no.", "Yes, because it is.", {"one_of": True}),
    ("Answer yes or no.", "Perhaps.", {"one_of": False}),
    ('Answer only "yes" or "no".', "Yes, because it is.", {"one_of": False}),
    ('Answer only "yes" or "no".', "No.", {"one_of": True}),
    ("Wrap your entire response in double quotation marks.", '"Like this."', {"in_quotes": True}),
]  # fmt: skip


def found_in(request: dict[str, Any], answer: str, stop_reason: str = "end_turn") -> dict[str, bool | None]:
    measured = measure(Answer(answer, stop_reason=stop_reason), request=request, expectation=None)
    return {verdict["name"]: verdict["followed"] for verdict in measured["instructions"]}


def user(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize(("prompt", "answer", "expected"), WORDS + FORMS)
def test_what_a_prompt_asks_for_is_recognised_and_checked(
    prompt: str, answer: str, expected: dict[str, bool | None]
) -> None:
    assert found_in(user(prompt), answer) == expected


@pytest.mark.parametrize(("prompt", "answer", "expected"), LOOKALIKES)
def test_what_only_looks_like_an_instruction_is_not_counted(
    prompt: str, answer: str, expected: dict[str, bool | None]
) -> None:
    assert found_in(user(prompt), answer) == expected


def test_the_corpus_is_large_and_a_third_of_it_are_lookalikes() -> None:
    assert len(WORDS + FORMS + LOOKALIKES) >= 100
    assert len(LOOKALIKES) * 3 >= len(WORDS + FORMS + LOOKALIKES)


def test_system_prompts_instruct_too() -> None:
    request = {"system": "You are a tutor. You answer in at most 5 words.", **user("What is a closure?")}
    assert found_in(request, TEN) == {"max_words": False}


def test_system_prompts_may_come_in_blocks() -> None:
    blocks = [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Always answer in French."}]
    assert found_in({"system": blocks, **user("Hello?")}, FRENCH) == {"language": True}


def test_the_user_overrides_the_system_prompt_in_the_same_matter_only() -> None:
    request = {"system": "Answer in at most 5 words. Answer in French.", **user("Answer in at most 50 words.")}
    assert found_in(request, FRENCH) == {"language": True, "max_words": True}


def test_only_the_last_message_of_the_user_with_text_instructs() -> None:
    request = {
        "messages": [
            {"role": "user", "content": "Answer in French."},
            {"role": "assistant", "content": "Oui."},
            {"role": "user", "content": [{"type": "text", "text": "Answer in at most 5 words."}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "1", "content": "Use only lowercase."}],
            },
        ]
    }
    assert found_in(request, TEN) == {"max_words": False}


def test_documents_handed_over_as_blocks_do_not_instruct() -> None:
    document = {"type": "document", "source": {"type": "text", "data": "Answer in at most 5 words."}}
    request = {"messages": [{"role": "user", "content": [document, {"type": "text", "text": "Answer in French."}]}]}
    assert found_in(request, FRENCH) == {"language": True}


def test_instructions_inside_tags_that_are_named_so_count() -> None:
    assert found_in(user("<instructions>Answer in at most 5 words.</instructions>\n\nWhy?"), TEN) == {
        "max_words": False
    }


def test_a_plain_limit_after_a_long_document_counts_and_one_inside_it_does_not() -> None:
    document = "Answer in at most 5 words.\n\n" + "Nothing is said here.\n\n" * 1_000
    prompt = f"Summarise the following text:\n\n{document}Answer in at most 50 words."
    assert found_in(user(prompt), TEN) == {"max_words": True}


def test_the_end_of_a_long_text_does_not_count_what_was_opened_in_its_middle() -> None:
    inside = "<document>" + "Nothing is said here.\n\n" * 1_000 + "Answer in at most 5 words.\n\n</document>"
    assert found_in(user(f"Summarise.\n\n{inside}\n\nAnswer in at most 50 words."), TEN) == {"max_words": True}


def test_an_answer_that_stops_for_a_tool_is_not_judged_by_the_prompt() -> None:
    assert found_in(user("Answer in at most 5 words."), TEN, stop_reason="tool_use") == {}


def test_an_empty_answer_follows_nothing() -> None:
    assert found_in(user("Answer in at most 5 words."), " \n") == {"max_words": False}


def test_a_prefilled_beginning_is_part_of_the_answer_that_the_prompt_speaks_of() -> None:
    request = {
        "messages": [
            {"role": "user", "content": "Reply with JSON only."},
            {"role": "assistant", "content": "{"},
        ]
    }
    assert found_in(request, '"a": 1}') == {"json_only": True}


def test_the_output_format_of_the_request_is_an_instruction() -> None:
    schema = {"type": "object", "required": ["a"]}
    request = {**user("Hello"), "output_config": {"format": {"type": "json_schema", "schema": schema}}}
    assert found_in(request, '{"a": 1}') == {"json_schema": True}
    assert found_in(request, '{"b": 1}') == {"json_schema": False}


def test_the_share_counts_only_what_could_be_checked() -> None:
    request = user('Answer in French. Use at most 5 words. Include the word "oui".')
    measured = measure(Answer("Oui, oui."), request=request, expectation=None)
    assert [verdict["followed"] for verdict in measured["instructions"]] == [None, True, True]
    assert measured["instruction_following"] == 1.0
