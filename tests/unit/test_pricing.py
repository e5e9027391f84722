"""What an attempt cost, to the last digit: against a table written down by hand, and against genai-prices itself."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal as D  # noqa: N817 - a price table is read across
from typing import NamedTuple

import genai_prices
import pytest
from genai_prices.types import TimeOfDateConstraint
from hypothesis import given, settings
from hypothesis import strategies as st

from promptmill.results import Usage
from tests.support.effort import cases
from worker import pricing
from worker.pricing import cost_usd

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


class Price(NamedTuple):
    """USD for a million tokens of each kind, as the provider publishes it."""

    model: str
    over_100k: bool
    input: D
    output: D
    write_5m: D
    write_1h: D
    read: D
    batch_input: D
    batch_output: D


PRICES = [
    Price("claude-haiku-5-5", False, D("0.10"), D("0.50"), D("0.125"), D("0.20"), D("0.01"), D("0.05"), D("0.25")),
    Price("claude-haiku-5-5", True, D("0.50"), D("2.50"), D("0.625"), D("1.00"), D("0.05"), D("0.25"), D("1.25")),
    Price("claude-haiku-4-5", False, D(1), D(5), D("1.25"), D(2), D("0.10"), D("0.50"), D("2.50")),
    Price("claude-haiku-4-5", True, D(1), D(5), D("1.25"), D(2), D("0.10"), D("0.50"), D("2.50")),
    Price("claude-sonnet-5-5", False, D(2), D(10), D("2.50"), D(4), D("0.10"), D(1), D(5)),
    Price("claude-sonnet-5-5", True, D(2), D(10), D("2.50"), D(4), D("0.10"), D(1), D(5)),
    Price("claude-opus-5-5", False, D(4), D(20), D(5), D(8), D("0.20"), D(2), D(10)),
    Price("claude-opus-5-5", True, D(4), D(20), D(5), D(8), D("0.20"), D(2), D(10)),
]
ROWS = pytest.mark.parametrize("price", PRICES, ids=lambda price: f"{price.model}{'-long' if price.over_100k else ''}")


def usage_of(price: Price, **more: object) -> Usage:
    """A call that has every kind of token, on the row's side of 100,000."""
    large = 90_001 if price.over_100k else 1_234
    return Usage(large, 777, 4_321, 5_555, 6_789, thinking_tokens=300, **more)  # type: ignore[arg-type]


def by_hand(price: Price, usage: Usage, *, batch: bool) -> D:
    half = D("0.5") if batch else D(1)
    millionths = (
        (price.batch_input if batch else price.input) * usage.input_tokens
        + (price.batch_output if batch else price.output) * usage.output_tokens
        + price.write_5m * half * usage.cache_write_5m_tokens
        + price.write_1h * half * usage.cache_write_1h_tokens
        + price.read * half * usage.cache_read_tokens
    )
    return millionths / 1_000_000


@ROWS
def test_each_row_of_the_price_table_to_the_last_digit(price: Price) -> None:
    usage = usage_of(price)
    assert (usage.prompt_tokens > 100_000) is price.over_100k
    assert cost_usd(usage, price.model, at=NOW) == by_hand(price, usage, batch=False)


@ROWS
def test_each_row_in_a_batch_where_the_discount_stacks_with_caching(price: Price) -> None:
    usage = usage_of(price)
    assert cost_usd(usage, price.model, at=NOW, batch=True) == by_hand(price, usage, batch=True)


@ROWS
def test_a_usage_that_says_it_was_a_batch_is_priced_so(price: Price) -> None:
    usage = usage_of(price, service_tier="batch")
    assert cost_usd(usage, price.model, at=NOW) == by_hand(price, usage, batch=True)


@ROWS
def test_a_name_with_a_date_costs_what_the_name_without_costs(price: Price) -> None:
    usage = usage_of(price)
    assert cost_usd(usage, f"{price.model}-20261001", at=NOW) == by_hand(price, usage, batch=False)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage(input_tokens=100_000), D("0.010000")),
        (Usage(input_tokens=100_001), D("0.0500005")),
        (Usage(input_tokens=1, cache_read_tokens=100_000), (D("0.50") + D("0.05") * 100_000) / 1_000_000),
        (Usage(input_tokens=0, cache_read_tokens=100_000), D("0.01") * 100_000 / 1_000_000),
        (Usage(cache_write_5m_tokens=50_000, cache_write_1h_tokens=50_001), (D("0.625") * 50_000 + 50_001) / 1_000_000),
        (Usage(input_tokens=100_001, output_tokens=10), (D("0.50") * 100_001 + D("2.50") * 10) / 1_000_000),
        (Usage(input_tokens=100_000, output_tokens=10), (D("0.10") * 100_000 + D("0.50") * 10) / 1_000_000),
    ],
)
def test_one_token_over_100k_reprices_the_whole_call_and_cached_tokens_count(usage: Usage, expected: D) -> None:
    assert cost_usd(usage, "claude-haiku-5-5", at=NOW) == expected


