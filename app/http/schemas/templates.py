"""Ready-made pipelines and working weeks, as callers see them."""

from typing import Any, Final

from pydantic import ConfigDict

from app.domain import templates
from app.domain.templates import Language
from app.domain.templates import calendars as ready_made
from app.http.schemas.calendars import DAYS, WeekHours
from app.http.schemas.common import Page, Query, Response
from app.http.schemas.pipelines import SHOWN_STAGE, Flow
from app.http.schemas.stages import Stage

_TEMPLATE: Final[dict[str, Any]] = {
    "key": "b2b",
    "name": "B2B sale",
    "description": "From a prospect to a signed order.",
    "flow": "forward",
    "stages": [SHOWN_STAGE],
}
_CALENDAR: Final[dict[str, Any]] = {
    "key": "office_hours",
    "name": "Office hours",
    "description": "Monday to Friday, 09:00 to 17:00.",
    "hours": {day: [{"from": "09:00", "to": "17:00"}] if day in DAYS[:5] else [] for day in DAYS},
}


class PipelineTemplate(Response):
    """A pipeline to begin with."""

    model_config = ConfigDict(json_schema_extra={"examples": [_TEMPLATE]})

    key: str
    name: str
    description: str
    flow: Flow
    stages: list[Stage]

    @classmethod
    def of(cls, template: templates.Template) -> "PipelineTemplate":
        return cls.model_construct(
            key=template.key,
            name=template.name,
            description=template.description,
            flow=template.flow.value,
            stages=[
                Stage.of(stage, position) for position, stage in enumerate(template.stages, start=1)
            ],
        )


class PipelineTemplateList(Page[PipelineTemplate]):
    """The templates, all on one page."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_TEMPLATE], "page": {"next_cursor": None}}]}
    )


class TemplateQuery(Query):
    """In which language."""

    language: Language = "en"


class CalendarTemplate(Response):
    """A week to begin with; it has no holidays, which are yours to import."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CALENDAR]})

    key: str
    name: str
    description: str
    hours: WeekHours

    @classmethod
    def of(cls, template: ready_made.CalendarTemplate, language: Language) -> "CalendarTemplate":
        at = ("en", "zh").index(language)
        return cls.model_construct(
            key=template.key,
            name=template.name[at],
            description=template.description[at],
            hours=WeekHours.of(template.hours),
        )


class CalendarTemplateList(Page[CalendarTemplate]):
    """The templates, all on one page."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_CALENDAR], "page": {"next_cursor": None}}]}
    )
