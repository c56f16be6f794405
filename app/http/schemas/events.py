"""The event feed, as its followers ask for it and see it."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from app.domain.errors import InvalidCursor
from app.http.schemas.common import Id, Instant, Key, Limit, Query, Response
from app.storage import events

_POSITION: Final = re.compile(r"([0-9]{1,9})-([0-9]{1,18})-([0-9]{1,18})")
_EXAMPLE: Final[dict[str, Any]] = {
    "id": "019a8f0e-7d4c-7b31-8e22-5c6d7e8f9a0b",
    "position": "1-48213-9077",
    "type": "idle_flag.opened",
    "pipeline": "sales",
    "opportunity_id": "019a8f0e-4c1e-7d8a-9b1c-2f3e4d5c6b7a",
    "occurred_at": "2026-11-16T14:30:00.412Z",
    "recorded_at": "2026-11-16T14:30:00.417Z",
    "historical": False,
    "data": {
        "flag_id": "019a8f0e-7d4c-7a10-9d41-6e7f8a9b0c1d",
        "stage": "quote",
        "idle_since": "2026-11-16T14:30:00Z",
        "reopened": False,
    },
}

EventName = Literal[
    "opportunity.created",
    "opportunity.updated",
    "opportunity.deleted",
    "opportunity.transitioned",
    "opportunity.won",
    "opportunity.lost",
    "opportunity.reopened",
    "stage.entered",
    "transition.voided",
    "activity.recorded",
    "idle_flag.opened",
    "idle_flag.acknowledged",
    "idle_flag.snoozed",
    "idle_flag.resolved",
    "pipeline.updated",
    "import.completed",
]


class Event(Response):
    """One thing that happened. `id` is the same wherever the event is delivered."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: Id
    position: str = Field(description="Its place in the feed; opaque.")
    type: str
    pipeline: str | None
    opportunity_id: Id | None
    occurred_at: Instant
    recorded_at: Instant
    historical: bool = Field(description="Whether it tells of imported history.")
    data: dict[str, Any]

    @classmethod
    def of(cls, event: events.Event) -> "Event":
        return cls.model_construct(
            id=event.event_id,
            position=written(event.position),
            type=event.type,
            pipeline=event.pipeline,
            opportunity_id=event.opportunity_id,
            occurred_at=event.occurred_at,
            recorded_at=event.recorded_at,
            historical=event.historical,
            data=event.data,
        )


class EventFeed(Response):
    """What happened next, in order. There is always a `next`, also when nothing has happened."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [_EXAMPLE], "next": "1-48213-9077"}]}
    )

    items: list[Event]
    next: str = Field(description="The `after` to ask with from here on.")


class EventQuery(Query):
    """Which events, from where on."""

    after: Annotated[str | None, Field(max_length=1024)] = Field(
        default=None,  # as long as a cursor may be: that of another list is one, but not of here
        description="A `position` or `next` from here; `now`: only what happens from now on; "
        "absent: from the beginning.",
    )
    types: Annotated[list[EventName], Field(max_length=16)] = Field(
        default_factory=list,
        description="Only these, the parameter repeated. `opportunity.won`, `.lost`, `.reopened` "
        "and `stage.entered` choose among the moves, which bear `opportunity.transitioned`.",
    )
    pipeline: Key | None = None
    limit: Limit = 50


def written(position: events.Position) -> str:
    """A position as a follower keeps it."""
    return "-".join(str(part) for part in position)


def read(token: str) -> events.Position:
    """The position that was written. Raises InvalidCursor."""
    found = _POSITION.fullmatch(token)
    if found is None:
        raise InvalidCursor("`after` is a position of this feed, as it was given, or `now`.")
    epoch, xid, number = (int(part) for part in found.groups())
    return epoch, xid, number
