"""Buckets of a period: where they begin by the calendar of a time zone, whatever its clocks do."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import Invalid
from app.domain.measures.calendar import MOST_BUCKETS, By, buckets


def utc(*numbers: int) -> datetime:
    return datetime(*numbers, tzinfo=UTC)  # type: ignore[misc, arg-type]  # year, month, day …


def lengths(boundaries: tuple[datetime, ...]) -> list[float]:
    return [(end - start) / timedelta(hours=1) for start, end in pairwise(boundaries)]


def test_the_days_on_which_clocks_change_have_23_and_25_hours() -> None:
    spring = buckets(utc(2024, 3, 29, 23), utc(2024, 4, 1, 22), By.DAY, "Europe/Berlin")
    assert spring == (
        utc(2024, 3, 29, 23),
        utc(2024, 3, 30, 23),
        utc(2024, 3, 31, 22),
        utc(2024, 4, 1, 22),
    )
    assert lengths(spring) == [24, 23, 24]
    autumn = buckets(utc(2024, 10, 25, 22), utc(2024, 10, 28, 23), By.DAY, "Europe/Berlin")
    assert lengths(autumn) == [24, 25, 24]


def test_weeks_begin_on_monday_and_the_outer_ones_are_cut_to_the_period() -> None:
    wednesday, tuesday = utc(2024, 12, 25, 12), utc(2025, 1, 7)
    assert buckets(wednesday, tuesday, By.WEEK, "UTC") == (
        wednesday,
        utc(2024, 12, 30),
        utc(2025, 1, 6),
        tuesday,
    )


def test_months_and_quarters_are_those_of_the_zone() -> None:
    begin, end = utc(2023, 12, 15), utc(2024, 7, 2)
    # New York leaves summer time in November and enters it on 10 March.
    assert buckets(begin, end, By.MONTH, "America/New_York") == (
        begin,
        utc(2024, 1, 1, 5),
        utc(2024, 2, 1, 5),
        utc(2024, 3, 1, 5),
        utc(2024, 4, 1, 4),
        utc(2024, 5, 1, 4),
        utc(2024, 6, 1, 4),
        utc(2024, 7, 1, 4),
        end,
    )
    assert buckets(begin, end, By.QUARTER, "America/New_York") == (
        begin,
        utc(2024, 1, 1, 5),
        utc(2024, 4, 1, 4),
        utc(2024, 7, 1, 4),
        end,
    )


def test_a_day_whose_midnight_the_clocks_skip_begins_when_they_do() -> None:
    boundaries = buckets(utc(2018, 11, 3, 3), utc(2018, 11, 5, 2), By.DAY, "America/Sao_Paulo")
    assert boundaries[1] == utc(2018, 11, 4, 3)  # 01:00 there: 00:00 never was
    assert lengths(boundaries) == [24, 23]


def test_a_midnight_that_comes_twice_begins_the_day_the_first_time() -> None:
    boundaries = buckets(utc(2024, 11, 2, 4), utc(2024, 11, 4, 5), By.DAY, "America/Havana")
    assert boundaries[1] == utc(2024, 11, 3, 4)
    assert lengths(boundaries) == [24, 25]


def test_a_day_that_a_zone_left_out_is_no_bucket() -> None:
    boundaries = buckets(utc(2011, 12, 29, 10), utc(2011, 12, 31, 10), By.DAY, "Pacific/Apia")
    assert boundaries == (utc(2011, 12, 29, 10), utc(2011, 12, 30, 10), utc(2011, 12, 31, 10))


def test_an_empty_period_has_no_bucket() -> None:
    assert buckets(utc(2024, 1, 1), utc(2024, 1, 1), By.DAY, "UTC") == (utc(2024, 1, 1),)


def test_more_buckets_than_an_answer_holds_are_refused() -> None:
    begin = utc(2024, 1, 1)
    most = buckets(begin, begin + timedelta(days=MOST_BUCKETS), By.DAY, "UTC")
    assert len(most) == MOST_BUCKETS + 1
    with pytest.raises(Invalid) as refused:
        buckets(begin, begin + timedelta(days=MOST_BUCKETS, hours=1), By.DAY, "UTC")
    assert [(b.pointer, b.code) for b in refused.value.errors] == [("?by", "out_of_range")]
    with pytest.raises(Invalid):
        buckets(utc(1900, 1, 1), utc(2999, 1, 1), By.MONTH, "UTC")


def label(instant: datetime, by: By, zone: str) -> str:
    """What people there call the bucket that holds the instant."""
    here = instant.astimezone(ZoneInfo(zone))
    if by is By.QUARTER:
        return f"{here.year}-Q{(here.month + 2) // 3}"
    return here.strftime({By.DAY: "%Y-%m-%d", By.WEEK: "%G-W%V", By.MONTH: "%Y-%m"}[by])


@given(
    second=st.integers(0, 1_300_000_000),
    days=st.integers(0, 390),
    by=st.sampled_from(By),
    zone=st.sampled_from(("UTC", "America/St_Johns", "Australia/Lord_Howe", "America/Sao_Paulo")),
)
def test_buckets_cover_the_period_and_each_has_a_name_of_its_own(
    second: int, days: int, by: By, zone: str
) -> None:
    begin = utc(1990, 1, 1) + timedelta(seconds=second)
    end = begin + timedelta(days=days, seconds=1)
    boundaries = buckets(begin, end, by, zone)
    assert (boundaries[0], boundaries[-1]) == (begin, end)
    assert all(earlier < later for earlier, later in pairwise(boundaries))
    names = [label(since, by, zone) for since, _ in pairwise(boundaries)]
    assert len(set(names)) == len(names)
    assert names == [label(until - timedelta(microseconds=1), by, zone) for until in boundaries[1:]]
