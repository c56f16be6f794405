"""Ready-made weeks for a business calendar: hours alone, to be given a time zone and holidays.

No holidays are built in: they differ by region and by year, and are imported as dates.
"""

from dataclasses import dataclass

from app.domain.templates.writing import Text
from app.domain.working_hours import Hours, Span

_WHOLE: Hours = (Span(0, 24 * 60),)
_OFFICE: Hours = (Span(9 * 60, 17 * 60),)
_OFF: Hours = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarTemplate:
    """A week to begin with, Monday first, with its texts in English and Chinese."""

    key: str
    name: Text
    description: Text
    hours: tuple[Hours, ...]


TEMPLATES = (
    CalendarTemplate(
        key="weekdays",
        name=("Weekdays", "工作日"),
        description=(
            "Monday to Friday, whole days: only weekends are out.",
            "周一至周五全天计时，仅排除周末。",
        ),
        hours=(_WHOLE, _WHOLE, _WHOLE, _WHOLE, _WHOLE, _OFF, _OFF),
    ),
    CalendarTemplate(
        key="office_hours",
        name=("Office hours", "办公时间"),
        description=("Monday to Friday, 09:00 to 17:00.", "周一至周五 09:00 至 17:00。"),
        hours=(_OFFICE, _OFFICE, _OFFICE, _OFFICE, _OFFICE, _OFF, _OFF),
    ),
    CalendarTemplate(
        key="sunday_to_thursday",
        name=("Sunday to Thursday", "周日至周四"),
        description=(
            "Sunday to Thursday, whole days: Friday and Saturday are out.",
            "周日至周四全天计时，排除周五和周六。",
        ),
        hours=(_WHOLE, _WHOLE, _WHOLE, _WHOLE, _OFF, _OFF, _WHOLE),
    ),
)
