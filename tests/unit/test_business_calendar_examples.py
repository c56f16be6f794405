"""Working time in named weeks, worked out by hand, and what makes a calendar a calendar."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.domain.business_calendar import (
    LAST_YEAR,
    MOST_DATES,
    BusinessCalendar,
    Holiday,
    SpecialDay,
)
from app.domain.period import Period
from app.domain.templates.calendars import TEMPLATES
from app.domain.timetable import MOST_YEARS, working_year
from app.domain.working_hours import MOST_SPANS, Hours, Span

MOMENT, DAY = timedelta(microseconds=1), timedelta(days=1)
WHOLE = (Span(0, 1440),)
OFFICE = (Span(9 * 60, 17 * 60),)
LUNCH = (Span(9 * 60, 12 * 60), Span(13 * 60, 17 * 60))


def office(
    timezone: str = "Europe/Berlin",
    hours: Hours = OFFICE,
    holidays: tuple[Holiday, ...] = (),
    special_days: tuple[SpecialDay, ...] = (),
) -> BusinessCalendar:
    return BusinessCalendar(
        timezone=timezone,
        hours=(*[hours] * 5, (), ()),
        holidays=holidays,
        special_days=special_days,
    )


def crossed(calendar: BusinessCalendar, start: str, period: str) -> str:
    """Both local, as the calendar's own clock shows them."""
    zone = ZoneInfo(calendar.timezone)
    found = calendar.crossing(
        datetime.fromisoformat(start).replace(tzinfo=zone), Period.parse(period)
    )
    assert found is not None
    assert found.tzinfo is UTC
    return f"{found.astimezone(zone):%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("start", "period", "expected"),
    [
        ("2026-03-06 15:30", "P1D", "2026-03-09 15:30"),  # Friday to Monday
        ("2026-03-06 15:30", "P5D", "2026-03-13 15:30"),
        ("2026-03-06 15:30", "P1W", "2026-03-13 15:30"),
        ("2026-03-06 15:30", "PT2H", "2026-03-09 09:30"),
        ("2026-03-06 15:30", "PT1H30M", "2026-03-06 17:00"),  # at the closing, not on Monday
        ("2026-03-06 15:30", "P1DT2H", "2026-03-10 09:30"),  # Monday 15:30, then two hours
        ("2026-03-06 17:00", "P1D", "2026-03-10 09:00"),  # closed: counts from Monday 09:00
        ("2026-03-07 12:00", "P0D", "2026-03-09 09:00"),
        ("2026-03-07 12:00", "PT0S", "2026-03-09 09:00"),
        ("2026-03-06 15:30", "PT0S", "2026-03-06 15:30"),
        ("2026-03-27 10:00", "P1D", "2026-03-30 10:00"),  # over the change to summer time
        ("2026-03-27 10:00", "PT8H", "2026-03-30 10:00"),
        ("2026-03-06 10:00", "PT40H", "2026-03-13 10:00"),
    ],
)
def test_office_hours_in_berlin(start: str, period: str, expected: str) -> None:
    assert crossed(office(), start, period) == expected


def test_a_holiday_moves_a_threshold_on_and_one_on_a_weekend_does_not() -> None:
    christmas = office(
        holidays=(
            Holiday(date(2026, 12, 25), "Christmas Day"),  # a Friday
            Holiday(date(2026, 12, 26), "Boxing Day"),  # a Saturday
            Holiday(date(2027, 1, 1)),  # a Friday
        ),
        special_days=(SpecialDay(date(2026, 12, 24), (Span(9 * 60, 13 * 60),), "Christmas Eve"),),
    )
    assert crossed(christmas, "2026-12-23 15:00", "P1D") == "2026-12-24 13:00"
    assert crossed(christmas, "2026-12-23 15:00", "P2D") == "2026-12-28 15:00"
    assert crossed(christmas, "2026-12-23 15:00", "PT8H") == "2026-12-28 11:00"
    # Five working days each: 24, 28, 29, 30 and 31 December, then 4 to 8 January.
    assert crossed(christmas, "2026-12-23 15:00", "P1W") == "2026-12-31 15:00"
    assert crossed(christmas, "2026-12-23 15:00", "P2W") == "2027-01-08 15:00"


