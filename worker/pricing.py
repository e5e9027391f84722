"""What an attempt cost, in USD.

Prices come from `genai-prices`, whose table is part of the installed package: nothing here asks the network, and prices
change only when the package does. Its own calculation takes some 80 µs a call, nearly all of it spent on proving its
table consistent. A price is linear in each kind of token as long as the model, the day, the processing and the tier
stay the same; so the package is asked once for each of those, and the rates it answers with are kept.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Final, NamedTuple

from genai_prices import Usage as PricedUsage
from genai_prices import (
    data,
)  # imported with the process: loaded on the first call it would hold the event loop for 25 ms
from genai_prices.types import ModelInfo, TieredPrices

from promptmill.results import Usage

_ANTHROPIC: Final = next(provider for provider in data.providers if provider.id == "anthropic")
_CONTEXTS: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    ("standard", "standard"): {},
    ("batch", "standard"): {"processing": "batch"},
    ("standard", "fast"): {"speed": "fast"},
}
"""Service tier and speed, to the package's name for what they cost. What a priority tier costs stands in a contract,
and batches are not fast."""

_GEO: Final[Mapping[str, Decimal]] = {"global": Decimal(1), "not_available": Decimal(1), "us": Decimal("1.1")}
"""What each token costs more for running there; the package does not know of it. Older models report no place."""

_A_THOUSAND: Final = 1_000


class _Terms(NamedTuple):
    """What a price holds for."""

    model: str
    day: date
    tier: str
    speed: str

    @property
    def context(self) -> Mapping[str, str] | None:
        return _CONTEXTS[self.tier, self.speed] or None

    @property
    def noon(self) -> datetime:
        # Anthropic's prices change by the day (UTC), none by the hour; a test fails when that changes.
        return datetime.combine(self.day, time(12), UTC)


@dataclass(frozen=True, slots=True)
class _Rates:
    """USD for one token of each kind."""

    input: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    output: Decimal


def cost_usd(usage: Usage, model: str, *, at: datetime, batch: bool = False) -> Decimal | None:
    """Return what one attempt cost, exactly, unrounded; None where no price is known.

    `model` is a name of the API, with or without its date (`claude-haiku-5-5-20261001`). `at` is when the request was
    sent. The price is the batch price where `batch` is true or the usage says so itself (`service_tier`), that of fast
    mode where the usage says so (`speed`).

    Where a model has tiers, the whole prompt decides, cached tokens included, and the whole call is priced in that
    tier. Thinking tokens are output. Web searches are billed beside the tokens, at the same price in a batch. Not seen,
    as no usage reports it: the time that code runs in the provider's containers.

    None: the model is unknown (the caller warns, once for each model), it has no price for batches, fast mode or web
    search at that time, the tier is one whose price is not published (priority) or not known, so is the place where the
    model ran, or a count is not a number of tokens (usage comes from outside).
    """
    counts = (
        usage.input_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens, usage.cache_read_tokens,
        usage.output_tokens, usage.web_searches,
    )  # fmt: skip
    tier = "batch" if batch else usage.service_tier or "standard"
    speed = usage.speed or "standard"
    more_for_place = _GEO.get(usage.inference_geo or "global")
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    if (tier, speed) not in _CONTEXTS or more_for_place is None:
        return None
    terms = _Terms(model, (at if at.tzinfo is None else at.astimezone(UTC)).date(), tier, speed)
    thresholds = _thresholds(terms)
    search = _search_price(terms) if usage.web_searches else Decimal(0)
    if thresholds is None or search is None:
        return None
    rates = _rates(terms, _smallest_prompt_of_tier(thresholds, usage.prompt_tokens))
    tokens = (
        rates.input * usage.input_tokens
        + rates.cache_write_5m * usage.cache_write_5m_tokens
        + rates.cache_write_1h * usage.cache_write_1h_tokens
        + rates.cache_read * usage.cache_read_tokens
        + rates.output * usage.output_tokens
    )
    return tokens * more_for_place + search * usage.web_searches


def _smallest_prompt_of_tier(thresholds: tuple[int, ...], prompt_tokens: int) -> int:
    # A tier begins above its threshold: a prompt of exactly 100,000 tokens is still in the lower one.
    above = bisect_left(thresholds, prompt_tokens)
    return 1 if above == 0 else thresholds[above - 1] + 1


@lru_cache(maxsize=256)
def _model(name: str) -> ModelInfo | None:
    return _ANTHROPIC.find_model(name)


@lru_cache(maxsize=256)
def _thresholds(terms: _Terms) -> tuple[int, ...] | None:
    """Return the prompt sizes above which another tier begins; None where the model has no price on these terms."""
    info = _model(terms.model)
    if info is None or (terms.context is not None and not _has_price_of_its_own(info, terms)):
        return None
    prices = info.get_prices(terms.noon, terms.context)
    tiered = [price for price in vars(prices).values() if isinstance(price, TieredPrices)]
    return tuple(sorted({tier.start for price in tiered for tier in price.tiers}))


def _has_price_of_its_own(info: ModelInfo, terms: _Terms) -> bool:
    # Without this a model that has none would be charged the standard price.
    return any(
        variant.when == terms.context and (variant.constraint is None or variant.constraint.active(terms.noon))
        for variant in info.price_variants or ()
    )


@lru_cache(maxsize=256)
def _search_price(terms: _Terms) -> Decimal | None:
    """Return what one web search costs; None where the model has no price for it."""
    info = _model(terms.model)
    for_a_thousand = None if info is None else getattr(info.get_prices(terms.noon), "web_searches_kcount", None)
    return for_a_thousand / _A_THOUSAND if isinstance(for_a_thousand, Decimal) else None


@lru_cache(maxsize=256)
def _rates(terms: _Terms, prompt_tokens: int) -> _Rates:
    """Ask the package what a prompt of that size costs if it is all of one kind, and what so much output adds."""
    info = _model(terms.model)
    if info is None:
        raise LookupError(f"expected a model with a price, got {terms.model!r}")

    def price(**kinds: int) -> Decimal:
        usage = PricedUsage(input_tokens=prompt_tokens, **kinds)
        return info.calc_price(
            usage, _ANTHROPIC, genai_request_timestamp=terms.noon, price_context=terms.context
        ).total_price

    plain = price()
    written = {"cache_write_tokens": prompt_tokens}
    return _Rates(
        input=plain / prompt_tokens,
        cache_write_5m=price(**written) / prompt_tokens,
        cache_write_1h=price(**written, cache_write_1h_tokens=prompt_tokens) / prompt_tokens,
        cache_read=price(cache_read_tokens=prompt_tokens) / prompt_tokens,
        output=(price(output_tokens=prompt_tokens) - plain) / prompt_tokens,
    )
