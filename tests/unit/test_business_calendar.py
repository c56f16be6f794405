"""Working time, held against a slow reference that walks minute by minute and day by day.

The reference is written from docs/decisions/business-calendars.md alone. It asks a zone for nothing
but what its clock shows at an instant, and shares no code with what it is held against.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import count
from zoneinfo import ZoneInfo

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from app.domain.business_calendar import BusinessCalendar, Holiday, SpecialDay
from app.domain.period import Period
from app.domain.templates.calendars import TEMPLATES
from app.domain.working_hours import Hours, Span

MOMENT, MINUTE, HOUR, DAY = (
    timedelta(microseconds=1),
    timedelta(minutes=1),
    timedelta(hours=1),
    timedelta(days=1),
)
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Asia/Shanghai",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Africa/Cairo",  # its clocks change at midnight
    "Pacific/Apia",  # had no 30 December 2011
    "Asia/Kathmandu",  # 5:45 ahead
    "America/St_Johns",  # its clocks went back over midnight until 2011
)


# ── the reference ─────────────────────────────────────────────────────────────────────────────


def reading(zone: str, instant: datetime) -> datetime:
    """What the clock on the wall shows."""
    return instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


@cache
def offsets_about(zone: str, day: date) -> frozenset[timedelta]:
    """The distances from UTC that the zone's clock has within two days of that date."""
    noon = datetime.combine(day, time(12), UTC)
    about = [noon + hours * HOUR for hours in range(-60, 61)]
    return frozenset(reading(zone, at) - at.replace(tzinfo=None) for at in about)


@cache
def first_shown(zone: str, local: datetime) -> datetime:
    """The first whole minute at which the clock shows this time or a later one."""
    offsets = offsets_about(zone, local.date())
    if len(offsets) == 1:
        return local.replace(tzinfo=UTC) - next(iter(offsets))
    minute = local.replace(tzinfo=UTC) - max(offsets) - HOUR
    while reading(zone, minute) < local:
        minute += MINUTE
    return minute


def latest_shown(zone: str, instant: datetime) -> datetime:
    """What the clock shows; while it repeats an hour, the end of that hour."""
    local = reading(zone, instant)
    if len(offsets_about(zone, local.date())) == 1:
        return local
    minute = instant.replace(second=0, microsecond=0)
    ever = max(reading(zone, minute - ago * MINUTE) for ago in range(1, 26 * 60))
    return ever + MINUTE if ever >= reading(zone, minute) else local


@cache
def stretches_on(calendar: BusinessCalendar, day: date) -> list[tuple[datetime, datetime]]:
    """The working time of a date."""
    hours = calendar.hours[day.isoweekday() - 1]
    for special in calendar.special_days:
        if special.on == day:
            hours = special.hours
    if any(holiday.on == day for holiday in calendar.holidays):
        hours = ()
    midnight = datetime.combine(day, time())
    edges = [
        (
            first_shown(calendar.timezone, midnight + span.start * MINUTE),
            first_shown(calendar.timezone, midnight + span.end * MINUTE),
        )
        for span in hours
    ]
    return [(begin, end) for begin, end in edges if begin < end]


def working_days(calendar: BusinessCalendar, after: datetime) -> Iterator[date]:
    """The dates with working time that end after that instant, in order."""
    yesterday = reading(calendar.timezone, after).date() - 2 * DAY
    for days in count():
        day = yesterday + days * DAY
        stretches = stretches_on(calendar, day)
        if stretches and stretches[-1][1] > after:
            yield day


def plain_crossing(calendar: BusinessCalendar, start: datetime, period: Period) -> datetime:
    days_on = period.days
    for hours in calendar.hours:
        days_on += period.weeks if hours else 0
    today = next(working_days(calendar, start))
    at = next(max(start, begin) for begin, end in stretches_on(calendar, today) if end > start)
    if days_on:
        passed = latest_shown(calendar.timezone, at) - datetime.combine(today, time())
        days = working_days(calendar, start)
        for _ in range(days_on):
            next(days)
        at = plain_time_of_day(calendar, next(days), passed)
    left = timedelta(seconds=period.seconds)
    days = working_days(calendar, at)
    while left:
        for begin, end in stretches_on(calendar, next(days)):
            if end <= at or not left:
                continue
            worked = min(end - max(at, begin), left)
            left -= worked
            at = max(at, begin) + worked
    return at


