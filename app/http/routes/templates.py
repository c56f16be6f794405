"""What there is to begin with: ready-made pipelines and working weeks."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from app.domain import templates
from app.domain.access import Principal, Scope
from app.domain.templates import calendars
from app.http.deps import Allowed
from app.http.schemas.common import PageInfo
from app.http.schemas.templates import (
    CalendarTemplate,
    CalendarTemplateList,
    PipelineTemplate,
    PipelineTemplateList,
    TemplateQuery,
)
from app.http.strictness import StrictRoute

router = APIRouter(route_class=StrictRoute, prefix="/v1", tags=["pipelines"])

Reader = Annotated[Principal, Depends(Allowed(Scope.PIPELINES_READ))]


@router.get("/pipeline-templates")
async def list_pipeline_templates(
    query: Annotated[TemplateQuery, Query()], _: Reader
) -> PipelineTemplateList:
    """Pipelines to begin with, for `POST /v1/pipelines`."""
    return PipelineTemplateList(
        items=[PipelineTemplate.of(each) for each in templates.templates(query.language)],
        page=PageInfo(next_cursor=None),
    )


@router.get("/calendar-templates")
async def list_calendar_templates(
    query: Annotated[TemplateQuery, Query()], _: Reader
) -> CalendarTemplateList:
    """Working weeks to begin with, for the `calendar` of a pipeline."""
    return CalendarTemplateList(
        items=[CalendarTemplate.of(each, query.language) for each in calendars.TEMPLATES],
        page=PageInfo(next_cursor=None),
    )
