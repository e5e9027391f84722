"""A worker that is cut off from the provider while others are answered leaves the jobs to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from worker.uplink import ENOUGH, Uplink

SECOND = timedelta(seconds=1)
FREE = 50


class Time:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def uplink(time: Time) -> Uplink:
    return Uplink(longest_rest=10 * SECOND, now=time)


def fail(uplink: Uplink, time: Time, times: int = ENOUGH) -> None:
    for _ in range(times):
        uplink.note(cut_off=True, started_at=time())


def test_enough_requests_in_a_row_without_a_connection_and_it_claims_no_more(uplink, time):
    fail(uplink, time, ENOUGH - 1)
    assert (uplink.allows(FREE), uplink.is_cut_off) == (FREE, False)
    fail(uplink, time, 1)
    assert (uplink.allows(FREE), uplink.left()) == (0, SECOND)


def test_one_that_got_through_between_them_shows_that_it_is_not(uplink, time):
    fail(uplink, time, ENOUGH - 1)
    uplink.note(cut_off=False, started_at=time())
    fail(uplink, time, ENOUGH - 1)
    assert not uplink.is_cut_off


def test_after_each_rest_one_job_finds_out_and_rests_become_longer_up_to_the_longest(uplink, time):
    fail(uplink, time)
    rests = []
    for _ in range(6):
        rests.append(uplink.left() / SECOND)
        time.now += uplink.left()
        assert uplink.allows(FREE) == 1
        uplink.let_one()
        assert uplink.allows(FREE) == 0, "one, whatever becomes of it"
        fail(uplink, time, 1)
    assert rests == [1, 2, 4, 8, 10, 10]


def test_a_job_that_never_tells_holds_up_nothing(uplink, time):
    fail(uplink, time)
    time.now += SECOND
    uplink.let_one()
    assert uplink.allows(FREE) == 0
    time.now += SECOND
    assert uplink.allows(FREE) == 1


@pytest.mark.parametrize("cut_off", [True, False])
def test_what_was_under_way_when_the_rest_began_is_no_news(uplink, time, cut_off):
    """Fifty requests meet the same dead network; one that had been sent before may still be answered, or time out."""
    sent = time()
    time.now += SECOND
    fail(uplink, time)
    for _ in range(50):
        uplink.note(cut_off=cut_off, started_at=sent)
    assert (uplink.left(), uplink.is_cut_off) == (SECOND, True)


def test_it_is_said_once_and_whoever_waits_is_woken_when_it_is_over(time):
    woken = []
    uplink = Uplink(longest_rest=10 * SECOND, on_back=lambda: woken.append(True), now=time)
    with capture_logs() as logs:
        for _ in range(3):
            fail(uplink, time)
            time.now += uplink.left()
        assert woken == []
        uplink.note(cut_off=False, started_at=time())
    assert logs == [
        {"event": "worker_cut_off", "log_level": "error", "longest_rest_s": 10.0},
        {"event": "worker_reaches_again", "log_level": "info"},
    ]
    assert (woken, uplink.allows(FREE), uplink.left()) == ([True], FREE, timedelta(0))
