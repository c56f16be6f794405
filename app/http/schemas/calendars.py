"""Business calendars, as callers define and see them: what is a `…Document` is sent.

What working time is, and how lengths count in it, is `domain.business_calendar`'s business. What is
wrong with a document is said here, for a calendar knows its dates in their order, not in that of
the document, and none can be made of a zone that is unknown.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from app.domain import business_calendar as domain
from app.domain.business_calendar import MOST_DATES
from app.domain.definition import timezones
from app.domain.errors import Breach, InvalidDefinition
from app.domain.templates import calendars as ready_made
from app.domain.working_hours import MOST_SPANS, Hours, Span
from app.http.schemas.common import Day, Key, Name, Request, Response

DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_CLOCK: Final = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00")
_OFFICE: Final[list[Any]] = [{"from": "09:00", "to": "12:30"}, {"from": "13:30", "to": "18:00"}]
_WEEK: Final[dict[str, Any]] = {day: _OFFICE if day in DAYS[:5] else [] for day in DAYS}
_HOLIDAY: Final[dict[str, Any]] = {"on": "2026-10-01", "name": "National Day"}
_SPECIAL: Final[dict[str, Any]] = {
    "on": "2026-10-10",
    "hours": _OFFICE,
    "name": "Worked instead of 7 October",
}
CALENDAR_EXAMPLE: Final[dict[str, Any]] = {
    "timezone": "Asia/Shanghai",
    "hours": _WEEK,
    "holidays": [_HOLIDAY],
    "special_days": [_SPECIAL],
}


def _time(text: str) -> str:
    if not _CLOCK.fullmatch(text):
        raise PydanticCustomError("wrong_format", "A time of day is written like 09:00, or 24:00.")
    return text


Clock = Annotated[
    str,
    StringConstraints(max_length=5),
    AfterValidator(_time),
    Field(json_schema_extra={"pattern": f"^(?:{_CLOCK.pattern})$"}),
]


class WorkingHoursDocument(Request):
    """A stretch of working time in one day, by the calendar's clock; `24:00` ends the day."""

    model_config = ConfigDict(
        serialize_by_alias=True, json_schema_extra={"examples": [{"from": "09:00", "to": "17:00"}]}
    )

    from_: Clock = Field(alias="from")
    to: Clock

    @model_validator(mode="after")
    def _runs_forward(self) -> Self:
        if self.from_ >= self.to:
            raise PydanticCustomError("out_of_range", "Working hours end after they begin.")
        return self

    def span(self) -> Span:
        return Span(_minutes(self.from_), _minutes(self.to))


OfDay = Annotated[list[WorkingHoursDocument], Field(max_length=MOST_SPANS)]


class WeekHoursDocument(Request):
    """The working hours of each weekday, in order; an empty list: closed."""

    model_config = ConfigDict(json_schema_extra={"examples": [_WEEK]})

    monday: OfDay
    tuesday: OfDay
    wednesday: OfDay
    thursday: OfDay
    friday: OfDay
    saturday: OfDay
    sunday: OfDay

    def week(self) -> tuple[Hours, ...]:
        return tuple(_hours(getattr(self, day)) for day in DAYS)


class HolidayDocument(Request):
    """A date on which nobody works."""

    model_config = ConfigDict(json_schema_extra={"examples": [_HOLIDAY]})

    on: Day
    name: Name | None = None