def test_a_week_that_is_closed_altogether_is_no_working_week() -> None:
    golden_week = office(
        "Asia/Shanghai",
        holidays=tuple(Holiday(date(2026, 10, day), "国庆节") for day in range(1, 8)),
        special_days=(
            SpecialDay(date(2026, 9, 27), OFFICE, "调休"),  # a Sunday worked
            SpecialDay(date(2026, 10, 10), OFFICE, "调休"),  # a Saturday worked
        ),
    )
    assert crossed(golden_week, "2026-09-25 10:00", "P1D") == "2026-09-27 10:00"
    assert crossed(golden_week, "2026-09-30 10:00", "P1D") == "2026-10-08 10:00"
    assert crossed(golden_week, "2026-09-30 10:00", "P3D") == "2026-10-10 10:00"
    assert crossed(golden_week, "2026-09-30 10:00", "P1W") == "2026-10-13 10:00"
    assert crossed(golden_week, "2026-09-30 10:00", "PT25H") == "2026-10-10 11:00"


def test_a_time_before_that_days_hours_is_its_opening_and_one_after_them_its_closing() -> None:
    calendar = BusinessCalendar(
        timezone="Europe/Berlin", hours=((Span(480, 1140),), OFFICE, LUNCH, OFFICE, OFFICE, (), ())
    )
    assert crossed(calendar, "2026-03-02 08:30", "P1D") == "2026-03-03 09:00"
    assert crossed(calendar, "2026-03-02 18:00", "P1D") == "2026-03-03 17:00"


def test_a_time_in_that_days_pause_is_the_end_of_the_work_before_it() -> None:
    calendar = BusinessCalendar(
        timezone="Europe/Berlin", hours=(OFFICE, LUNCH, LUNCH, OFFICE, OFFICE, (), ())
    )
    assert crossed(calendar, "2026-03-02 12:30", "P1D") == "2026-03-03 12:00"
    assert crossed(calendar, "2026-03-02 13:00", "P1D") == "2026-03-03 13:00"
    # A start in a pause counts from when it is over.
    assert crossed(calendar, "2026-03-03 12:30", "P1D") == "2026-03-04 13:00"
    assert crossed(calendar, "2026-03-03 12:30", "PT30M") == "2026-03-03 13:30"


def test_whole_days_have_23_and_25_hours_when_the_clocks_change() -> None:
    always = BusinessCalendar(timezone="Europe/Berlin", hours=(WHOLE,) * 7)
    assert crossed(always, "2026-03-28 12:00", "PT24H") == "2026-03-29 13:00"
    assert crossed(always, "2026-03-28 12:00", "P1D") == "2026-03-29 12:00"
    assert crossed(always, "2026-10-24 12:00", "PT24H") == "2026-10-25 11:00"
    assert crossed(always, "2026-10-24 12:00", "P1D") == "2026-10-25 12:00"


def test_a_time_that_the_clock_skips_is_the_moment_of_the_change() -> None:
    always = BusinessCalendar(timezone="Europe/Berlin", hours=(WHOLE,) * 7)
    skipped = datetime(2026, 3, 29, 1, tzinfo=UTC)
    for start in (datetime(2026, 3, 28, 1, minute, tzinfo=UTC) for minute in (0, 15, 59)):
        assert always.crossing(start, Period(days=1)) == skipped
    after = datetime(2026, 3, 28, 2, 15, tzinfo=UTC)  # 03:15, which the 29th shows at 01:15 UTC
    assert always.crossing(after, Period(days=1)) == datetime(2026, 3, 29, 1, 15, tzinfo=UTC)
    assert always.latest_start(skipped, Period(days=1)) == datetime(2026, 3, 28, 2, tzinfo=UTC)


def test_a_time_that_the_clock_repeats_is_reached_when_it_is_shown_first() -> None:
    always = BusinessCalendar(timezone="Europe/Berlin", hours=(WHOLE,) * 7)
    start = datetime(2026, 10, 24, 0, 30, tzinfo=UTC)  # 02:30 on Saturday
    assert always.crossing(start, Period(days=1)) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