def plain_time_of_day(calendar: BusinessCalendar, day: date, passed: timedelta) -> datetime:
    """The local time on that date; before its hours the opening, else the last end before it."""
    local = datetime.combine(day, time()) + passed
    whole = local.replace(second=0, microsecond=0)
    at = first_shown(calendar.timezone, whole)
    if reading(calendar.timezone, at) == whole:
        at += local - whole
    found = stretches_on(calendar, day)[0][0]
    for begin, end in stretches_on(calendar, day):
        if begin <= at:
            found = min(at, end)
    return found


# ── what it is tried on ───────────────────────────────────────────────────────────────────────


BEGIN = datetime(2010, 1, 1, tzinfo=UTC)
WHOLE = (Span(0, 1440),)
NIGHT = (Span(0, 240), Span(22 * 60, 1440))
PLAIN_WEEKS: list[list[Hours]] = [[WHOLE] * 7, *(list(template.hours) for template in TEMPLATES)]


@cache
def clock_changes(zone: str) -> list[datetime]:
    hours = [BEGIN + hour * HOUR for hour in range(24 * 365 * 17)]
    offsets = [at.astimezone(ZoneInfo(zone)).utcoffset() for at in hours]
    return [
        at
        for at, one, next_one in zip(hours, offsets, offsets[1:], strict=False)
        if one != next_one
    ]


@st.composite
def hours_of_a_day(draw: st.DrawFn) -> Hours:
    """One to three spans, to the minute or the half-hour, whole days and night hours among them."""
    usual = st.sampled_from([0, 60, 120, 150, 180, 480, 540, 720, 780, 1020, 1380, 1410, 1440])
    edges = sorted(
        draw(st.lists(usual | st.integers(0, 1440), min_size=2, max_size=6, unique=True))
    )
    return tuple(Span(*pair) for pair in zip(edges[::2], edges[1::2], strict=False))


@st.composite
def cases(draw: st.DrawFn) -> tuple[BusinessCalendar, datetime]:
    """A calendar, and an instant about which its dates and often a change of clocks lie."""
    zone = draw(st.sampled_from(ZONES))
    about = draw(
        st.integers(0, 15 * 365 * 24 * 60).map(lambda minutes: BEGIN + minutes * MINUTE)
        | st.sampled_from(clock_changes(zone) or [datetime(2020, 6, 1, tzinfo=UTC)])
    )
    week = draw(
        st.lists(hours_of_a_day(), min_size=7, max_size=7)
        | st.lists(st.just(()) | hours_of_a_day(), min_size=7, max_size=7)
        | st.sampled_from(PLAIN_WEEKS)
    )
    assume(any(week))
    here = about.astimezone(ZoneInfo(zone)).date()
    dates = draw(st.lists(st.integers(-6, 30), max_size=10, unique=True))
    split = draw(st.integers(0, len(dates)))
    calendar = BusinessCalendar(
        timezone=zone,
        hours=tuple(week),
        holidays=tuple(Holiday(here + days * DAY) for days in dates[:split]),
        special_days=tuple(
            SpecialDay(here + days * DAY, draw(hours_of_a_day())) for days in dates[split:]
        ),
    )
    return calendar, about


nearby = st.one_of(
    st.integers(-150, 150).map(lambda minutes: minutes * MINUTE),
    st.integers(-3 * 24 * 60, 3 * 24 * 60).map(lambda minutes: minutes * MINUTE),
    st.timedeltas(-3 * DAY, 3 * DAY),
)
periods = st.one_of(
    st.integers(0, 25).map(lambda days: Period(days=days)),
    st.integers(0, 5).map(lambda weeks: Period(weeks=weeks)),
    st.integers(0, 300_000).map(lambda seconds: Period(seconds=seconds)),
    st.integers(0, 100).map(lambda hours: Period(seconds=hours * 3600)),
    st.builds(Period, days=st.integers(0, 8), seconds=st.integers(0, 200_000)),
)
thorough = settings(max_examples=150)


@thorough
@given(cases(), nearby, periods)
def test_a_crossing_is_the_one_that_walking_through_the_days_finds(
    case: tuple[BusinessCalendar, datetime], away: timedelta, period: Period
) -> None:
    calendar, about = case
    start = about + away
    assert calendar.crossing(start, period) == plain_crossing(calendar, start, period)


@settings(max_examples=12)
@given(
    cases(),
    st.builds(Period, days=st.integers(250, 900))
    | st.builds(Period, weeks=st.integers(53, 130))
    | st.builds(Period, seconds=st.integers(9_000_000, 12_000_000)),
)
def test_so_is_one_that_is_longer_than_a_year(
    case: tuple[BusinessCalendar, datetime], period: Period
) -> None:
    calendar, start = case
    assume(sum(span.end - span.start for day in calendar.hours for span in day) > 1200)
    assert calendar.crossing(start, period) == plain_crossing(calendar, start, period)


