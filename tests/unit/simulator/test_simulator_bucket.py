"""The token bucket against the definition of a token bucket, in exact arithmetic."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptmill.testing.simulator.bucket import ForeignDrain, TokenBucket
from promptmill.testing.simulator.clock import MINUTE_NS, SECOND_NS

gaps_ns = st.integers(0, 2 * MINUTE_NS) | st.integers(0, 1_000) | st.integers(0, SECOND_NS)


def fits(grants: list[tuple[int, int]], cost: int, now_ns: int, *, per_minute: int, depth: int) -> bool:
    """The definition: in every window that ends now, at most r*t + b."""
    total = cost
    if total > depth:
        return False
    for at_ns, granted in reversed(grants):
        total += granted
        if total * MINUTE_NS > depth * MINUTE_NS + per_minute * (now_ns - at_ns):
            return False
    return True


@given(
    per_minute=st.integers(1, 2_000_000),
    depth=st.integers(1, 100_000),
    requests=st.lists(st.tuples(gaps_ns | st.sampled_from(["in time", "a tick early"]), st.floats(0, 1)), max_size=60),
)
def test_grants_exactly_what_r_t_plus_b_permits_no_more_and_no_less(per_minute, depth, requests):
    bucket = TokenBucket(per_minute, depth, now_ns=0)
    grants: list[tuple[int, int]] = []
    now_ns = 0
    for gap, size in requests:
        cost = max(round(size * depth), 1)
        if isinstance(gap, str):
            now_ns += max(bucket.wait_ns(cost, now_ns) - (gap == "a tick early"), 0)
        else:
            now_ns += gap
        may_go = bucket.wait_ns(cost, now_ns) == 0
        assert may_go == fits(grants, cost, now_ns, per_minute=per_minute, depth=depth)
        if may_go:
            bucket.take(cost, now_ns)
            grants.append((now_ns, cost))


@given(
    per_minute=st.integers(1, 2_000_000),
    depth=st.integers(1, 1_000),
    requests=st.lists(st.tuples(gaps_ns, st.integers(1, 5_000)), min_size=1, max_size=60),
)
def test_with_requests_larger_than_the_bucket_the_largest_takes_the_place_of_the_depth(per_minute, depth, requests):
    bucket = TokenBucket(per_minute, depth, now_ns=0)
    grants: list[tuple[int, int]] = []
    now_ns = 0
    for gap_ns, cost in requests:
        now_ns += gap_ns
        if bucket.wait_ns(cost, now_ns) == 0:
            bucket.take(cost, now_ns)
            grants.append((now_ns, cost))
    for first, (start_ns, _) in enumerate(grants):
        for last, (end_ns, _) in enumerate(grants[first:], start=first):
            window = grants[first : last + 1]
            most = max(depth, *(cost for _, cost in window))
            assert sum(cost for _, cost in window) * MINUTE_NS <= most * MINUTE_NS + per_minute * (end_ns - start_ns)


@given(
    per_minute=st.integers(1, 2_000_000),
    depth=st.integers(1, 10_000),
    taken=st.integers(0, 30_000),
    cost=st.integers(1, 30_000),
)
def test_the_wait_it_names_is_right_to_the_nanosecond(per_minute, depth, taken, cost):
    bucket = TokenBucket(per_minute, depth, now_ns=0)
    bucket.take(taken, 0)
    wait_ns = bucket.wait_ns(cost, 0)
    if wait_ns:
        assert bucket.wait_ns(cost, wait_ns - 1) == 1
    assert bucket.wait_ns(cost, wait_ns) == 0


def test_a_request_larger_than_the_bucket_goes_on_a_full_bucket_and_leaves_a_debt():
    bucket = TokenBucket(60, 10, now_ns=0)
    assert bucket.wait_ns(25, 0) == 0
    bucket.take(25, 0)
    assert bucket.remaining(0) == 0
    assert bucket.wait_ns(1, 0) == 16 * SECOND_NS  # 15 of debt and the one itself
    assert bucket.wait_ns(25, 0) == 25 * SECOND_NS


@given(st.lists(st.tuples(gaps_ns, st.integers(0, 500), st.integers(0, MINUTE_NS)), max_size=20))
def test_tokens_taken_while_generated_are_all_taken_in_the_end_and_not_one_more(answers):
    bucket = TokenBucket(1, 1_000_000, now_ns=0)
    bucket.take(500_000, 0)  # so that nothing overflows
    now_ns = end_ns = taken = 0
    for gap_ns, tokens, span_ns in answers:
        now_ns += gap_ns
        bucket.take_while(tokens, now_ns, now_ns + span_ns)
        taken += tokens
        end_ns = max(end_ns, now_ns + span_ns)
    assert bucket.full_in_ns(end_ns) == (500_000 + taken) * MINUTE_NS - end_ns
    assert bucket.granted == 500_000 + taken


def test_tokens_are_taken_evenly_over_the_time_of_their_generation():
    bucket = TokenBucket(1, 100, now_ns=0)
    bucket.take_while(60, 0, 60 * SECOND_NS)
    assert bucket.remaining(30 * SECOND_NS) == 70  # 30 generated, half of one refilled
    assert bucket.remaining(60 * SECOND_NS) == 41
    assert bucket.remaining(90 * SECOND_NS) == 41  # nothing more is taken afterwards


def test_tokens_that_come_all_at_once_are_taken_at_that_moment():
    bucket = TokenBucket(60, 100, now_ns=0)
    bucket.take_while(50, 5, 5)
    assert bucket.remaining(4) == 100
    assert bucket.remaining(5) == 50


def test_what_is_given_back_never_overfills_the_bucket():
    bucket = TokenBucket(60, 100, now_ns=0)
    bucket.take(80, 0)
    bucket.give_back(70, 15 * SECOND_NS)
    assert bucket.remaining(15 * SECOND_NS - 1) == 34
    assert bucket.remaining(15 * SECOND_NS) == 100
    assert bucket.granted == 10


def test_a_limit_lowered_in_flight_empties_what_no_longer_fits():
    bucket = TokenBucket(600, 600, now_ns=0)
    bucket.relimit(60, 5, now_ns=0, foreign=None)
    assert bucket.remaining(0) == 5
    bucket.take(5, 0)
    assert bucket.wait_ns(1, 0) == SECOND_NS


def test_a_limit_raised_in_flight_gives_no_tokens_away():
    bucket = TokenBucket(60, 10, now_ns=0)
    bucket.take(10, 0)
    bucket.relimit(600, 100, now_ns=0, foreign=None)
    assert bucket.remaining(0) == 0
    assert bucket.wait_ns(1, 0) == SECOND_NS // 10


def use_greedily(bucket: TokenBucket, *, start_ns: int, end_ns: int, step_ns: int) -> int:
    taken = 0
    for now_ns in range(start_ns, end_ns, step_ns):
        while bucket.wait_ns(1, now_ns) == 0:
            bucket.take(1, now_ns)
            taken += 1
    return taken


def test_a_foreign_load_leaves_the_rest_of_the_refill_to_us():
    bucket = TokenBucket(600, 10, now_ns=0, foreign=ForeignDrain(Fraction(1, 5)))
    use_greedily(bucket, start_ns=0, end_ns=SECOND_NS, step_ns=SECOND_NS // 100)
    ours = use_greedily(bucket, start_ns=SECOND_NS, end_ns=61 * SECOND_NS, step_ns=SECOND_NS // 100)
    assert ours == pytest.approx(480, abs=1)
    assert bucket.taken_by_others == pytest.approx(122, abs=1)


def test_a_foreign_load_alone_takes_no_more_than_the_bucket_has():
    bucket = TokenBucket(600, 10, now_ns=0, foreign=ForeignDrain(Fraction(3)))
    assert bucket.remaining(MINUTE_NS) == 0
    assert bucket.taken_by_others == 610  # the depth and a minute of refilling, not 1,800


def test_a_foreign_load_is_refused_as_well_while_the_bucket_is_in_debt():
    bucket = TokenBucket(60, 10, now_ns=0, foreign=ForeignDrain(Fraction(1, 2)))
    bucket.take(40, 0)  # 30 in debt
    assert bucket.remaining(30 * SECOND_NS) == 0
    assert bucket.taken_by_others == 0
    assert bucket.remaining(50 * SECOND_NS) == 10
    assert bucket.taken_by_others == 10


def test_a_square_wave_loads_the_first_half_of_each_period():
    wave = ForeignDrain(Fraction(1), period_ns=20 * SECOND_NS, start_ns=7)
    bucket = TokenBucket(60, 10, now_ns=7, foreign=wave)
    bucket.take(10, 7)
    assert bucket.remaining(7 + 10 * SECOND_NS) == 0
    assert bucket.remaining(7 + 20 * SECOND_NS) == 10
    assert bucket.remaining(7 + 25 * SECOND_NS) == 10  # full, and the load takes just what flows in
    bucket.take(10, 7 + 25 * SECOND_NS)
    assert bucket.remaining(7 + 30 * SECOND_NS) == 0
    assert bucket.remaining(7 + 33 * SECOND_NS) == 3


@given(
    share=st.fractions(0, 3, max_denominator=20),
    period_ns=st.integers(1, 40).map(lambda seconds: seconds * SECOND_NS) | st.none(),
    taken=st.integers(0, 50),
    steps=st.lists(st.integers(0, 30 * SECOND_NS), max_size=20),
)
def test_looking_often_changes_nothing(share, period_ns, taken, steps):
    wave = ForeignDrain(share, period_ns)
    watched, unwatched = (TokenBucket(60, 20, now_ns=0, foreign=wave) for _ in range(2))
    now_ns = 0
    for bucket in (watched, unwatched):
        bucket.take(taken, 0)
        bucket.take_while(30, SECOND_NS, 60 * SECOND_NS)
    for step_ns in steps:
        now_ns += step_ns
        watched.remaining(now_ns)
    assert watched.full_in_ns(now_ns) == pytest.approx(unwatched.full_in_ns(now_ns), abs=5 * len(steps))
    assert watched.taken_by_others == pytest.approx(unwatched.taken_by_others, abs=1)


def test_it_knows_what_was_permitted_between_the_first_request_and_the_latest():
    bucket = TokenBucket(60, 10, now_ns=0)
    bucket.wait_ns(1, 100 * SECOND_NS)
    bucket.take(1, 100 * SECOND_NS)
    bucket.wait_ns(1, 130 * SECOND_NS)
    bucket.take(1, 130 * SECOND_NS)
    assert bucket.remaining(500 * SECOND_NS) == 10
    assert (bucket.granted, bucket.permitted) == (2, 40)
    bucket.restart_counts(500 * SECOND_NS)
    assert (bucket.granted, bucket.permitted) == (0, 0)


def test_a_refill_forgives_every_debt_and_counts_as_permitted():
    bucket = TokenBucket(60, 10, now_ns=0)
    bucket.wait_ns(30, 0)
    bucket.take(30, 0)
    bucket.refill(0)
    assert bucket.wait_ns(10, 0) == 0
    assert bucket.permitted == 40