class SpecialDayDocument(Request):
    """A date with hours of its own: a short day, or a weekend day that is worked."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SPECIAL]})

    on: Day
    hours: Annotated[list[WorkingHoursDocument], Field(min_length=1, max_length=MOST_SPANS)]
    name: Name | None = None


class CalendarDocument(Request):
    """Working time. `hours` may be left to a `template`; dated days take precedence over both.

    Lengths that count in it may take ten years of it at most.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [CALENDAR_EXAMPLE, {"timezone": "Europe/Berlin", "template": "weekdays"}]
        }
    )

    timezone: Annotated[Name, Field(max_length=100, examples=["Asia/Shanghai"])]
    template: Key | None = Field(default=None, description="See `GET /v1/calendar-templates`.")
    hours: WeekHoursDocument | None = None
    holidays: Annotated[list[HolidayDocument], Field(max_length=MOST_DATES)] = Field(
        default_factory=list
    )
    special_days: Annotated[list[SpecialDayDocument], Field(max_length=MOST_DATES)] = Field(
        default_factory=list
    )

    def calendar(self) -> domain.BusinessCalendar:
        """The calendar. Raises InvalidDefinition with every breach."""
        if found := tuple(self._breaches()):
            raise InvalidDefinition("No calendar can be made of what errors lists.", found)
        week = self.hours.week() if self.hours else _ready_made(self.template)
        assert week is not None, "without hours there is a template that has them"
        return domain.BusinessCalendar(
            timezone=self.timezone,
            hours=week,
            holidays=tuple(domain.Holiday(day.on, day.name) for day in self.holidays),
            special_days=tuple(
                domain.SpecialDay(day.on, _hours(day.hours), day.name) for day in self.special_days
            ),
        )

    def _breaches(self) -> Iterator[Breach]:
        """All that is wrong, where it stands in a pipeline's document."""
        if self.timezone not in timezones():
            detail = f"{self.timezone!r} is no IANA time zone, like Europe/Berlin."
            yield Breach("/calendar/timezone", "unknown_timezone", detail)
        if (self.hours is None) == (self.template is None):
            detail = "A calendar has either hours, or a template that has them."
            yield Breach("/calendar/hours", "required", detail)
        if self.template is not None and _ready_made(self.template) is None:
            detail = f"One of {', '.join(template.key for template in ready_made.TEMPLATES)}."
            yield Breach("/calendar/template", "not_one_of", detail)
        if self.hours is not None:
            if not any(self.hours.week()):
                detail = "A week has hours on one of its days at least."
                yield Breach("/calendar/hours", "too_short", detail)
            for day in DAYS:
                yield from _overlaps(getattr(self.hours, day), f"/calendar/hours/{day}")
        for number, special in enumerate(self.special_days):
            yield from _overlaps(special.hours, f"/calendar/special_days/{number}/hours")
        yield from self._breaches_of_dates()

    def _breaches_of_dates(self) -> Iterator[Breach]:
        if len(self.holidays) + len(self.special_days) > MOST_DATES:
            detail = f"A calendar has at most {MOST_DATES} holidays and special days."
            yield Breach("/calendar/special_days", "too_long", detail)
        seen: set[date] = set()
        days: dict[str, Iterable[HolidayDocument | SpecialDayDocument]] = {
            "holidays": self.holidays,
            "special_days": self.special_days,
        }
        for place, dated in days.items():
            for number, day in enumerate(dated):
                if day.on in seen:
                    detail = f"{day.on} is a holiday or a special day already."
                    yield Breach(f"/calendar/{place}/{number}/on", "duplicate", detail)
                seen.add(day.on)


class WorkingHours(Response):
    """A stretch of working time in one day, by the calendar's clock; `24:00` ends the day."""

    model_config = ConfigDict(
        serialize_by_alias=True, json_schema_extra={"examples": [{"from": "09:00", "to": "17:00"}]}
    )

    from_: Clock = Field(alias="from")
    to: Clock

    @classmethod
    def of(cls, hours: Hours) -> "list[WorkingHours]":
        """Those of one day."""
        return [
            cls.model_construct(from_=_written(span.start), to=_written(span.end)) for span in hours
        ]


class WeekHours(Response):
    """The working hours of each weekday, in order; an empty list: closed."""

    model_config = ConfigDict(json_schema_extra={"examples": [_WEEK]})

    monday: list[WorkingHours]
    tuesday: list[WorkingHours]
    wednesday: list[WorkingHours]
    thursday: list[WorkingHours]
    friday: list[WorkingHours]
    saturday: list[WorkingHours]
    sunday: list[WorkingHours]

    @classmethod
    def of(cls, week: tuple[Hours, ...]) -> "WeekHours":
        told: dict[str, Any] = {
            day: WorkingHours.of(hours) for day, hours in zip(DAYS, week, strict=True)
        }
        return cls.model_construct(**told)


class Holiday(Response):
    """A date on which nobody works."""

    model_config = ConfigDict(json_schema_extra={"examples": [_HOLIDAY]})

    on: Day
    name: str | None


class SpecialDay(Response):
    """A date with hours of its own: a short day, or a weekend day that is worked."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SPECIAL]})

    on: Day
    hours: list[WorkingHours]
    name: str | None


class Calendar(Response):
    """Working time: where idle thresholds and cadences count, unless a stage counts all time."""

    model_config = ConfigDict(json_schema_extra={"examples": [CALENDAR_EXAMPLE]})

    timezone: str
    hours: WeekHours
    holidays: list[Holiday]
    special_days: list[SpecialDay]

    @classmethod
    def of(cls, calendar: domain.BusinessCalendar) -> "Calendar":
        return cls.model_construct(
            timezone=calendar.timezone,
            hours=WeekHours.of(calendar.hours),
            holidays=[
                Holiday.model_construct(on=day.on, name=day.name) for day in calendar.holidays
            ],
            special_days=[
                SpecialDay.model_construct(
                    on=day.on, hours=WorkingHours.of(day.hours), name=day.name
                )
                for day in calendar.special_days
            ],
        )


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _written(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _hours(spans: list[WorkingHoursDocument]) -> Hours:
    return tuple(each.span() for each in spans)


def _overlaps(spans: list[WorkingHoursDocument], at: str) -> Iterator[Breach]:
    for number, (earlier, later) in enumerate(pairwise(_hours(spans)), start=1):
        if later.start < earlier.end:
            detail = "The hours of a day are in order and do not overlap."
            yield Breach(f"{at}/{number}", "out_of_range", detail)


def _ready_made(key: str | None) -> tuple[Hours, ...] | None:
    """The week of that template; None: there is no such template."""
    weeks = {template.key: template.hours for template in ready_made.TEMPLATES}
    return None if key is None else weeks.get(key)
