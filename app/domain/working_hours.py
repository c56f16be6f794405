"""Hours of a day by the clock on the wall, and what a year of them is on the line of time.

Which date has which hours is the calendar's to say (`domain.business_calendar`); here they only
become instants: stretches of working time, in order and without overlap.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import accumulate, pairwise
from typing import Final, Self
from zoneinfo import ZoneInfo

from app.domain.wall_clock import reached

MOST_SPANS: Final = 8
"""Spans of one day; it bounds what a year takes to work out."""

_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Span:
    """Working time of a day, half-open: minutes since local midnight, 1440 is 24:00."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1440:
            raise ValueError("working hours run from an earlier to a later time of one day")


Hours = tuple[Span, ...]
"""The hours of a day, in order; they may touch but not overlap. Empty: closed."""


def check_hours(hours: Hours) -> None:
    """Raises ValueError where they are out of order, overlap, or are over MOST_SPANS."""
    if len(hours) > MOST_SPANS:
        raise ValueError(f"a day has at most {MOST_SPANS} spans of working time")
    if any(later.start < earlier.end for earlier, later in pairwise(hours)):
        raise ValueError("the hours of a day are in order and do not overlap")


@dataclass(frozen=True, slots=True)
class WorkingYear:
    """A local year's working time in order: stretches of time, and the days that they belong to.

    A stretch lasts from `begins[k]` to before `ends[k]`, on day `day_of[k]`; the working day `d` is
    the date `days[d]` and has the stretches from `firsts[d]` to before `firsts[d + 1]`. `worked[k]`
    is the working time of the year before stretch `k`; the last one is that of the whole year.
    """

    year: int
    days: tuple[date, ...]
    firsts: tuple[int, ...]
    begins: tuple[datetime, ...]
    ends: tuple[datetime, ...]
    day_of: tuple[int, ...]
    worked: tuple[timedelta, ...]

    @classmethod
    def of(cls, year: int, zone: ZoneInfo, hours_on: Callable[[date], Hours]) -> Self:
        """Hours that the clock skips are none; a day that has no others is no working day."""
        days: list[date] = []
        firsts: list[int] = []
        day_of: list[int] = []
        stretches: list[tuple[datetime, datetime]] = []
        for ordinal in range(date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()):
            day = date.fromordinal(ordinal)
            midnight = datetime.combine(day, time())
            edges = (
                (
                    reached(zone, midnight + span.start * _MINUTE),
                    reached(zone, midnight + span.end * _MINUTE),
                )
                for span in hours_on(day)
            )
            if worked := [(begin, end) for begin, end in edges if begin < end]:
                firsts.append(len(stretches))
                day_of += [len(days)] * len(worked)
                days.append(day)
                stretches += worked
        return cls(
            year=year,
            days=tuple(days),
            firsts=(*firsts, len(stretches)),
            begins=tuple(begin for begin, _ in stretches),
            ends=tuple(end for _, end in stretches),
            day_of=tuple(day_of),
            worked=tuple(
                accumulate((end - begin for begin, end in stretches), initial=timedelta())
            ),
        )

    @property
    def length(self) -> timedelta:
        """The working time of the whole year."""
        return self.worked[-1]

    def bounds(self, day: int) -> tuple[datetime, datetime]:
        """A working day's first opening and last closing."""
        return self.begins[self.firsts[day]], self.ends[self.firsts[day + 1] - 1]
