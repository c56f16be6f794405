"""Business calendars, as callers define and see them.

What working time is, and how lengths count in it, is `domain.business_calendar`'s business.
"""

import re
from typing import Annotated, Any, Final, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from app.domain.business_calendar import MOST_DATES, BusinessCalendar, Holiday, SpecialDay
from app.domain.errors import Breach, Invalid
from app.domain.templates import calendars as ready_made
from app.domain.working_hours import Hours, Span
from app.http.schemas.common import Day, Key, Name, Request, Response

DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MOST_SPANS: Final = 8
"""Stretches of working hours in one day."""

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


class WorkingHours(Request):
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

    @classmethod
    def of(cls, span: Span) -> "WorkingHours":
        return cls.model_construct(from_=_written(span.start), to=_written(span.end))


OfDay = Annotated[list[WorkingHours], Field(max_length=MOST_SPANS)]


class WeekHours(Request):
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

    @classmethod
    def of(cls, week: tuple[Hours, ...]) -> "WeekHours":
        told: dict[str, Any] = {day: _told(hours) for day, hours in zip(DAYS, week, strict=True)}
        return cls.model_construct(**told)


class DatedHoliday(Request):
    """A date on which nobody works."""

    model_config = ConfigDict(json_schema_extra={"examples": [_HOLIDAY]})

    on: Day
    name: Name | None = None


class DatedHours(Request):
    """A date with hours of its own: a short day, or a weekend day that is worked."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SPECIAL]})

    on: Day
    hours: Annotated[list[WorkingHours], Field(min_length=1, max_length=MOST_SPANS)]
    name: Name | None = None


class CalendarDocument(Request):
    """Working time. `hours` may be left to a `template`; dated days take precedence over both."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [CALENDAR_EXAMPLE, {"timezone": "Europe/Berlin", "template": "weekdays"}]
        }
    )

    timezone: Annotated[Name, Field(max_length=100, examples=["Asia/Shanghai"])]
    template: Key | None = Field(default=None, description="See `GET /v1/calendar-templates`.")
    hours: WeekHours | None = None
    holidays: Annotated[list[DatedHoliday], Field(max_length=MOST_DATES)] = Field(
        default_factory=list
    )
    special_days: Annotated[list[DatedHours], Field(max_length=MOST_DATES)] = Field(
        default_factory=list
    )

    def calendar(self) -> BusinessCalendar:
        """The calendar. Raises Invalid for what would mean nothing."""
        try:
            return BusinessCalendar(
                timezone=self.timezone,
                hours=self._week(),
                holidays=tuple(Holiday(day.on, day.name) for day in self.holidays),
                special_days=tuple(
                    SpecialDay(day.on, _hours(day.hours), day.name) for day in self.special_days
                ),
            )
        except ValueError as error:
            detail = f"{error}."[0].upper() + f"{error}."[1:]
            raise Invalid(detail, [Breach("/calendar", "out_of_range", detail)]) from error

    def _week(self) -> tuple[Hours, ...]:
        if (self.hours is None) == (self.template is None):
            detail = "A calendar has either hours, or a template that has them."
            raise Invalid(detail, [Breach("/calendar/hours", "required", detail)])
        if self.hours is not None:
            return self.hours.week()
        for template in ready_made.TEMPLATES:
            if template.key == self.template:
                return template.hours
        detail = f"One of {', '.join(template.key for template in ready_made.TEMPLATES)}."
        raise Invalid(
            f"There is no calendar template {self.template!r}.",
            [Breach("/calendar/template", "not_one_of", detail)],
        )


class Calendar(Response):
    """Working time: where idle thresholds and cadences count, unless a stage counts all time."""

    model_config = ConfigDict(json_schema_extra={"examples": [CALENDAR_EXAMPLE]})

    timezone: str
    hours: WeekHours
    holidays: list[DatedHoliday]
    special_days: list[DatedHours]

    @classmethod
    def of(cls, calendar: BusinessCalendar) -> "Calendar":
        return cls.model_construct(
            timezone=calendar.timezone,
            hours=WeekHours.of(calendar.hours),
            holidays=[
                DatedHoliday.model_construct(on=day.on, name=day.name) for day in calendar.holidays
            ],
            special_days=[
                DatedHours.model_construct(on=day.on, hours=_told(day.hours), name=day.name)
                for day in calendar.special_days
            ],
        )


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _written(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _hours(spans: list[WorkingHours]) -> Hours:
    return tuple(each.span() for each in spans)


def _told(hours: Hours) -> list[WorkingHours]:
    return [WorkingHours.of(span) for span in hours]