def test_nothing_used_costs_nothing() -> None:
    assert cost_usd(Usage(), "claude-haiku-5-5", at=NOW) == 0


def test_thinking_is_output_and_is_not_charged_twice() -> None:
    plain, thinking = Usage(output_tokens=500), Usage(output_tokens=500, thinking_tokens=400)
    assert cost_usd(thinking, "claude-opus-5-5", at=NOW) == cost_usd(plain, "claude-opus-5-5", at=NOW)


@pytest.mark.parametrize("model", ["claude-haiku-99", "gpt-4o", "my-simulated-model", "", "claude-haiku-5-5-latest!"])
def test_a_model_without_a_known_price_costs_none_rather_than_nothing(model: str) -> None:
    assert cost_usd(Usage(input_tokens=5), model, at=NOW) is None


FAST_OPUS = Price("claude-opus-5-5", False, D(8), D(40), D(10), D(16), D("0.40"), D(0), D(0))


def test_fast_mode_has_prices_of_its_own() -> None:
    usage = usage_of(FAST_OPUS, speed="fast")
    assert cost_usd(usage, FAST_OPUS.model, at=NOW) == by_hand(FAST_OPUS, usage, batch=False)


def test_a_model_without_fast_mode_has_no_price_in_it() -> None:
    assert cost_usd(Usage(input_tokens=5, speed="fast"), "claude-haiku-5-5", at=NOW) is None


@pytest.mark.parametrize("tier", [None, "standard", "batch"])
def test_web_searches_are_a_cent_each_beside_the_tokens_in_a_batch_too(tier: str | None) -> None:
    plain, searching = Usage(700, 70, service_tier=tier), Usage(700, 70, service_tier=tier, web_searches=3)
    costs = [cost_usd(usage, "claude-sonnet-5-5", at=NOW) for usage in (plain, searching)]
    assert costs[0] is not None
    assert costs[1] == costs[0] + D("0.03")


def test_a_search_that_has_no_price_leaves_the_cost_unknown() -> None:
    assert cost_usd(Usage(input_tokens=5), "claude-3-haiku", at=NOW) is not None
    assert cost_usd(Usage(input_tokens=5, web_searches=1), "claude-3-haiku", at=NOW) is None


@ROWS
def test_tokens_cost_a_tenth_more_where_only_the_us_will_do_and_searches_do_not(price: Price) -> None:
    usage = usage_of(price, inference_geo="us", web_searches=2)
    assert cost_usd(usage, price.model, at=NOW) == by_hand(price, usage, batch=False) * D("1.1") + D("0.02")


@pytest.mark.parametrize("geo", [None, "global", "not_available"])
def test_anywhere_costs_nothing_more(geo: str | None) -> None:
    assert cost_usd(Usage(input_tokens=1_000_000, inference_geo=geo), "claude-opus-5-5", at=NOW) == 4


@pytest.mark.parametrize(
    "unheard_of",
    [
        {"service_tier": "priority"},
        {"service_tier": "flex"},
        {"speed": "ludicrous"},
        {"speed": "fast", "service_tier": "batch"},
        {"inference_geo": "mars"},
    ],
)
def test_what_has_no_published_price_costs_none_rather_than_the_usual(unheard_of: dict[str, str]) -> None:
    assert cost_usd(Usage(input_tokens=5, **unheard_of), "claude-opus-5-5", at=NOW) is None  # type: ignore[arg-type]


def test_everything_that_is_billed_is_read_from_what_the_api_says() -> None:
    told = {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_creation_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
        "cache_read_input_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 1},
        "service_tier": "batch",
        "server_tool_use": {"web_search_requests": 6, "web_fetch_requests": 9},
        "speed": "fast",
        "inference_geo": "us",
    }
    assert Usage.from_api(told) == Usage(1, 2, 3, 4, 5, 1, "batch", 6, "fast", "us")
    odd = {"server_tool_use": [], "speed": 1, "inference_geo": {}, "service_tier": None}
    assert Usage.from_api(odd) == Usage()


