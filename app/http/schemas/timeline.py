"""The timeline of a deal, as callers see it: visits, activities and idle flags."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, RootModel

from app.domain.idle_flag import IdleFlag as Flag
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.http.schemas.activities import Activity
from app.http.schemas.common import Instant, Page, Response
from app.http.schemas.idle import IdleFlag
from app.storage import activities
from app.storage.queries.timeline import Entry, Stay

_VISIT: Final[dict[str, Any]] = {
    "type": "visit",
    "at": "2026-11-09T14:30:00Z",
    "stage": "quote",
    "entered_at": "2026-11-09T14:30:00Z",
    "left_at": "2026-11-18T10:15:00Z",
    "dwell_seconds": 762300.0,
    "ended_by": "advanced",
}


class TimelineVisit(Response):
    """A stay in a stage. `left_at`, `dwell_seconds` and `ended_by` are null while it goes on."""

    model_config = ConfigDict(json_schema_extra={"examples": [_VISIT]})

    type: Literal["visit"]
    at: Instant
    stage: str
    entered_at: Instant
    left_at: Instant | None
    dwell_seconds: float | None
    ended_by: str | None = Field(description="The kind of the move that ended it.")


class TimelineActivity(Response):
    """What was done about the deal."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "activity",
                    "at": "2026-11-12T10:15:00Z",
                    "activity": Activity.model_config["json_schema_extra"]["examples"][0],  # type: ignore[index] # every schema has an example
                }
            ]
        }
    )

    type: Literal["activity"]
    at: Instant
    activity: Activity


class TimelineFlag(Response):
    """An episode in which the deal was idle."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "idle_flag",
                    "at": "2026-11-16T14:30:00Z",
                    "idle_flag": IdleFlag.model_config["json_schema_extra"]["examples"][0],  # type: ignore[index] # every schema has an example
                }
            ]
        }
    )

    type: Literal["idle_flag"]
    at: Instant
    idle_flag: IdleFlag


class TimelineEntry(
    RootModel[
        Annotated[TimelineVisit | TimelineActivity | TimelineFlag, Field(discriminator="type")]
    ]
):
    """One thing in the life of a deal."""

    model_config = ConfigDict(json_schema_extra={"examples": [_VISIT]})

    @classmethod
    def of(cls, entry: Entry, deal: Opportunity, pipeline: Pipeline) -> "TimelineEntry":
        return cls.model_construct(_told(entry, deal, pipeline))


class Timeline(Page[TimelineEntry]):
    """A page of a deal's timeline, the latest first."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_VISIT], "page": {"next_cursor": None}}]}
    )


def _told(
    entry: Entry, deal: Opportunity, pipeline: Pipeline
) -> TimelineVisit | TimelineActivity | TimelineFlag:
    match entry:
        case Stay():
            visit = entry.visit
            return TimelineVisit.model_construct(
                type="visit",
                at=visit.entered_at,
                stage=pipeline.by_slot[visit.slot].key,
                entered_at=visit.entered_at,
                left_at=visit.left_at,
                dwell_seconds=None
                if visit.left_at is None
                else (visit.left_at - visit.entered_at).total_seconds(),
                ended_by=None if visit.ended_by is None else visit.ended_by.value,
            )
        case activities.Activity():
            return TimelineActivity.model_construct(
                type="activity", at=entry.occurred_at, activity=Activity.of(entry)
            )
        case Flag():
            return TimelineFlag.model_construct(
                type="idle_flag",
                at=entry.idle_since,
                idle_flag=IdleFlag.of(entry, deal, pipeline),
            )
