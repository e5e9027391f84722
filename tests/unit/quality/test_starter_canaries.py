"""The starter set: what ships must tell a good answer from a bad one, and cost next to nothing."""

from __future__ import annotations

import gc
import re
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from promptmill.results import Usage
from tests.support.canaries import BAD, MODEL, measured, starter
from worker.pricing import cost_usd

EACH = pytest.mark.parametrize("canary", starter().canaries, ids=lambda canary: canary.id)


@pytest.fixture(autouse=True)
def _no_collection_while_patterns_are_timed():
    """A pattern that takes 20 ms of CPU is given up; a collection in the heap of a whole test run takes as long."""
    gc.disable()
    yield
    gc.enable()


@EACH
def test_the_known_good_answer_passes_every_check(canary):
    quality = measured(canary, canary.expect.similar_to)
    failed = [verdict for verdict in quality["instructions"] if verdict["followed"] is not True]
    # "in French" cannot be told of six words; what must be in them is checked beside it.
    assert [verdict["name"] for verdict in failed] == (["language"] if canary.id == "translate-french" else [])
    assert (quality["instruction_following"], quality["similarity"]) == (1, 1)
    assert not quality["refusal"]
    assert quality["code_parses"] is not False


@EACH
@pytest.mark.parametrize("dressed", ["{}\n", " {}"])
def test_white_space_around_a_good_answer_is_no_fault(canary, dressed):
    assert measured(canary, dressed.format(canary.expect.similar_to))["instruction_following"] == 1


@EACH
@pytest.mark.parametrize(
    "bad",
    [
        lambda canary: BAD[canary.id],
        lambda _: "I'm sorry, but I can't help with that.",
        lambda _: "Sure! Here are a few thoughts about that question, which is an interesting one in many ways.",
        lambda _: "",
    ],
    ids=["wrong", "refused", "beside the point", "empty"],
)
def test_a_bad_answer_fails(canary, bad):
    quality = measured(canary, bad(canary))
    assert quality["instruction_following"] < 1
    assert quality["similarity"] < 1


def test_each_bad_answer_is_for_a_canary_of_the_set():
    assert set(BAD) == {canary.id for canary in starter().canaries}


def test_nothing_depends_on_the_day_on_which_it_is_asked():
    now = re.compile(r"\b(today|now|current|currently|latest|this (year|month|week)|recent)\b", re.IGNORECASE)
    assert [canary.id for canary in starter().canaries if now.search(str(canary.request))] == []


def test_no_answer_may_become_long():
    assert all(canary.request["max_tokens"] <= 1_000 for canary in starter().canaries)


def test_a_round_costs_less_than_a_cent():
    """The figures of docs/guides/canaries.md."""
    given, good, most = starter().tokens(MODEL)
    assert (len(starter().canaries), given, good, most) == (30, 3_398, 668, 11_800)
    usual, worst = (cost_usd(Usage(given, out), MODEL, at=datetime(2026, 11, 22, tzinfo=UTC)) for out in (good, most))
    assert (round(usual, 5), round(worst, 5)) == (Decimal("0.00067"), Decimal("0.00624"))
