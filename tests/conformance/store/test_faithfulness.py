"""Whatever an answer, a tag or a stranger's job holds: it fails no batch, and comes back as it was."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from promptmill.results import Failure, Result, Usage
from promptmill.store import AttemptRecord, ResultStore, Run
from promptmill.store.schema import results
from tests.conformance.store.samples import NOON, answer, attempt, collect, dead_letter

TEXTS = {
    "empty": "",
    "nul": "before\x00after\x00",
    "every_control_character": "".join(map(chr, range(32))),
    "the_escape_itself": "\x100000 and \x10\x10 and \x10d83d",
    "emoji_and_4_bytes": "👩\u200d👩\u200d👧 \U0001d518 \U0010ffff",
    "lone_surrogates": "\ud83d alone, \ude00 alone, \ude00\ud83d swapped, \ud83d\x00\ude00 apart",
    "not_characters": "\ufffe\uffff\u2028\u2029\ufeff",
    "backslashes_and_quotes": "\\u0000 \\x00 \\\\ ' \" ` $1 %s :name {} ;--",
    "looks_like_a_number": "0042",
}


def message_with(text: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "text", "text": text}], text: text}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_every_text_comes_back_as_it_was(store: ResultStore, text: str) -> None:
    everywhere = answer(
        f"job-{text}",
        model=text,
        text=text,
        message=message_with(text),
        quality={"note": text, text: 1},
        error=Failure(name=text, message=text, blame=text),
        lane=text,
        tags={text: text, "plain": text},
        run=f"run-{text}",
        request_ref=text,
        worker=text,
        usage=Usage(service_tier=text),
        attempts=(
            attempt(model=text, outcome=text, request_id=text, failure=Failure(text, text, text)),
            attempt(2, usage=Usage(service_tier=text)),
        ),
    )
    letter = dead_letter(f"dead-{text}", reason=text, message=text, payload=text.encode("utf-8", "surrogatepass"))
    run = Run(f"run-{text}", text, text, NOON, options={text: text})

    await store.record([everywhere, answer("neighbour"), letter])
    await store.save_run(run)

    assert await store.finished([everywhere.job_id]) == {everywhere.job_id: everywhere}
    assert await store.result("neighbour") == answer("neighbour")
    assert await store.dead_letters(reason=text) == [letter]
    assert await store.run(f"run-{text}") == run
    for chosen in ({"tag": (text, text)}, {"model": text}, {"run": f"run-{text}"}, {"lane": text}):
        assert await collect(store.results(**chosen)) == [everywhere]


async def test_ten_megabytes_of_any_characters_come_back_as_they_were(store: ResultStore) -> None:
    text = "\x00naïve 👩 \ud83d " * 700_000
    assert len(text.encode("utf-8", "surrogatepass")) > 10_000_000
    large = answer(text=text, message=message_with("") | {"content": [{"type": "text", "text": text}]})

    await store.record([large])

    assert await store.result("job-1") == large


DOCUMENTS = {
    "large_whole_numbers": {"n": 2**64, "m": -(10**40), "k": 2**63},
    "fractions": {"x": 0.1, "y": -0.0, "z": 1e308, "w": 5e-324},
    "nesting_as_deep_as_python_parses": json.loads('{"a":' * 900 + "[]" + "}" * 900),
    "empty": {},
    "nulls": {"a": None, "b": [None]},
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
async def test_every_message_comes_back_as_it_was(store: ResultStore, document: dict[str, Any]) -> None:
    await store.record([answer(message=document, quality=document)])

    result = await store.result("job-1")

    assert result is not None
    assert json.dumps(result.message) == json.dumps(document)
    assert json.dumps(result.quality) == json.dumps(document)


@pytest.mark.parametrize("beside", [{}, {"surrogate": "\ud83d"}], ids=["alone", "beside a surrogate"])
async def test_what_json_does_not_know_becomes_null_or_its_text(store: ResultStore, beside: dict[str, Any]) -> None:
    odd = {"a": float("nan"), "b": [float("inf")], "c": Decimal("1.5"), **beside}

    await store.record([answer(quality=odd)])

    result = await store.result("job-1")
    assert result is not None
    assert result.quality == {"a": None, "b": [None], "c": "1.5", **beside}


async def test_numbers_beyond_64_bits_are_kept_as_the_largest_that_fit(store: ResultStore) -> None:
    await store.record([answer(position=2**70, usage=Usage(input_tokens=10**30, output_tokens=-(10**30)), attempts=())])

    result = await store.result("job-1")

    assert result is not None
    assert result.position == 2**63 - 1
    assert result.usage == Usage(input_tokens=2**63 - 1, output_tokens=-(2**63 - 1))


async def test_a_strangers_endless_job_id_is_kept_by_its_beginning_and_its_hash(store: ResultStore) -> None:
    endless = "x" * 100_000
    await store.record([answer(endless), AttemptRecord(endless + "y", attempt()), dead_letter(endless + "z")])

    found = await store.finished([endless, endless + "y"])
    letters = await store.dead_letters()

    assert list(found) == [endless]
    assert found[endless].job_id.startswith("x" * 300 + "~sha256:")
    assert await store.attempts([endless, endless + "y"]) == {
        endless: answer().attempts,
        endless + "y": (attempt(),),
    }
    assert await store.result(found[endless].job_id) == found[endless]
    assert await store.dead_letter(endless + "z") == letters[0]
    assert await store.mark_redriven([letters[0].job_id]) == 1


async def test_times_are_kept_to_the_microsecond_and_come_back_in_utc(store: ResultStore) -> None:
    tokyo = timezone(timedelta(hours=9))
    times = (
        datetime(2026, 1, 1, 8, 59, 59, 999_999, tzinfo=tokyo),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    )
    await store.record([answer(f"job-{n}", finished_at=time) for n, time in enumerate(times)])

    found = await collect(store.results())

    assert [result.finished_at for result in found] == list(times)
    assert {result.finished_at.tzinfo for result in found} == {UTC}


async def test_a_time_without_a_zone_is_taken_to_be_utc(store: ResultStore) -> None:
    await store.record([answer(finished_at=NOON.replace(tzinfo=None))])

    assert await store.result("job-1") == answer()


async def test_durations_are_kept_to_the_microsecond(store: ResultStore) -> None:
    durations = [timedelta(microseconds=1), timedelta(days=400, microseconds=999_999), timedelta(0)]
    await store.record([answer(f"job-{n}", latency=each) for n, each in enumerate(durations)])

    assert [result.latency for result in await collect(store.results())] == durations


async def test_costs_are_kept_and_summed_exactly(store: ResultStore) -> None:
    costs = [Decimal("0.1"), Decimal("0.2"), Decimal("0.000000000001"), Decimal(1_000_000), Decimal(0), None]
    await store.record([answer(f"job-{n}", cost_usd=cost) for n, cost in enumerate(costs)])

    assert [result.cost_usd for result in await collect(store.results())] == costs
    assert (await store.run_totals("nightly")).cost_usd == Decimal("1000000.300000000001")


async def test_ten_thousand_costs_add_up_to_the_last_picodollar(store: ResultStore) -> None:
    cost = Decimal("0.000157700001")
    await store.record([answer(f"job-{n}", cost_usd=cost, attempts=()) for n in range(10_000)])

    assert (await store.run_totals("nightly")).cost_usd == cost * 10_000


async def test_a_cost_reads_like_the_one_that_was_written(store: ResultStore) -> None:
    await store.record([answer("job-1", cost_usd=Decimal("0.00015")), answer("job-2", cost_usd=Decimal(20))])

    found = await collect(store.results())

    assert [str(result.cost_usd) for result in found] == ["0.00015", "20"]


async def test_quality_can_be_queried_in_columns(store: ResultStore) -> None:
    odd = {"chars": "many", "similarity": float("nan"), "code_block": True, "specific_examples": 10**400}
    await store.record([answer("job-1"), answer("job-2", quality=odd), answer("job-3", quality=None)])

    columns = [
        results.c.length_chars,
        results.c.length_words,
        results.c.length_output_tokens,
        results.c.has_code_block,
        results.c.specific_examples,
        results.c.instruction_following,
        results.c.similarity,
    ]
    rows = await store._database.read(
        lambda connection: connection.execute(sa.select(*columns).order_by(results.c.seq)).all()
    )

    assert [tuple(row) for row in rows] == [
        (10, 1, 200, False, 3, 0.75, None),
        (None, None, None, True, None, None, None),
        (None,) * 7,
    ]


async def test_fields_of_the_wrong_type_are_kept_as_text(store: ResultStore) -> None:
    """A provider's answer is untrusted: `"model": 7` must not hold back the hundred answers beside it."""
    wrong: Any = {"model": 7, "tags": {"n": 7}, "worker": None}

    await store.record([answer(**wrong)])

    result = await store.result("job-1")
    assert isinstance(result, Result)
    assert (result.model, result.tags) == ("7", {"n": "7"})
