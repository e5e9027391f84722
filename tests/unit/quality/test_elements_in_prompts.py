"""A second corpus of prompts: what an answer is to have in it, and other ways of saying what the first corpus has."""

from __future__ import annotations

from typing import Any

import pytest

from worker.quality import Answer, measure
from worker.quality.language import detect

WAR = "War and peace. War, WAR! Warfare."
LONG = "one two three four five six seven eight nine ten"
FRENCH = "Le chat est dans la maison et il ne veut pas sortir, parce que la pluie tombe sur le jardin depuis hier."

SAID: list[tuple[str, str, dict[str, bool | None]]] = [
    ("Write about Rome. Use the word war at least 3 times.", WAR, {"frequency": True}),
    ("Write about Rome. Use the word war at least 4 times.", WAR, {"frequency": False}),
    ("Write about Rome, and mention the word war exactly 3 times.", WAR, {"frequency": True}),
    ("The word war should appear at least twice in your answer.", WAR, {"frequency": True}),
    ('Make sure the word "peace" appears less than 2 times.', WAR, {"frequency": True}),
    ("In your response, the word war should appear at most 2 times.", WAR, {"frequency": False}),
    ("The word war must be used more than 3 times.", WAR, {"frequency": False}),
    ("Mention the word war only once.", WAR, {"frequency": False}),
    ('The word "war" should not appear in your response.', WAR, {"excludes": False}),
    ("Do not use the word treaty in your answer.", WAR, {"excludes": True}),
    ("Do not include the keywords war and treaty.", WAR, {"excludes": False}),
    ("Do not use the following keywords: treaty, truce, duel", WAR, {"excludes": True}),
    ("Include the keywords war, peace and truce in the response.", WAR, {"contains": False}),
    ("Include the keywords war and peace.", WAR, {"contains": True}),
    ("The letter w should appear at least 4 times.", WAR, {"letter": True}),
    ('Include the letter "z" at least once.', WAR, {"letter": False}),
    ("In your response, words in all capital letters should appear at least once.", WAR, {"capital_words": True}),
    ("Use at least 2 words in all capital letters.", WAR, {"capital_words": False}),
    ("Highlight at least 2 sections with markdown.", "*One* and **two**.", {"highlights": True}),
    ("Use Markdown to highlight at least three sections of your answer.", "*One* and **two**.", {"highlights": False}),
    ("Italicize at least 1 phrase in your answer.", "3 * 4 * 5", {"highlights": False}),
    ("Your answer must contain a title, wrapped in double angular brackets, i.e. <<title>>.", "<<War>>\nIt was.",
     {"title": True}),
    ("Your answer must contain a title, wrapped in double angular brackets, such as <<war>>.", "# War",
     {"title": False}),
    ("The response must contain at least 2 placeholders, such as [address].", "Dear [name], of [town],",
     {"placeholders": True}),
    ("The email should contain at least 2 placeholders.", "Dear [name], see [this](http://a.b).",
     {"placeholders": False}),
    ("At the end of your response, please explicitly add a postscript starting with P.S.", "Bye.\n\nP.S. Call me.",
     {"postscript": True}),
    ("Add a postscript.", "Bye. The P.S. is missing.", {"postscript": False}),
    ("Wrap your entire response in JSON format.", "{}", {"json": True}),
    ("Put your entire answer in JSON format.", "Done.", {"json": False}),
    ("Your answer should contain 5 to 9 words.", LONG, {"between_words": False}),
    ("Write a story with 5 or more words.", LONG, {"min_words": True}),
    ("Your response should contain 9 or less words.", LONG, {"max_words": False}),
    ("The poem must have at least 11 words.", LONG, {"min_words": False}),
    ("Write an ad. There should be exactly 2 paragraphs.", "One.\n\n***\n\nTwo.", {"exact_paragraphs": True}),
    ("Include exactly 2 bullet points in your response.", "- one\n- two", {"exact_bullets": True}),
    ("You are not allowed to use any commas in your response.", "One, two.", {"no_commas": False}),
    ("Your response should not contain any commas.", "One two.", {"no_commas": True}),
    ("Write a riddle without the use of commas.", "One, two.", {"no_commas": False}),
    ("Put double quotation marks around your entire response.", '"So."', {"in_quotes": True}),
    ("Make sure your entire response is in lowercase letters. No capital letters are allowed.", "So.",
     {"lowercase": False}),
    ("Your answer should not contain any capital letters.", "so.", {"lowercase": True}),
    ("Answer without using capital letters.", "So.", {"lowercase": False}),
    ("Your response should be in English, and in all lowercase letters.", "So.",
     {"language": None, "lowercase": False}),
    ("Your entire response should be in the French language.", FRENCH, {"language": True}),
    ("Describe the cat using only the French language.", FRENCH, {"language": True}),
    ("Use only German in your response.", FRENCH, {"language": False}),
    ('Answer with one of the following: "yes", "no", "maybe".', "I say maybe.", {"one_of": True}),
    ('Your answer must contain one of the following phrases: "yes", "no".', "I know.", {"one_of": False}),
    ('Finish the poem with this exact phrase: "So be it."', "And then: so be it", {"ends_with": True}),
]  # fmt: skip