@thorough
@given(
    st.sampled_from([zone for zone in ZONES if zone not in {"Asia/Shanghai", "Asia/Kathmandu"}]),
    st.integers(0, 1000),
    st.integers(-8, 14).map(lambda quarters: quarters * timedelta(minutes=15, seconds=1)),
    st.sampled_from([WHOLE, NIGHT]),
    st.integers(0, 3),
    st.builds(Period, days=st.integers(1, 3), seconds=st.sampled_from([0, 900, 8000])),
)
def test_so_is_one_that_begins_or_ends_while_clocks_change(
    zone: str, change: int, away: timedelta, hours: Hours, before: int, period: Period
) -> None:
    calendar = BusinessCalendar(timezone=zone, hours=(hours,) * 7)
    changes = clock_changes(zone)
    start = changes[change % len(changes)] + away - before * DAY
    crossing = plain_crossing(calendar, start, period)
    assert calendar.crossing(start, period) == crossing
    latest = calendar.latest_start(crossing, period)
    assert latest is not None
    assert start <= latest
    assert plain_crossing(calendar, latest, period) <= crossing
    assert plain_crossing(calendar, latest + MOMENT, period) > crossing


@settings(max_examples=30)
@given(cases(), st.integers(1, 40))
def test_hours_run_in_open_minutes_alone(
    case: tuple[BusinessCalendar, datetime], hours: int
) -> None:
    calendar, about = case
    minute = about.replace(second=0, microsecond=0)
    expected = calendar.crossing(minute, Period(seconds=hours * 3600))
    assert expected is not None
    assume(expected - minute < 12 * DAY)
    day = reading(calendar.timezone, minute).date()
    work = [one for days in range(-2, 15) for one in stretches_on(calendar, day + days * DAY)]
    left = hours * 60
    while left:
        is_open = any(begin <= minute < end for begin, end in work)
        assert calendar.is_open(minute) == is_open
        left -= is_open
        minute += MINUTE
    assert expected == minute


@thorough
@given(cases(), nearby, st.timedeltas(timedelta(0), DAY) | nearby.map(abs), periods)
@example(
    # Mondays open at eight, Tuesdays at nine: the closing would be later than the one at ten.
    (
        BusinessCalendar(
            timezone="UTC", hours=((Span(480, 1020),), (Span(540, 1020),), (), (), (), (), ())
        ),
        datetime(2026, 3, 2, 8, 30, tzinfo=UTC),
    ),
    timedelta(0),
    90 * MINUTE,
    Period(days=1),
)
def test_who_starts_later_never_crosses_earlier(
    case: tuple[BusinessCalendar, datetime], away: timedelta, later: timedelta, period: Period
) -> None:
    calendar, about = case
    first = calendar.crossing(about + away, period)
    second = calendar.crossing(about + away + later, period)
    assert first is not None
    assert second is not None
    assert first <= second
    assert first >= about + away


@thorough
@given(cases(), nearby, periods, st.lists(nearby, min_size=3, max_size=3), st.booleans())
def test_a_start_is_due_exactly_if_it_is_not_after_the_latest_start(
    case: tuple[BusinessCalendar, datetime],
    away: timedelta,
    period: Period,
    others: list[timedelta],
    at_a_crossing: bool,
) -> None:
    calendar, about = case
    crossing = calendar.crossing(about + away, period)
    assert crossing is not None
    for due in (
        [crossing - MOMENT, crossing, crossing + MOMENT] if at_a_crossing else [about + away]
    ):
        latest = calendar.latest_start(due, period)
        assert latest is not None
        starts = [about + away, due, latest - MOMENT, latest, latest + MOMENT]
        for start in starts + [latest + other for other in others]:
            then = calendar.crossing(start, period)
            assert then is not None
            assert (then <= due) == (start <= latest)


@thorough
@given(cases(), nearby)
def test_the_next_opening_is_the_first_moment_of_work(
    case: tuple[BusinessCalendar, datetime], away: timedelta
) -> None:
    calendar, about = case
    instant = about + away
    day = next(working_days(calendar, instant))
    begin = next(begin for begin, end in stretches_on(calendar, day) if end > instant)
    assert calendar.next_opening(instant) == max(begin, instant)
    assert calendar.is_open(instant) == (begin <= instant)
