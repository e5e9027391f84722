"""Text for Claude Code: which words go, what stays as it is, and that everything can be undone."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from promptmill.claude_code import NEUTRAL, Rewrite, Sanitized, restore, sanitize_for_claude_code
from promptmill.errors import BadInput
from promptmill.results import Result, Status

HEADS = sorted({trigger.split(" ")[0] for trigger in NEUTRAL})


def rewritten(text: str) -> str:
    return sanitize_for_claude_code(text).text


# which words go ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I think it works.", "I believe it works."),
        ("I don't think so.", "I don't believe so."),
        ("We also think that it fits.", "We also believe that it fits."),
        ("Let me think step by step.", "Let me reason step by step."),
        ("My thinking, and her thoughts", "My reasoning, and her ideas"),
        ("She thinks it works.", "She believes it works."),
        ("think about it", "consider it"),
        ("Thinking of you", "Considering you"),
        ("Ultrathink, megathink and ultracode", "Analyze, analyze and thoroughness"),
        ("(think)", "(reason)"),
        ("think: think; think? \u201cthink\u201d", "reason: reason; reason? \u201creason\u201d"),
        ("**think** and *thoughts*", "**reason** and *ideas*"),
        ("Well...think\u2014think--think", "Well...reason\u2014reason--reason"),
    ],
)
def test_trigger_words_become_neutral_ones(text, expected):
    assert rewritten(text) == expected


@pytest.mark.parametrize(
    "phrase",
    [
        *("think harder", "think intensely", "think longer", "think really hard", "think super hard"),
        *("think very hard", "ultrathink", "think about it", "think a lot", "think deeply", "think hard"),
        *("think more", "megathink", "think", "ultracode"),
    ],
)
def test_nothing_is_left_that_a_version_of_claude_code_is_known_to_react_to(phrase):
    for text in (phrase, phrase.upper(), phrase.title(), f"Please {phrase} about this."):
        assert not re.search(r"think|ultracode", rewritten(text), re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("think hard", "look closely"),
        ("think  very\thard about", "closely consider"),
        ("think very carefully", "reason very carefully"),
        ("think hard-boiled", "reason hard-boiled"),
        ("think hard_coded", "reason hard_coded"),
        ("think\nhard", "reason\nhard"),
        ("think `hard`", "reason `hard`"),
    ],
)
def test_the_longest_trigger_that_is_there_as_a_whole_is_taken(text, expected):
    assert rewritten(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("think Think THINK", "reason Reason REASON"),
        ("Think Hard", "Look Closely"),
        ("Think hard", "Look closely"),
        ("THINK HARDER", "LOOK MORE CLOSELY"),
        ("Think Harder", "Look More Closely"),
        ("THINK About", "CONSIDER"),
        ("tHINK", "reason"),
    ],
)
def test_letter_case_is_kept(text, expected):
    assert rewritten(text) == expected


# what stays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("rethink", "unthinkable", "thinker", "thinking1", "think2", "thoughtful", "bethinks", "ithink"),
        *("thinking_budget", "_think_", "iThink", "thinkHard", "Think.hard", "obj.think", "think.py", "std::think"),
        *("think()", "think(hard)", "budget=think", "think=1", "--think", "-think", "@think", "#think", "$think"),
        *("/usr/bin/think", "think/", "src/think/main.rs", "C:\\think\\me", "think\\n", "~/think", ".think"),
        *("https://example.com/a,think?q=think", "www.example.com/(think)", "mailto:a,think@b.c"),
        *("think@example.com", "first.think@example.com", "first+think@example.com", "a@think.example"),
        *("<think>", "</thinking>", "<thinking/>", "{think}", "${thoughts}", "think-tank", "well-thinking"),
        *("\u00e9think", "think\u00e9", "think\u0301", "think\u00adtank", "\u0434think"),
    ],
)
def test_a_part_of_something_longer_stays(text):
    for around in (text, f"See {text} there.", f"({text})", f'"{text}"'):
        assert sanitize_for_claude_code(around) == Sanitized(around, ())


@pytest.mark.parametrize(
    "text",
    [
        "`think` and ``a ` think`` here",
        "a ` think ` b",
        "```\nthink\n```",
        "~~~~ python\nthink\n~~~\nthink\n~~~~",
        "```\nthink, and nobody closes it\n\nthink",
        "1. Do this:\n\n   ```sh\n   think\n   ```\n",
        "> ```\n> think\n> ```\n",
        "So:\n\n    think()\n    think\n\n    think\n",
        "\tthink\n",
        "- a\n\n      think\n",
        "`spans\nlines think`",
        "```inline``` and `think`",
        "\r\n```\r\nthink\r\n```\r\n",
    ],
)
def test_code_stays(text):
    assert sanitize_for_claude_code(text).rewrites == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```\nthink\n```\nthink", "```\nthink\n```\nreason"),
        ("````\n```\nthink\n````\nthink", "````\n```\nthink\n````\nreason"),
        ("~~~\nthink\n```\nthink\n~~~\nthink", "~~~\nthink\n```\nthink\n~~~\nreason"),
        ("one ` tick, think", "one ` tick, reason"),
        ("\\`think`", "\\`reason`"),
        ("`a` think `b` think", "`a` reason `b` reason"),
        ("` here\n\nthink ` there", "` here\n\nreason ` there"),
        ("- a ` tick\n- think ` tick", "- a ` tick\n- reason ` tick"),
        ("A paragraph\n    that goes on: think", "A paragraph\n    that goes on: reason"),
        ("- item\n\n    think", "- item\n\n    reason"),
        ("- item\n    - think", "- item\n    - reason"),
        ("10. item\n\n    think\n\n        think", "10. item\n\n    reason\n\n        think"),
        ("- item\n\nText.\n\n    think", "- item\n\nText.\n\n    think"),
        ("    think\nthink", "    think\nreason"),
        ("\u8bf7think\u4e00\u4e0b", "\u8bf7reason\u4e00\u4e0b"),
        ("think\ub97c", "reason\ub97c"),
        ("\ud83d think \U0001f600think", "\ud83d reason \U0001f600reason"),
    ],
)
def test_what_is_no_code_is_prose(text, expected):
    assert rewritten(text) == expected


# undone --------------------------------------------------------------------------------------------------------------


def test_what_changed_is_listed_with_its_place_in_both_texts():
    sanitized = sanitize_for_claude_code("\U0001f600 I think hard. Thoughts?")
    assert sanitized.text == "\U0001f600 I look closely. Ideas?"
    assert sanitized.rewrites == (
        Rewrite(old_start=4, new_start=4, old="think hard", new="look closely"),
        Rewrite(old_start=16, new_start=18, old="Thoughts", new="Ideas"),
    )


MARKS = ("```", "~~~\n", "    ", "\n\n", "- ", "1. ", "> ", "--", "..", *"`~->#.,:;/@_( )\n\t\r")
WORDS = ("hard", "I ", "don't ", "https://", "www.", "\u00e9", "\u4e00", "\u0301", "\U0001f600", "\ud83d", "\u017f")
pieces = st.sampled_from([*HEADS, *NEUTRAL, "THINK", *MARKS, *WORDS])
texts = st.lists(pieces | st.characters(), max_size=30).map("".join)


@given(text=texts)
@example(text="think\u017f thin\u212a")
@example(text="`think``think`")
def test_every_text_comes_back_exactly_and_a_second_time_changes_nothing(text):
    sanitized = sanitize_for_claude_code(text)
    assert restore(sanitized.text, sanitized.rewrites) == text
    assert sanitize_for_claude_code(sanitized.text) == Sanitized(sanitized.text, ())
    for rewrite in sanitized.rewrites:
        assert text[rewrite.old_start : rewrite.old_start + len(rewrite.old)] == rewrite.old
        assert sanitized.text[rewrite.new_start : rewrite.new_start + len(rewrite.new)] == rewrite.new


@given(text=texts.filter(lambda text: not any(head in text.lower() for head in HEADS)))
def test_a_text_without_triggers_is_left_alone(text):
    assert sanitize_for_claude_code(text) == Sanitized(text, ())


@given(text=texts)
def test_lines_stay_lines(text):
    assert rewritten(text).count("\n") == text.count("\n")


@pytest.mark.parametrize("text", ["I reason hard.", "I look", ""])
def test_a_text_that_was_changed_since_is_not_restored(text):
    rewrites = sanitize_for_claude_code("I think hard.").rewrites
    with pytest.raises(BadInput, match="expected 'look closely' at character 2"):
        restore(text, rewrites)


def test_rewrites_out_of_order_are_refused():
    sanitized = sanitize_for_claude_code("think think")
    with pytest.raises(BadInput):
        restore(sanitized.text, reversed(sanitized.rewrites))


HOSTILE = (
    *("think ", "think,", "think-", "a-", "a.think@", "`", "` think ", "> ", " ", "\t", "- think\n\n     ", "```\n"),
    *("www.", "a://", "think very really ", "think" + " " * 70, "think" + "-" * 70, "`" * 70 + " "),
)


@pytest.mark.parametrize("piece", HOSTILE)
def test_time_grows_with_the_text_and_no_faster(piece):
    """A quadratic search would take hours for these."""
    text = "think " + piece * (1_000_000 // len(piece)) + " think"
    sanitized = sanitize_for_claude_code(text)
    assert restore(sanitized.text, sanitized.rewrites) == text


# no replacement is a trigger -----------------------------------------------------------------------------------------


def test_no_replacement_is_or_holds_a_trigger():
    for neutral in NEUTRAL.values():
        assert sanitize_for_claude_code(neutral).rewrites == ()


# results -------------------------------------------------------------------------------------------------------------


def test_a_result_keeps_what_was_written_beside_what_goes_on():
    message = {"content": [{"type": "text", "text": "I think so."}]}
    plain = Result("a", Status.SUCCEEDED, text="I think so.", message=message)
    result = plain.for_claude_code()
    assert (result.text, result.message) == ("I believe so.", message)
    assert result.rewrites == (Rewrite(2, 2, "think so", "believe so"),)
    assert restore(result.text, result.rewrites) == plain.text
    assert result.for_claude_code() is result
    assert Result.from_line(result.to_line()) == result


def test_a_result_without_text_has_nothing_to_rewrite():
    result = Result("a", Status.FAILED)
    assert result.for_claude_code() is result
