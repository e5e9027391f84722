# ruff: noqa: RUF001 - letters of many scripts are the data of these tests
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.quality import Answer, measure

PLAIN = (
    "A closure is a function that remembers the variables around it. It keeps them for as long as it lives itself, and "
    "so it can be called later, when the code that made it has long returned to its caller."
)


def stray(text: str, prompt: str = "What is a closure?") -> bool:
    request: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}]}
    value = measure(Answer(text), request=request, expectation=None)["stray_script"]
    assert isinstance(value, bool)
    return value


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace("remembers", "สวัสดีremembers"),
        PLAIN.replace("remembers", "remem的bers"),
        PLAIN.replace("remembers", "remembers的"),
        PLAIN.replace("remembers", "ได้ remembers"),
        PLAIN.replace("it. It", "it。It"),
        PLAIN.replace(", and", "，and"),
        PLAIN.replace("caller", "саller"),
        PLAIN.replace("later", "позже later"),
        f"{PLAIN} The Python的 function is not made in China.",
        "Замыкание помнит переменные вокруг себя и живёт так же долго, как и они, а 系统 вызывает его позже.",
        "クロージャは変数を覚えている関数です。後で呼び出すことができ、とても便利なได้ものです。よく使われています。",
    ],
)
def test_one_letter_of_a_foreign_script_is_enough(text: str) -> None:
    assert stray(text)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        f"{PLAIN} 😀 → ✓ ∑ ≤ ∞ ① ½ — “quoted” … naïve façade Łódź Việt Nam",
        f"{PLAIN} It costs ฿500, ₹200 or 5 €, at 20 °C, by 5 µs.",
        f"{PLAIN} With α = 5, Δt > 0, λx, μ-law and Σ as usual, πr² holds.",
        f"{PLAIN} He said “你好” and left.",
        f"{PLAIN} He said 你好 (hello) and left.",
        f"{PLAIN} The word wabi-sabi (侘寂) came first, then *mono no aware* and **物の哀れ**.",
        f"{PLAIN}\n\n| word | sign |\n|---|---|\n| tree | 木 |\n",
        f"{PLAIN}\n\n- 木: tree\n- forest: 森\n- 川 – river\n",
        f"{PLAIN}\n\n静かな池や\n蛙飛び込む\n水の音\n\nThat is all.",
        f"{PLAIN} In Japanese the sign 木 means tree, and in Russian мир means peace and world.",
        f"{PLAIN} Shrug ¯\\_(ツ)_/¯ and go on.",
        f"{PLAIN} Call `配置()` first.\n\n```python\n# 配置\nx = '的'\n```\n",
        "Замыкание помнит переменные вокруг себя.",
        "猫は家の中にいて、PythonとЯндексが好き。",
        "한국어 문장입니다. 漢字도 씁니다. 이 문장은 아주 길고 또 길어서 한자의 비율이 낮습니다. 漢",
        "שלום עולם, this is a greeting.",
        "",
    ],
)
def test_what_a_writer_means_to_show_is_let_pass(text: str) -> None:
    assert not stray(text)


def test_scripts_of_the_request_are_at_home() -> None:
    answer = f"{PLAIN} Your 系统 is fine."
    assert stray(answer)
    assert not stray(answer, prompt="What does my 系统 need?")
    assert not stray(answer, prompt="Tell me about Chinese computers.")
    assert stray(answer, prompt="Tell me about machines.")


def test_scripts_of_earlier_turns_and_tool_results_are_at_home() -> None:
    result = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "系统"}]}
    request = {"messages": [{"role": "user", "content": [result]}, {"role": "user", "content": "Go on."}]}
    measured = measure(Answer(f"{PLAIN} Your 系统 is fine."), request=request, expectation=None)
    assert measured["stray_script"] is False


@given(st.text(alphabet=st.characters(max_codepoint=0x24F)))
def test_text_in_latin_letters_has_no_stray_ones(text: str) -> None:
    assert not stray(text)


@given(st.integers(0, len(PLAIN) - 1), st.sampled_from("的了是在系ครับขжשع가한"))
def test_a_letter_stuck_to_a_word_is_found_wherever_it_is(place: int, letter: str) -> None:
    if PLAIN[place].isalpha():
        assert stray(PLAIN[:place] + letter + PLAIN[place:])
