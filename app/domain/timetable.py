"""What a calendar's years follow from, and the one place where years worked out are kept.

A year of working time is dear to work out and large to keep, every revision of a pipeline brings
its calendar anew, and a length may reach over many years. So equal calendars share one timetable,
and all timetables together keep the MOST_YEARS years that were asked about last. How lengths of
time count in them is `domain.business_calendar`'s business.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from app.domain.working_hours import Hours, WorkingYear

MOST_YEARS: Final = 128
"""Years kept in this process. One takes about 100 kB, and 0.5 MB with eight spans every day."""


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Timetable:
    """Whose clock, the hours of a regular week, and those of the dates that are otherwise.

    It is known by its identity, which makes looking a year up cheap however many dates it has.
    """

    zone: ZoneInfo
    week: tuple[Hours, ...]
    dated: Mapping[date, Hours]

    def hours_on(self, day: date) -> Hours:
        """The hours of that date by its clock; empty where it is closed."""
        dated = self.dated.get(day)
        return self.week[day.weekday()] if dated is None else dated


@lru_cache(maxsize=MOST_YEARS)
def working_year(timetable: Timetable, year: int) -> WorkingYear:
    """That local year's working time, worked out where it is not kept."""
    return WorkingYear.of(year, timetable.zone, timetable.hours_on)
