"""Charts of one line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from producers.cli.charts import Axis, bars, levels, marks

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_an_axis_has_a_place_for_each_hour_until_now():
    axis = Axis(NOW, 3)
    assert axis.first == datetime(2026, 11, 22, 9, tzinfo=UTC)
    assert axis.count == 4
    assert [axis.place(NOW - hours * HOUR) for hours in (3, 2, 1, 0)] == [0, 1, 2, 3]


def test_what_lies_outside_stands_at_the_nearest_end():
    axis = Axis(NOW, 3)
    assert (axis.place(NOW + HOUR), axis.place(NOW - 100 * HOUR)) == (3, 0)


def test_a_month_of_hours_fits_into_a_line():
    axis = Axis(NOW, 720)
    places = [axis.place(NOW - hours * HOUR) for hours in range(720, -1, -1)]
    assert axis.count == 46
    assert [places.count(place) for place in range(46)] == [16] * 45 + [1]


def test_days_begin_at_midnight():
    axis = Axis(NOW, 48, timedelta(days=1))
    assert (axis.first, axis.count) == (datetime(2026, 11, 20, tzinfo=UTC), 3)
    assert axis.place(datetime(2026, 11, 21, 23, 59, tzinfo=UTC)) == 1


def test_bars_are_in_proportion_and_the_smallest_is_seen():
    assert bars([Decimal(value) for value in ("0", "0.001", "4", "8")]) == " ▁▄█"
    assert bars([0] * 3) == "   "


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5, 0.75, 1.0], "▁▅█"),
        ([1.0, None, 0.0], "█ ▁"),
        ([0.99, 1.0], "▇█"),
        ([0.0, 0.0], "▁▁"),
        ([None, None], "  "),
    ],
)
def test_levels_reach_from_the_lowest_to_the_highest_and_what_hardly_moves_looks_like_that(values, expected):
    assert levels(values) == expected


def test_marks_stand_below_their_places():
    assert (marks([1, 4]), marks([])) == (" ▲  ▲", "")