def test_a_usage_of_a_later_promptmill_can_still_be_read() -> None:
    usage = Usage(1, 2, web_searches=3, speed="fast")
    assert Usage.from_line({**usage.to_line(), "holograms": 1}) == usage
    assert Usage.from_line({"input_tokens": 1}) == Usage(1)


def test_a_model_without_a_batch_price_has_none_in_a_batch() -> None:
    usage = Usage(input_tokens=1_000_000)
    assert cost_usd(usage, "claude-opus-4-0", at=NOW) == 15
    assert cost_usd(usage, "claude-opus-4-0", at=NOW, batch=True) is None


def test_the_price_is_that_of_the_day_in_utc() -> None:
    # The package knows batch prices of this model from 14 October 2026 on.
    usage = Usage(input_tokens=1_000_000)
    first_second = datetime(2026, 10, 14, tzinfo=UTC)
    assert cost_usd(usage, "claude-haiku-4-5", at=first_second, batch=True) == D("0.5")
    assert cost_usd(usage, "claude-haiku-4-5", at=first_second - timedelta(seconds=1), batch=True) is None
    in_tokyo = first_second.astimezone(timezone(timedelta(hours=9)))
    assert cost_usd(usage, "claude-haiku-4-5", at=in_tokyo, batch=True) == D("0.5")


@pytest.mark.parametrize("count", [-1, 1.5, "7", None])
def test_a_count_that_is_no_number_of_tokens_has_no_price(count: object) -> None:
    usage = Usage(input_tokens=5, output_tokens=count)  # type: ignore[arg-type]
    assert cost_usd(usage, "claude-haiku-5-5", at=NOW) is None


counts = st.integers(0, 3) | st.integers(0, 250_000) | st.sampled_from([99_999, 100_000, 100_001])


@settings(max_examples=cases(300), deadline=None)
@given(
    model=st.sampled_from([model.id for model in pricing._ANTHROPIC.models]),
    tokens=st.tuples(counts, counts, counts, counts, counts),
    searches=st.integers(0, 3),
    terms=st.sampled_from([{}, {"processing": "batch"}, {"speed": "fast"}]),
)
def test_kept_rates_cost_exactly_what_the_package_calculates(
    model: str,
    tokens: tuple[int, int, int, int, int],
    searches: int,
    terms: dict[str, str],
) -> None:
    usage = Usage(*tokens, web_searches=searches, speed=terms.get("speed"))
    cost = cost_usd(usage, model, at=NOW, batch="processing" in terms)
    whole = genai_prices.Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        web_searches=searches,
    )
    calculated = genai_prices.calc_price(
        whole,
        model,
        provider_id="anthropic",
        genai_request_timestamp=NOW,
        price_context=terms or None,
    )
    if cost is not None:
        assert cost == calculated.total_price
    else:
        has_terms = not terms or terms in [variant.when for variant in calculated.model.price_variants or ()]
        assert not has_terms or (searches and not hasattr(calculated.model_price, "web_searches_kcount"))


def test_no_price_of_the_provider_depends_on_the_hour() -> None:
    """Rates are kept by the day: this fails when the package learns prices that change within one."""
    for model in pricing._ANTHROPIC.models:
        prices = model.prices if isinstance(model.prices, list) else []
        for variant in [*prices, *(model.price_variants or [])]:
            assert not isinstance(variant.constraint, TimeOfDateConstraint)


def test_a_call_of_yesterday_is_priced_by_yesterday_and_not_from_memory() -> None:
    usage = Usage(input_tokens=1_000_000)
    before, after = datetime(2026, 10, 13, tzinfo=UTC), datetime(2026, 10, 15, tzinfo=UTC)
    costs = [cost_usd(usage, "claude-sonnet-5-5", at=at, batch=True) for at in (after, before, after)]
    assert costs == [D(1), None, D(1)]


def test_prices_never_come_from_the_network() -> None:
    script = """
import socket, threading
def refuse(*_args, **_kwargs):
    raise AssertionError("a socket was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from datetime import UTC, datetime
from decimal import Decimal
from promptmill.results import Usage
from worker.pricing import cost_usd
at = datetime(2026, 11, 22, tzinfo=UTC)
print(cost_usd(Usage(input_tokens=1), "claude-haiku-4-5", at=at) == Decimal("0.000001"))
print(cost_usd(Usage(1), "unknown", at=at))
assert threading.active_count() == 1, threading.enumerate()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True\nNone\n", "")
