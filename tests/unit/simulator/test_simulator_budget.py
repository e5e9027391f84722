"""Three buckets as one limit: admission, charging of output, and the headers."""

from datetime import UTC, datetime, timedelta

import pytest

from promptmill.testing.simulator import ForeignLoad, Limits, ModelClass
from promptmill.testing.simulator.budget import Account, Budget, Dimension
from promptmill.testing.simulator.clock import MINUTE_NS, SECOND_NS

NOON = datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=UTC)


def budget_of(limits: Limits, *, charge_max_tokens=False) -> Budget:
    return Budget(limits, charge_max_tokens=charge_max_tokens, foreign=None, now_ns=0)


def remaining(budget: Budget, now_ns=0) -> dict[str, int]:
    return {dimension.value: bucket.remaining(now_ns) for dimension, bucket in budget.buckets.items()}


def test_a_request_refused_in_one_dimension_costs_nothing_in_the_others():
    budget = budget_of(Limits(rpm=60, itpm=600, otpm=6_000))
    assert budget.admit(input_tokens=500, max_tokens=10, now_ns=0) is None
    refusal = budget.admit(input_tokens=500, max_tokens=10, now_ns=0)
    assert refusal.dimension is Dimension.INPUT_TOKENS
    assert remaining(budget) == {"requests": 59, "input-tokens": 100, "output-tokens": 6_000}


def test_the_refusal_names_the_dimension_that_takes_longest():
    budget = budget_of(Limits(rpm=60, itpm=600, otpm=6_000, depth=timedelta(seconds=1)))
    budget.admit(input_tokens=100, max_tokens=10, now_ns=0)
    refusal = budget.admit(input_tokens=10, max_tokens=10, now_ns=0)
    assert refusal.dimension is Dimension.INPUT_TOKENS
    assert refusal.wait_ns == 10 * SECOND_NS


def test_whoever_waits_as_long_as_retry_after_says_is_admitted():
    budget = budget_of(Limits(rpm=50, burst=1))
    budget.admit(input_tokens=1, max_tokens=1, now_ns=0)
    refusal = budget.admit(input_tokens=1, max_tokens=1, now_ns=0)
    assert refusal.wait_ns == 1_200_000_000
    assert refusal.retry_after == 2
    assert budget.admit(input_tokens=1, max_tokens=1, now_ns=2 * SECOND_NS) is None


def test_retry_after_is_never_zero():
    budget = budget_of(Limits(rpm=60_000, burst=1))
    budget.admit(input_tokens=1, max_tokens=1, now_ns=0)
    assert budget.admit(input_tokens=1, max_tokens=1, now_ns=0).retry_after == 1


def test_output_is_charged_while_it_is_generated_and_may_leave_a_debt():
    budget = budget_of(Limits(otpm=600, depth=timedelta(seconds=10)))
    assert budget.admit(input_tokens=1, max_tokens=4_096, now_ns=0) is None
    budget.generate(200, max_tokens=4_096, start_ns=SECOND_NS, end_ns=3 * SECOND_NS)
    assert remaining(budget, SECOND_NS) == {"output-tokens": 100}
    assert remaining(budget, 2 * SECOND_NS) == {"output-tokens": 10}
    refusal = budget.admit(input_tokens=1, max_tokens=1, now_ns=3 * SECOND_NS)
    assert refusal.dimension is Dimension.OUTPUT_TOKENS
    assert refusal.wait_ns == SECOND_NS * 81 // 10  # 80 in debt, and one token must be there


def test_under_the_older_rule_max_tokens_is_charged_up_front_and_the_unused_part_comes_back():
    budget = budget_of(Limits(otpm=6_000), charge_max_tokens=True)
    assert budget.admit(input_tokens=1, max_tokens=4_000, now_ns=0) is None
    assert budget.admit(input_tokens=1, max_tokens=4_000, now_ns=0).dimension is Dimension.OUTPUT_TOKENS
    budget.generate(500, max_tokens=4_000, start_ns=0, end_ns=SECOND_NS)
    assert remaining(budget, 0) == {"output-tokens": 2_000}
    assert remaining(budget, SECOND_NS) == {"output-tokens": 5_600}


def test_a_dimension_without_a_limit_never_refuses_and_has_no_headers():
    budget = budget_of(Limits(rpm=60))
    assert budget.admit(input_tokens=10**9, max_tokens=10**9, now_ns=0) is None
    budget.generate(10**9, max_tokens=10**9, start_ns=0, end_ns=1)
    assert {name.split("-")[2] for name, _ in budget.headers(now_ns=0, utc=NOON)} == {"requests"}


def test_headers_tell_limit_remaining_and_when_the_bucket_is_full_again():
    budget = budget_of(Limits(rpm=60, itpm=60_000, otpm=30_000))
    budget.admit(input_tokens=2_400, max_tokens=1, now_ns=0)
    budget.generate(700, max_tokens=1_000, start_ns=0, end_ns=0)
    assert dict(budget.headers(now_ns=0, utc=NOON)) == {
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "59",
        "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:02Z",
        "anthropic-ratelimit-input-tokens-limit": "60000",
        "anthropic-ratelimit-input-tokens-remaining": "58000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-22T12:00:03Z",
        "anthropic-ratelimit-output-tokens-limit": "30000",
        "anthropic-ratelimit-output-tokens-remaining": "29000",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-22T12:00:02Z",
        "anthropic-ratelimit-tokens-limit": "90000",
        "anthropic-ratelimit-tokens-remaining": "87000",
        "anthropic-ratelimit-tokens-reset": "2026-11-22T12:00:03Z",
    }


@pytest.mark.parametrize(
    ("limits", "per_minute", "depth"),
    [
        (Limits(rpm=600), 600, 600),
        (Limits(rpm=600, depth=timedelta(seconds=2)), 600, 20),
        (Limits(rpm=600, burst=10), 600, 10),
        (Limits(rpm=600, burst=10, itpm=60_000), 60_000, 1_000),
        (Limits(rpm=1, depth=timedelta(0)), 1, 1),
    ],
)
def test_depth_is_a_span_of_refilling_or_a_number_of_requests(limits, per_minute, depth):
    assert limits.depth_of(per_minute) == depth


def test_a_burst_without_a_request_rate_is_refused():
    with pytest.raises(ValueError, match="expected rpm together with burst=10"):
        Limits(itpm=1_000, burst=10)


def account_with(limits: Limits, **settings) -> Account:
    account = Account(0)
    account.change(
        dict.fromkeys(ModelClass, limits),
        counting=Limits(),
        charge_max_tokens=False,
        foreign_load=settings.get("foreign_load"),
        now_ns=0,
    )
    return account


def test_each_model_class_has_its_own_budget():
    account = account_with(Limits(rpm=60, burst=1))
    for model_class in ModelClass:
        assert account.budgets[model_class].admit(input_tokens=1, max_tokens=1, now_ns=0) is None
        assert account.budgets[model_class].admit(input_tokens=1, max_tokens=1, now_ns=0) is not None


def test_a_foreign_load_drains_every_dimension():
    account = account_with(Limits(rpm=60, itpm=600, otpm=6_000), foreign_load=ForeignLoad(share=1.5))
    assert [bucket.remaining(MINUTE_NS) for _, _, bucket in account.buckets()][:3] == [30, 300, 3_000]
