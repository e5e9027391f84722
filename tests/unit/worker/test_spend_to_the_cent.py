"""What a thousand jobs cost, wherever it is told, against prices and arithmetic written down here."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from promptmill.caps import NANO
from promptmill.jobs import Lane
from promptmill.queue import keys
from promptmill.results import Status
from tests.support.providers import answering, failing
from tests.support.queues import CLASS
from tests.support.workers import REQUEST, make_job, workshop

JOBS: Final = 1_000
PICO: Final = 10**12
A_SEARCH: Final = PICO // 100

PRICES: Final = {
    "claude-haiku-5-5": (100_000, 125_000, 200_000, 10_000, 500_000),
    "claude-haiku-5-5, long": (500_000, 625_000, 1_000_000, 50_000, 2_500_000),
    "claude-haiku-4-5": (1_000_000, 1_250_000, 2_000_000, 100_000, 5_000_000),
    "claude-sonnet-5-5": (2_000_000, 2_500_000, 4_000_000, 100_000, 10_000_000),
    "claude-opus-5-5": (4_000_000, 5_000_000, 8_000_000, 200_000, 20_000_000),
}
"""Millionths of a millionth of a USD for a token: input, cache written for 5 minutes and an hour, read, output."""


@dataclass
class Bill:
    """An API that answers at random, and writes down what it charges."""

    seed: int
    by_model: Counter[str] = field(default_factory=Counter)
    by_job: Counter[str] = field(default_factory=Counter)
    nano: int = 0
    refused: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    async def __call__(self, request: Any) -> Any:
        chance, model = self._chance, request.json["model"]
        if chance.random() < 0.05:
            return await failing(529, "overloaded_error")(request)
        kinds = {
            "batch": chance.random() < 0.25,
            "us": chance.random() < 0.1,
            "cached": chance.random() < 0.5,
            "long": chance.random() < 0.1,
            "searches": chance.random() < 0.1,
            "refused": chance.random() < 0.15 and model != "claude-haiku-4-5",
        }
        kinds["fast"] = model == "claude-opus-5-5" and not kinds["batch"] and chance.random() < 0.3
        self.kinds.update(kind for kind, is_so in kinds.items() if is_so)
        counts = [chance.randint(1, 3_000) + (100_000 if kinds["long"] else 0)]
        counts += [chance.randint(0, 4_000) if kinds["cached"] else 0 for _ in range(3)]
        counts += [chance.randint(0, 2_000)]
        searches = chance.randint(1, 5) if kinds["searches"] else 0
        self._charge(request, model, kinds, counts, searches)
        fresh, write_5m, write_1h, read, output = counts
        usage = {
            "input_tokens": fresh,
            "cache_creation_input_tokens": write_5m + write_1h,
            "cache_creation": {"ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h},
            "cache_read_input_tokens": read,
            "output_tokens": output,
            "service_tier": "batch" if kinds["batch"] else "standard",
            **({"speed": "fast"} if kinds["fast"] else {}),
            **({"inference_geo": "us"} if kinds["us"] else {}),
            **({"server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 9}} if searches else {}),
        }
        reason = "refusal" if kinds["refused"] else "end_turn"
        return await answering("Text.", usage=usage, stop_reason=reason, model=model)(request)

    def _charge(self, request: Any, model: str, kinds: dict[str, bool], counts: list[int], searches: int) -> None:
        is_long = sum(counts[:4]) > 100_000 and model == "claude-haiku-5-5"
        prices = PRICES[f"{model}, long" if is_long else model]
        pico = sum(count * price for count, price in zip(counts, prices, strict=True))
        if kinds["batch"]:
            pico //= 2
        if kinds["fast"]:
            pico *= 2
        if kinds["us"]:
            pico = pico * 11 // 10
        pico += searches * A_SEARCH
        self.by_model[model] += pico
        self.by_job[request.job] += pico
        self.nano += pico * NANO // PICO
        self.refused += kinds["refused"]


def pico(usd: Decimal | None) -> int:
    assert usd is not None
    assert usd * PICO % 1 == 0
    return int(usd * PICO)


async def test_a_thousand_jobs_with_caches_batches_and_fallbacks_are_recorded_to_the_last_digit(tmp_path):
    bill = Bill(seed=5)
    async with workshop(tmp_path, redis=None) as shop:
        shop.clock.now -= shop.clock.now % 86_400_000
        await shop.open_budgets()
        shop.api.script = [bill]
        lanes = list(Lane)
        models = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")
        jobs = [
            make_job(
                f"job-{number}",
                request={**REQUEST, "model": models[number % 3]},
                fallbacks=("claude-haiku-4-5",),
                lane=lanes[number % 2],
                run="bill",
                position=number + 1,
                tags={"team": f"team-{number % 7}"},
            )
            for number in range(JOBS)
        ]
        await shop.submit(*jobs)
        while await shop.redis.zcard(keys.QUEUE):
            await asyncio.gather(*(shop.run(lease) for lease in await shop.claim(most=200)))
            shop.clock.advance(timedelta(seconds=1))

        assert all(bill.kinds[kind] > 10 for kind in ("batch", "us", "cached", "long", "searches", "refused", "fast"))
        total, long_ago = sum(bill.by_model.values()), datetime(2000, 1, 1, tzinfo=UTC)
        results = [result async for result in shop.store.results(run="bill")]
        assert {result.job_id: pico(result.cost_usd) for result in results} == bill.by_job
        assert {result.status for result in results} == {Status.SUCCEEDED}
        assert pico((await shop.store.run_totals("bill")).cost_usd) == total
        by_model: Counter[str] = Counter()
        for part in await shop.store.spend(since=long_ago):
            by_model[part.group or ""] += pico(part.cost_usd)
        assert by_model == bill.by_model
        for by in ("lane", ("tag", "team")):
            assert sum(pico(part.cost_usd) for part in await shop.store.spend(since=long_ago, by=by)) == total
        spent = await shop.redis.hgetall(keys.SPEND)
        for per in (b"hour:", b"day:"):
            counted = sum(int(entry.split()[1]) for scope, entry in spent.items() if scope.startswith(per))
            assert counted == bill.nano, "each request is rounded down to a nano-dollar"
        run_nano = int(await shop.redis.hget(f"{keys.RUN}bill", "cost_nano_usd"))
        assert 0 <= total * NANO // PICO - run_nano <= JOBS


# what counts, and when -----------------------------------------------------------------------------------------------


async def nano_spent(shop: Any, lane: int = 2, model_class: str = CLASS) -> int:
    entry = await shop.redis.hget(keys.SPEND, f"day:{lane}:{model_class}")
    return 0 if entry is None else int(entry.split()[1])


async def test_a_refusal_counts_before_the_fallback_has_answered(shop):
    shop.api.script = [answering(stop_reason="refusal"), answering()]
    await shop.submit(make_job(fallbacks=("claude-opus-5-5",)))
    await shop.work()
    assert await nano_spent(shop) == 3_500
    await shop.work()
    assert (await nano_spent(shop), await nano_spent(shop, model_class="opus-5")) == (3_500, 140_000)


async def test_an_answer_whose_worker_died_before_it_settled_counts_when_it_is_found(shop):
    await shop.submit(make_job())
    shop.steps.fail("settle", RuntimeError("killed"))
    with pytest.raises(RuntimeError, match="killed"):
        await shop.run(await shop.claim_one())
    assert await nano_spent(shop) == 0
    shop.clock.advance(shop.settings.lease)
    await shop.work()
    assert len(shop.api.requests) == 1
    assert await nano_spent(shop) == 3_500


async def test_an_answer_that_is_found_because_the_job_was_submitted_again_does_not_count_twice(shop):
    await shop.submit(make_job())
    await shop.work()
    await shop.redis.delete(keys.RESULT + "job-1")
    await shop.submit(make_job())
    await shop.work()
    assert len(shop.api.requests) == 1
    assert await nano_spent(shop) == 3_500


async def test_a_call_without_a_known_price_counts_nothing_and_costs_none(shop):
    shop.api.script = [answering(usage={"input_tokens": 10, "output_tokens": 5, "service_tier": "priority"})]
    await shop.submit(make_job())
    with capture_logs() as logs:
        await shop.work()
    (attempt,) = (await shop.store.result("job-1")).attempts
    assert (attempt.cost_usd, await nano_spent(shop)) == (None, 0)
    assert "price_unknown" in {entry["event"] for entry in logs}