def test_a_start_while_an_hour_is_repeated_counts_as_the_end_of_that_hour() -> None:
    always = BusinessCalendar(timezone="Europe/Berlin", hours=(WHOLE,) * 7)
    first, again = (datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1))
    assert always.crossing(first, Period(days=1)) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    assert always.crossing(again, Period(days=1)) == datetime(2026, 10, 26, 2, tzinfo=UTC)


def test_a_day_that_a_zone_left_out_is_no_working_day() -> None:
    # Samoa went from Thursday, 29 December 2011 straight to Saturday.
    apia = office("Pacific/Apia")
    assert crossed(apia, "2011-12-29 10:00", "P1D") == "2012-01-02 10:00"
    assert crossed(apia, "2011-12-29 10:00", "PT8H") == "2012-01-02 10:00"
    every_day = BusinessCalendar(timezone="Pacific/Apia", hours=(OFFICE,) * 7)
    assert crossed(every_day, "2011-12-29 10:00", "P1D") == "2011-12-31 10:00"


def test_hours_at_night_that_the_clock_skips_are_none() -> None:
    night = BusinessCalendar(
        timezone="Europe/Berlin", hours=((Span(0, 60),), (), (), (), (), (), (Span(120, 180),))
    )
    # The Sunday of 29 March 2026 has no hour from two to three.
    assert crossed(night, "2026-03-23 00:30", "P1D") == "2026-03-30 00:30"


def test_latest_starts_of_a_week_in_the_office() -> None:
    calendar = office("UTC")
    monday, two_days = datetime(2026, 3, 9, 10, tzinfo=UTC), Period(days=2)
    assert calendar.latest_start(monday, two_days) == datetime(2026, 3, 5, 10, tzinfo=UTC)
    evening = monday.replace(hour=20)
    assert calendar.latest_start(evening, two_days) == datetime(2026, 3, 5, 17, tzinfo=UTC) - MOMENT
    early = monday.replace(hour=8)  # as on Friday evening
    assert calendar.latest_start(early, two_days) == datetime(2026, 3, 4, 17, tzinfo=UTC) - MOMENT
    assert calendar.latest_start(monday, Period(seconds=3600)) == datetime(
        2026, 3, 9, 9, tzinfo=UTC
    )
    # At Friday's closing nine hours have passed for who began before Thursday at 16:00 was over.
    friday = datetime(2026, 3, 6, 17, tzinfo=UTC)
    assert calendar.latest_start(friday, Period(seconds=9 * 3600)) == datetime(
        2026, 3, 5, 16, tzinfo=UTC
    )
    # Who starts on Friday evening counts from Monday 09:00 and is due then.
    opening = datetime(2026, 3, 9, 9, tzinfo=UTC)
    assert calendar.latest_start(opening, Period()) == opening
    assert calendar.latest_start(opening - MOMENT, Period()) == friday - MOMENT


def test_thresholds_of_a_hundred_years_have_a_crossing() -> None:
    calendar = office("UTC")
    start, century = datetime(2026, 3, 2, 10, tzinfo=UTC), Period(days=36_525)
    # 36,525 = 7,305 weeks of five days each.
    crossing = calendar.crossing(start, century)
    assert crossing == start + timedelta(weeks=7_305)
    assert calendar.latest_start(crossing, century) == start


def test_what_would_lie_past_the_last_year_is_never() -> None:
    seldom = BusinessCalendar(timezone="UTC", hours=((Span(0, 1),), (), (), (), (), (), ()))
    start = datetime(2026, 3, 2, tzinfo=UTC)
    assert seldom.crossing(start, Period(seconds=876_600 * 3600)) is None
    assert seldom.crossing(start, Period(days=36_525)) is None
    assert seldom.crossing(start, Period(days=1, seconds=876_600 * 3600 - 86_400)) is None
    assert seldom.latest_start(start, Period(days=36_525)) is None
    assert seldom.latest_start(start, Period(seconds=876_600 * 3600)) is None
    assert seldom.latest_start(datetime(1400, 1, 1, tzinfo=UTC), Period()) is None
    assert seldom.latest_start(datetime(1400, 1, 1, tzinfo=UTC), Period(days=1)) is None
    assert seldom.latest_start(datetime(1400, 1, 1, tzinfo=UTC), Period(seconds=1)) is None
    assert seldom.next_opening(datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC)) is None
    assert seldom.crossing(datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC), Period()) is None


