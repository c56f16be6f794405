"""Lengths of time as definitions write them; how they are written is in the tests of the API."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.period import LONGEST, Period

DAY, WEEK = 86_400, 7 * 86_400
MOST = int(LONGEST.total_seconds())

periods = st.one_of(
    st.builds(Period, weeks=st.integers(0, MOST // WEEK)),
    st.builds(Period, seconds=st.integers(0, MOST)),
    st.integers(0, LONGEST.days).flatmap(
        lambda days: st.builds(
            Period, days=st.just(days), seconds=st.integers(0, MOST - days * DAY)
        )
    ),
)


@given(periods)
def test_a_doubled_period_is_twice_as_long_wherever_that_can_be(period: Period) -> None:
    doubled = period.doubled()
    if 2 * period.length <= LONGEST:
        assert doubled == Period(2 * period.weeks, 2 * period.days, 2 * period.seconds)
    else:
        assert period.length <= doubled.length <= LONGEST


@given(periods)
def test_a_doubled_period_has_no_unit_that_it_had_not(period: Period) -> None:
    doubled = period.doubled()
    assert bool(doubled.weeks) == bool(period.weeks)
    assert bool(doubled.days) == bool(period.days)
    assert bool(doubled.seconds) <= bool(period.seconds)


@pytest.mark.parametrize(
    ("written", "doubled"),
    [
        ("P7D", "P14D"),
        ("P2W", "P4W"),
        ("P1DT12H", "P2DT24H"),
        ("P20000D", "P36525D"),
        ("P36525D", "P36525D"),
        ("P3000W", "P5217W"),
        ("PT500000H", "PT876600H"),
        ("P18262DT12H", "P36524DT24H"),
        ("P18262DT20H", "P36524DT24H"),
        ("P36524DT24H", "P36525D"),
    ],
)
def test_what_would_be_too_long_is_the_longest_in_its_own_units(written: str, doubled: str) -> None:
    assert str(Period.parse(written).doubled()) == doubled
