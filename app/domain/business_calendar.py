"""Working time: when a team is at work, and when a threshold counted in its time runs out.

A calendar is a value: a time zone, the hours of each weekday, and the dates on which it is
otherwise. What a deal's clock makes of it is `domain.idleness`'s business. The readings chosen
where domain.md leaves a choice, and why, are in docs/decisions/business-calendars.md. All that is
given back is in UTC; every instant given must be aware.

Two promises hold for every calendar and are relied upon by figures and scans: `crossing` never
falls when its start rises, and `latest_start` is its exact inverse, to the microsecond.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from weakref import WeakValueDictionary
from zoneinfo import ZoneInfo

from app.domain.period import Period
from app.domain.timetable import Timetable, working_year
from app.domain.wall_clock import reached, shown
from app.domain.working_hours import Hours, WorkingYear, check_hours

FIRST_YEAR: Final = 1500
LAST_YEAR: Final = 2499
"""No working time is looked for outside these local years: what would come later is never."""

MOST_DATES: Final = 2_000
"""Dated days of one calendar. It bounds how long all work can rest, and so every search."""

_MOMENT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Holiday:
    """A date on which nobody works, whatever its weekday."""

    on: date
    name: str | None = None


@dataclass(frozen=True, slots=True)
class SpecialDay:
    """A date with hours of its own: a short day, or a day off that is worked."""

    on: date
    hours: Hours
    name: str | None = None

    def __post_init__(self) -> None:
        if not self.hours:
            raise ValueError(f"{self.on} has no hours: a day without any is a holiday")
        check_hours(self.hours)


_Place = tuple[WorkingYear, int]
"""A stretch, or a working day, by its number in its year."""

_Said = tuple[str, tuple[Hours, ...], tuple[Holiday, ...], tuple[SpecialDay, ...]]

_timetables: Final[WeakValueDictionary[_Said, Timetable]] = WeakValueDictionary()
"""Those of the calendars in use, and of the years kept."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BusinessCalendar:
    """When a team works. `hours` has the seven days of a week, Monday first (ISO 8601).

    Holidays and special days take precedence over weekdays; they are kept in order of their dates,
    so that equal calendars are equal. Raises ValueError where it would have no meaning: a zone
    that IANA does not know, a week without work, overlapping hours, a date given twice, more than
    MOST_DATES dates.
    """

    timezone: str
    hours: tuple[Hours, ...]
    holidays: tuple[Holiday, ...] = ()
    special_days: tuple[SpecialDay, ...] = ()
    _hash: int = field(init=False, repr=False)
    _timetable: Timetable = field(init=False, repr=False)
    """Follows from the rest, and is shared by equal calendars, with the years worked out of it."""

    def __post_init__(self) -> None:
        if len(self.hours) != 7 or not any(self.hours):
            raise ValueError("a week has seven days, and hours on one of them at least")
        for hours in self.hours:
            check_hours(hours)
        dates = [day.on for day in self.holidays] + [day.on for day in self.special_days]
        if len(set(dates)) < len(dates):
            raise ValueError("a date is a holiday or a special day, and only once")
        if len(dates) > MOST_DATES:
            raise ValueError(f"a calendar has at most {MOST_DATES} holidays and special days")
        settle = object.__setattr__  # the frozen dataclass's one way to derive a field
        settle(self, "holidays", tuple(sorted(self.holidays, key=lambda day: day.on)))
        settle(self, "special_days", tuple(sorted(self.special_days, key=lambda day: day.on)))
        said = self._said
        timetable = _timetables.get(said)
        if timetable is None:
            special = {day.on: day.hours for day in self.special_days}
            dated = {day.on: () for day in self.holidays} | special
            timetable = Timetable(_zone_named(self.timezone), self.hours, dated)
            _timetables[said] = timetable
        settle(self, "_timetable", timetable)
        settle(self, "_hash", hash(said))

    def __eq__(self, other: object) -> bool:
        # Rules are compared deal by deal: what two calendars say is compared only where it decides.
        if not isinstance(other, BusinessCalendar):
            return NotImplemented
        if self._timetable is other._timetable:
            return True
        return self._hash == other._hash and self._said == other._said

    def __hash__(self) -> int:
        return self._hash

    @property
    def _said(self) -> _Said:
        return self.timezone, self.hours, self.holidays, self.special_days

    @property
    def days_a_week(self) -> int:
        """How many days of a regular week have hours: what `P1W` counts."""
        return sum(map(bool, self.hours))

    def regular_length(self, period: Period) -> timedelta:
        """About how long `period` takes: in regular weeks, whatever the dates that are otherwise.

        It bounds how many years must be worked out for a crossing.
        """
        a_week = 60 * sum(span.end - span.start for hours in self.hours for span in hours)
        return timedelta(weeks=self._days(period) / self.days_a_week + period.seconds / a_week)

    def hours_on(self, day: date) -> Hours:
        """The hours of that date by its clock; empty where it is closed."""
        return self._timetable.hours_on(day)

    def is_open(self, instant: datetime) -> bool:
        return self.next_opening(instant) == instant

    def next_opening(self, instant: datetime) -> datetime | None:
        """The first working moment at or after `instant`; None after LAST_YEAR."""
        ahead = self._ahead(instant)
        return None if ahead is None else _start_in(*ahead, instant)

    def crossing(self, start: datetime, period: Period) -> datetime | None:
        """The instant at which `period` has passed since `start`, in working time.

        Counted from the next opening: first the days, or the weeks, then the hours. None: never,
        for it would lie after LAST_YEAR.
        """
        ahead = self._ahead(start)
        if ahead is None:
            return None
        instant: datetime | None = _start_in(*ahead, start)
        if days := self._days(period):
            instant = self._days_on(ahead, start, days)
        if instant is not None and period.seconds:
            instant = self._worked_on(instant, timedelta(seconds=period.seconds))
        return instant

    def latest_start(self, due: datetime, period: Period) -> datetime | None:
        """The latest start, to the microsecond, whose crossing is at `due` or before.

        `crossing(start) <= due` is thus `start <= latest_start(due)`. None: there is no such start.
        """
        limit: datetime | None = due
        if period.seconds:
            limit = self._worked_back(due, timedelta(seconds=period.seconds))
        if limit is None:
            return None
        days = self._days(period)
        return self._days_back(limit, days) if days else self._latest_moment(limit)

    def _days(self, period: Period) -> int:
        return period.days + period.weeks * self.days_a_week

    def _days_on(self, ahead: _Place, start: datetime, days: int) -> datetime | None:
        """The time of day at which a start in or before that stretch counts, `days` on."""
        there, number = ahead
        day = there.day_of[number]
        target = self._working_day(there.year, day + days)
        return None if target is None else self._carrier((there, day), target)(start)

    def _days_back(self, limit: datetime, days: int) -> datetime | None:
        """The latest start from which `days` working days on is `limit` or before."""
        behind = self._behind(limit)
        if behind is None:
            return None
        there, number = behind
        day = there.day_of[number]
        origin = self._working_day(there.year, day - days)
        if origin is None:
            return None
        # All starts of the days before are early enough, and all of those after too late.
        target = there, day
        opening, closing = origin[0].bounds(origin[1])
        last = closing - _MOMENT
        if limit >= there.bounds(day)[1]:
            return last
        carried = self._carrier(origin, target)
        # Nearly always it is the same local time; where hours or clocks differ, it is searched for.
        same = self._carrier(target, origin)(limit)
        if same < last and carried(same) <= limit < carried(same + _MOMENT):
            return same
        early_enough = bisect_right(
            range((closing - opening) // _MOMENT),
            limit,
            key=lambda moments: carried(opening + moments * _MOMENT),
        )
        if early_enough:
            return opening + (early_enough - 1) * _MOMENT
        return self._latest_moment(opening - _MOMENT)

    def _carrier(self, origin: _Place, target: _Place) -> Callable[[datetime], datetime]:
        """From starts of one working day to the same local time of another, within its hours."""
        (here, day), (there, other) = origin, target
        on = datetime.combine(there.days[other], time()) - datetime.combine(here.days[day], time())
        first, after = there.firsts[other], there.firsts[other + 1]

        def carried(start: datetime) -> datetime:
            counted = _start_in(here, bisect_right(here.ends, start), start)
            instant = reached(self._timetable.zone, shown(self._timetable.zone, counted) + on)
            number = bisect_right(there.begins, instant, first, after) - 1
            # Before the opening it is the opening; in a pause or after the close, the last end.
            return there.begins[first] if number < first else min(instant, there.ends[number])

        return carried

    def _worked_on(self, instant: datetime, length: timedelta) -> datetime | None:
        """The first instant by which `length` of working time has passed since `instant`."""
        ahead = self._ahead(instant)
        if ahead is None:
            return None
        there, number = ahead
        begun = _start_in(there, number, instant) - there.begins[number]
        worked = there.worked[number] + begun + length
        while worked > there.length:
            if there.year == LAST_YEAR:
                return None
            worked -= there.length
            there = self._year(there.year + 1)
        number = bisect_left(there.worked, worked) - 1
        return there.begins[number] + (worked - there.worked[number])

    def _worked_back(self, due: datetime, length: timedelta) -> datetime | None:
        """The last instant since which `length` of working time has passed by `due`."""
        behind = self._behind(due)
        if behind is None:
            return None
        there, number = behind
        begun = min(due, there.ends[number]) - there.begins[number]
        worked = there.worked[number] + begun - length
        while worked < timedelta(0):
            if there.year == FIRST_YEAR:
                return None
            there = self._year(there.year - 1)
            worked += there.length
        number = bisect_right(there.worked, worked) - 1
        return there.begins[number] + (worked - there.worked[number])

    def _latest_moment(self, limit: datetime) -> datetime | None:
        """The latest start that counts from `limit` or before."""
        behind = self._behind(limit)
        if behind is None:
            return None
        there, number = behind
        return min(limit.astimezone(UTC), there.ends[number] - _MOMENT)

    def _ahead(self, instant: datetime) -> _Place | None:
        """The first stretch that ends after `instant`."""
        # Earlier years are over: their last midnight is reached once the clock is past it.
        for year in range(
            max(instant.astimezone(self._timetable.zone).year, FIRST_YEAR), LAST_YEAR + 1
        ):
            there = self._year(year)
            number = bisect_right(there.ends, instant)
            if number < len(there.ends):
                return there, number
        return None

    def _behind(self, instant: datetime) -> _Place | None:
        """The last stretch that begins at `instant` or before."""
        for year in range(
            min(shown(self._timetable.zone, instant).year, LAST_YEAR), FIRST_YEAR - 1, -1
        ):
            there = self._year(year)
            number = bisect_right(there.begins, instant) - 1
            if number >= 0:
                return there, number
        return None

    def _working_day(self, year: int, number: int) -> _Place | None:
        """The working day of that number, which may lie in years before or after."""
        while FIRST_YEAR <= year <= LAST_YEAR:
            there = self._year(year)
            if number < 0:
                year -= 1
                number += len(self._year(year).days)
            elif number >= len(there.days):
                year += 1
                number -= len(there.days)
            else:
                return there, number
        return None

    def _year(self, year: int) -> WorkingYear:
        return working_year(self._timetable, year)


def _start_in(there: WorkingYear, number: int, instant: datetime) -> datetime:
    """Where a start at `instant` counts from, the stretch being the first to end after it."""
    return max(instant.astimezone(UTC), there.begins[number])


def _zone_named(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is no IANA time zone, like Europe/Berlin") from None
