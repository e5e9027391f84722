"""Why nothing is sent, said to whoever waits for it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from promptmill.caps import SpendCap
from promptmill.jobs import Lane
from promptmill.queue import keys
from promptmill.queue.held import why_held
from tests.support.queues import CLASS


def clock(milliseconds: float) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC).astimezone():%H:%M:%S}"


async def now_ms(bench) -> float:
    return (await bench.redis.time())[0] * 1000


async def put(bench, **fields) -> None:
    await bench.redis.hset(keys.BUDGET + CLASS, mapping=fields)


async def test_nothing_is_said_where_nothing_is_held_back_for_more_than_moments(bench):
    assert await why_held(bench.redis, [CLASS, "unknown"]) == ()
    await put(bench, blocked_until=await now_ms(bench) + 1_500, reason="rate_limited")
    assert await why_held(bench.redis, [CLASS]) == ()


async def test_a_pause_is_named_with_its_end_and_reason(bench):
    until = await now_ms(bench) + 60_000
    await put(bench, blocked_until=until, reason="rate_limited")
    assert await why_held(bench.redis, [CLASS]) == (f"haiku-5-5 rests until {clock(until)}: rate_limited",)


@pytest.mark.parametrize(
    ("effect", "reason", "said"),
    [
        ("trips", "overloaded", "haiku-5-5 is out: overloaded (next probe at {})"),
        ("parks", "bad_key", "haiku-5-5 is parked: bad_key (mend it; tried again at {}, or by `promptmill resume`)"),
    ],
)
async def test_who_is_out_or_parked_is_named_with_what_happens_next(bench, effect, reason, said):
    probe_at = await now_ms(bench) + 30_000
    await put(bench, open_since=1, open_reason=reason, open_effect=effect, probe_at=probe_at)
    assert await why_held(bench.redis, [CLASS]) == (said.format(clock(probe_at)),)


async def test_a_cap_is_named_to_whom_it_holds_back(bench):
    hour = int(await now_ms(bench)) // 3_600_000
    await bench.redis.hset(keys.SPEND, f"hour:2:{CLASS}", f"{hour} 2000000000")
    cap = SpendCap(usd=Decimal(2), per="hour", lane=Lane.STANDARD)
    end = clock((hour + 1) * 3_600_000)
    (said,) = await why_held(bench.redis, [CLASS], caps=[cap])
    assert said == f"a spend cap is reached until {end}: 2 USD an hour for standard"
    warns, dearer = cap.model_copy(update={"action": "warn"}), cap.model_copy(update={"usd": Decimal(3)})
    assert await why_held(bench.redis, [CLASS], caps=[warns, dearer]) == ()
    assert await why_held(bench.redis, [CLASS], caps=[cap], lanes=[Lane.OVERNIGHT]) == ()
    elsewhere = cap.model_copy(update={"model_class": "opus-5"})
    assert await why_held(bench.redis, [CLASS], caps=[elsewhere]) == ()