LOOKALIKES: list[tuple[str, str]] = [
    ("Explain how often the word war appears in this text at least.", WAR),
    ("Why should the word war appear at least 3 times in a headline?", WAR),
    ("Use the word processor.", WAR),
    ("Use the words above in a sentence.", WAR),
    ("Do not use the words that I listed.", WAR),
    ("Do not use words like these.", WAR),
    ("Each paragraph should use the word war at least twice.", WAR),
    ("If you use the word war at least twice, explain it.", WAR),
    ("Write a function that checks that the word war appears at least 3 times.", WAR),
    ("What does it mean if the letter e appears at least 5 times?", WAR),
    ("Write a letter to the mayor.", WAR),
    ("Highlight the most important points.", WAR),
    ("Explain why editors highlight at least 2 sections.", WAR),
    ("Add a title to each section.", WAR),
    ("What is a placeholder?", WAR),
    ("Describe what a postscript is.", WAR),
    ("Use a few words in all capital letters.", WAR),
    ("At least 5 words in the output should be bold.", "One."),
    ("The article contains at least 5 sentences; which is the best?", "One."),
    ("Tell me about the poem that has at least 500 words.", "One."),
    ("Include at most 2 sentences about Rome and a map.", "One. Two. Three."),
    ("Explain why there are no commas in it.", "One, two."),
    ("Why are no capital letters allowed in an address?", "So."),
    ("Write a story about a school where there are no capital letters in the books.", "So."),
    ("Is it true that one of the following is right?", "So."),
    ("Why did they put double quotation marks around names?", "So."),
    ("Write about people who are entirely in French debt.", WAR),
]


def found_in(prompt: str, answer: str) -> dict[str, bool | None]:
    request: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}]}
    measured = measure(Answer(answer, stop_reason="end_turn"), request=request, expectation=None)
    return {verdict["name"]: verdict["followed"] for verdict in measured["instructions"]}


@pytest.mark.parametrize(("prompt", "answer", "expected"), SAID)
def test_what_a_prompt_asks_for_is_recognised_and_checked(
    prompt: str, answer: str, expected: dict[str, bool | None]
) -> None:
    assert found_in(prompt, answer) == expected


@pytest.mark.parametrize(("prompt", "answer"), LOOKALIKES)
def test_what_only_looks_like_an_instruction_is_not_counted(prompt: str, answer: str) -> None:
    assert found_in(prompt, answer) == {}


@pytest.mark.parametrize(
    ("language", "sentence"),
    [
        ("sw", "Paka yuko ndani ya nyumba na hataki kutoka nje kwa sababu mvua inanyesha katika bustani ya watu hao."),
        ("bn", "বিড়ালটি ঘরের ভিতরে আছে এবং বাইরে যেতে চায় না।"),
        ("ta", "பூனை வீட்டிற்குள் இருக்கிறது, வெளியே செல்ல விரும்பவில்லை."),
        ("ka", "კატა სახლშია და გარეთ გასვლა არ სურს."),
    ],
)
def test_languages_that_prompts_ask_for_are_told_apart(language: str, sentence: str) -> None:
    assert detect(sentence) == language
