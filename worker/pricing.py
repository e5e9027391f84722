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
from typing import Final

from genai_prices import Usage as PricedUsage
from genai_prices import (
    data,
)  # imported with the process: loaded on the first call it would hold the event loop for 25 ms
from genai_prices.types import ModelInfo, TieredPrices

from promptmill.results import Usage

_ANTHROPIC: Final = next(provider for provider in data.providers if provider.id == "anthropic")
_BATCH: Final[Mapping[str, str]] = {"processing": "batch"}


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
    sent. The price is the batch price where `batch` is true or the usage says so itself (`service_tier`).

    Where a model has tiers, the whole prompt decides, cached tokens included, and the whole call is priced in that
    tier. Thinking tokens are output. Priced as standard: the priority tier. Not seen, as `Usage` does not carry them:
    fast mode, and fees for server tools such as web search.

    None: the model is unknown (the caller warns, once for each model), it has no batch price at that time, or a count
    is not a number of tokens (usage comes from outside).
    """
    counts = (
        usage.input_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens, usage.cache_read_tokens,
        usage.output_tokens,
    )  # fmt: skip
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    is_batch = batch or usage.service_tier == "batch"
    day = (at if at.tzinfo is None else at.astimezone(UTC)).date()
    thresholds = _thresholds(model, day, is_batch)
    if thresholds is None:
        return None
    rates = _rates(model, day, is_batch, _smallest_prompt_of_tier(thresholds, usage.prompt_tokens))
    return (
        rates.input * usage.input_tokens
        + rates.cache_write_5m * usage.cache_write_5m_tokens
        + rates.cache_write_1h * usage.cache_write_1h_tokens
        + rates.cache_read * usage.cache_read_tokens
        + rates.output * usage.output_tokens
    )


def _smallest_prompt_of_tier(thresholds: tuple[int, ...], prompt_tokens: int) -> int:
    # A tier begins above its threshold: a prompt of exactly 100,000 tokens is still in the lower one.
    above = bisect_left(thresholds, prompt_tokens)
    return 1 if above == 0 else thresholds[above - 1] + 1


@lru_cache(maxsize=256)
def _model(name: str) -> ModelInfo | None:
    return _ANTHROPIC.find_model(name)


@lru_cache(maxsize=256)
def _thresholds(model: str, day: date, batch: bool) -> tuple[int, ...] | None:  # noqa: FBT001 - a cache key
    """Return the prompt sizes above which another tier begins; None where the model has no price."""
    info = _model(model)
    if info is None or (batch and not _has_batch_price(info, day)):
        return None
    prices = info.get_prices(_noon(day), _BATCH if batch else None)
    tiered = [price for price in vars(prices).values() if isinstance(price, TieredPrices)]
    return tuple(sorted({tier.start for price in tiered for tier in price.tiers}))


def _has_batch_price(info: ModelInfo, day: date) -> bool:
    # Without this a model that has none would be charged the standard price.
    return any(
        variant.when == _BATCH and (variant.constraint is None or variant.constraint.active(_noon(day)))
        for variant in info.price_variants or ()
    )


@lru_cache(maxsize=256)
def _rates(model: str, day: date, batch: bool, prompt_tokens: int) -> _Rates:  # noqa: FBT001 - a cache key
    """Ask the package what a prompt of that size costs if it is all of one kind, and what so much output adds."""
    info = _model(model)
    if info is None:
        raise LookupError(f"expected a model with a price, got {model!r}")

    def price(**kinds: int) -> Decimal:
        usage = PricedUsage(input_tokens=prompt_tokens, **kinds)
        context = _BATCH if batch else None
        return info.calc_price(usage, _ANTHROPIC, genai_request_timestamp=_noon(day), price_context=context).total_price

    plain = price()
    written = {"cache_write_tokens": prompt_tokens}
    return _Rates(
        input=plain / prompt_tokens,
        cache_write_5m=price(**written) / prompt_tokens,
        cache_write_1h=price(**written, cache_write_1h_tokens=prompt_tokens) / prompt_tokens,
        cache_read=price(cache_read_tokens=prompt_tokens) / prompt_tokens,
        output=(price(output_tokens=prompt_tokens) - plain) / prompt_tokens,
    )


def _noon(day: date) -> datetime:
    # Anthropic's prices change by the day (UTC), none by the hour; a test fails when that changes.
    return datetime.combine(day, time(12), UTC)