def test_work_that_rests_for_years_begins_again_after_the_last_holiday() -> None:
    day, last = date(2026, 1, 1), date(2026, 1, 1) + (MOST_DATES - 1) * DAY
    resting = office("UTC", holidays=tuple(Holiday(day + n * DAY) for n in range(MOST_DATES)))
    assert last == date(2031, 6, 23)  # a Monday
    assert resting.next_opening(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(
        2031, 6, 24, 9, tzinfo=UTC
    )
    assert crossed(resting, "2025-12-31 16:00", "PT2H") == "2031-06-24 10:00"
    assert resting.latest_start(
        datetime(2031, 6, 24, 10, tzinfo=UTC), Period(seconds=7200)
    ) == datetime(2025, 12, 31, 16, tzinfo=UTC)


# ── the value ─────────────────────────────────────────────────────────────────────────────────


def test_calendars_that_say_the_same_are_equal_in_whatever_order_their_dates_are_given() -> None:
    days = tuple(Holiday(date(2026, 5, day)) for day in (1, 25, 14))
    short = tuple(SpecialDay(date(2026, 12, day), OFFICE) for day in (31, 24))
    one = office(holidays=days, special_days=short)
    other = office(holidays=days[::-1], special_days=short[::-1])
    one.crossing(
        datetime(2026, 1, 1, tzinfo=UTC), Period(days=3)
    )  # what it remembers tells nothing
    assert one == other
    assert hash(one) == hash(other)
    assert one != office(holidays=days[:2], special_days=short)


def test_calendars_that_differ_in_anything_are_different() -> None:
    calendar = office(holidays=(Holiday(date(2026, 5, 1), "Labour Day"),))
    for other in (
        office("Europe/Paris", holidays=calendar.holidays),
        office(hours=LUNCH, holidays=calendar.holidays),
        office(holidays=(Holiday(date(2026, 5, 1)),)),
        office(holidays=calendar.holidays, special_days=(SpecialDay(date(2026, 5, 2), OFFICE),)),
    ):
        assert calendar != other
    assert calendar != "Europe/Berlin"


def test_equal_calendars_share_the_years_that_were_worked_out() -> None:
    working_year.cache_clear()
    start, fortnight = datetime(2026, 3, 2, 10, tzinfo=UTC), Period(days=14)
    revisions = [office(holidays=(Holiday(date(2026, 4, 3)),)) for _ in range(20)]
    crossings = {calendar.crossing(start, fortnight) for calendar in revisions}
    assert crossings == {datetime(2026, 3, 20, 10, tzinfo=UTC)}
    assert working_year.cache_info().currsize == working_year.cache_info().misses == 1
    office(holidays=(Holiday(date(2026, 4, 6)),)).crossing(start, fortnight)
    assert working_year.cache_info().currsize == 2


def test_no_more_years_are_kept_than_there_is_room_for_whatever_is_asked() -> None:
    working_year.cache_clear()
    daily = BusinessCalendar(timezone="UTC", hours=((Span(0, 1),),) * 7)
    start = datetime(2026, 3, 2, tzinfo=UTC)
    # A minute a day: 24 hours of work take 1,440 days, and 3,000 hours 180,000 of them.
    assert daily.crossing(start, Period(seconds=86_400)) == start + timedelta(days=1439, minutes=1)
    assert 4 <= working_year.cache_info().currsize <= 5
    assert daily.crossing(start, Period(seconds=3_000 * 3600)) is None
    assert daily.latest_start(start, Period(seconds=3_000 * 3600)) == start - timedelta(
        days=180_000
    )
    assert working_year.cache_info().misses > 2 * MOST_YEARS
    assert working_year.cache_info().currsize == MOST_YEARS


@pytest.mark.parametrize(
    ("period", "days"),
    [("P5D", 7), ("P1W", 7), ("PT35H", 7), ("PT7H", 1.4), ("P1DT7H", 2.8), ("PT0S", 0)],
)
def test_the_regular_length_is_that_of_weeks_without_other_dates(period: str, days: float) -> None:
    resting = office(hours=LUNCH, holidays=(Holiday(date(2026, 5, 1)),))
    assert resting.regular_length(Period.parse(period)) == timedelta(days=days)


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (lambda: BusinessCalendar(timezone="UTC", hours=((),) * 7), "hours on one of them"),
        (lambda: BusinessCalendar(timezone="UTC", hours=(OFFICE,) * 5), "seven days"),
        (lambda: office("Mars/Olympus"), "no IANA time zone"),
        (lambda: office("../etc/passwd"), "no IANA time zone"),
        (lambda: office(hours=(Span(540, 720), Span(700, 1020))), "do not overlap"),
        (lambda: office(hours=(Span(780, 1020), Span(540, 720))), "in order"),
        (
            lambda: office(hours=tuple(Span(n, n + 1) for n in range(0, 2 * MOST_SPANS + 2, 2))),
            "at most 8 spans",
        ),
        (lambda: Span(540, 540), "earlier to a later"),
        (lambda: Span(-1, 540), "of one day"),
        (lambda: Span(1380, 1500), "of one day"),
        (lambda: SpecialDay(date(2026, 12, 24), ()), "is a holiday"),
        (
            lambda: SpecialDay(date(2026, 12, 24), (Span(540, 720), Span(600, 800))),
            "do not overlap",
        ),
        (lambda: office(holidays=(Holiday(date(2026, 1, 1)),) * 2), "only once"),
        (
            lambda: office(
                holidays=(Holiday(date(2026, 1, 1)),),
                special_days=(SpecialDay(date(2026, 1, 1), OFFICE),),
            ),
            "only once",
        ),
        (
            lambda: office(
                holidays=tuple(Holiday(date(2026, 1, 1) + n * DAY) for n in range(MOST_DATES + 1))
            ),
            "at most 2000",
        ),
    ],
)
def test_a_calendar_without_a_meaning_is_refused(
    made: Callable[[], object], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        made()


def test_hours_may_touch_and_then_run_on() -> None:
    touching = office("UTC", hours=(Span(540, 720), Span(720, 1020)))
    assert crossed(touching, "2026-03-02 11:30", "PT1H") == "2026-03-02 12:30"
    assert crossed(touching, "2026-03-02 12:00", "P1D") == "2026-03-03 12:00"


def ready_made(timezone: str) -> dict[str, BusinessCalendar]:
    return {
        template.key: BusinessCalendar(timezone=timezone, hours=template.hours)
        for template in TEMPLATES
    }


def test_the_ready_made_weeks_are_told_in_both_languages() -> None:
    for template in TEMPLATES:
        for english, chinese in (template.name, template.description):
            assert english.isascii()
            assert any("\u4e00" <= letter <= "\u9fff" for letter in chinese)


def test_the_ready_made_weeks_rest_when_they_say() -> None:
    days = [datetime(2026, 3, day, 12, tzinfo=UTC) for day in range(2, 9)]  # from a Monday
    worked = {key: [made.is_open(day) for day in days] for key, made in ready_made("UTC").items()}
    assert worked == {
        "weekdays": [True] * 5 + [False] * 2,
        "office_hours": [True] * 5 + [False] * 2,
        "sunday_to_thursday": [True] * 4 + [False] * 2 + [True],
    }
    berlin = ready_made("Europe/Berlin")
    assert crossed(berlin["weekdays"], "2026-03-06 22:00", "PT4H") == "2026-03-09 02:00"
    assert crossed(berlin["office_hours"], "2026-03-06 22:00", "PT4H") == "2026-03-09 13:00"
    assert crossed(berlin["sunday_to_thursday"], "2026-03-06 22:00", "PT4H") == "2026-03-08 04:00"
