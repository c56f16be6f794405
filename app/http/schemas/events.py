"""The events of the feed, the stream and webhooks, and how their followers ask for them.

One schema a type, told apart by `type`. They describe and are not run: an event is written to the
wire by `storage.events.told`, from what is stored.
"""

import re
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import ConfigDict, Field, RootModel

from app.domain.errors import InvalidCursor
from app.http.schemas import events_data as said
from app.http.schemas.common import Id, Instant, Key, Limit, Query, Response
from app.storage import events

_POSITION: Final = re.compile(r"([0-9]{1,9})-([0-9]{1,18})-([0-9]{1,18})")

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
    "idle_flag.escalated",
    "idle_flag.acknowledged",
    "idle_flag.snoozed",
    "idle_flag.resolved",
    "pipeline.updated",
    "import.completed",
    "webhook_endpoint.disabled",
]
"""What one may ask for."""


def _shown(model: type[Response]) -> dict[str, Any]:
    """The example of a schema."""
    extra: Any = model.model_config["json_schema_extra"]
    example: dict[str, Any] = extra["examples"][0]
    return example


def _example(type_: str, data: type[Response], **more: Any) -> ConfigDict:
    return ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019a8f0e-7d4c-7b31-8e22-5c6d7e8f9a0b",
                    "position": "1-48213-9077",
                    "type": type_,
                    "schema_version": events.SCHEMA_VERSION,
                    "pipeline": "sales",
                    "opportunity_id": None,
                    "occurred_at": "2026-11-16T14:30:00.412Z",
                    "recorded_at": "2026-11-16T14:30:00.417Z",
                    "historical": False,
                    "data": _shown(data),
                    **more,
                }
            ]
        }
    )


def _of_deal(type_: str, data: type[Response]) -> ConfigDict:
    return _example(type_, data, opportunity_id="019a8f0e-4c1e-7d8a-9b1c-2f3e4d5c6b7a")


class EventBase(Response):
    """One thing that happened. `id` is the same wherever the event is delivered."""

    id: Id
    position: str = Field(description="Its place in the feed; opaque.")
    type: str
    schema_version: Literal[1] = Field(description="Of this type; fields may be added within it.")
    pipeline: Key | None = Field(description="Null: it is about no pipeline.")
    opportunity_id: Id | None = Field(description="Null: it is about no deal.")
    occurred_at: Instant
    recorded_at: Instant
    historical: bool = Field(description="Whether it tells of imported history.")
    data: Any


class _DealEvent(EventBase):
    """Something that happened to one deal; once that is deleted, `data` is empty."""

    pipeline: Key
    opportunity_id: Id


class OpportunityCreatedEvent(_DealEvent):
    """A deal was opened."""

    model_config = _of_deal("opportunity.created", said.OpportunityCreatedData)

    type: Literal["opportunity.created"]
    data: said.OpportunityCreatedData | said.ErasedData


class OpportunityUpdatedEvent(_DealEvent):
    """A deal was edited: old and new value of each field."""

    model_config = _of_deal("opportunity.updated", said.OpportunityUpdatedData)

    type: Literal["opportunity.updated"]
    data: said.OpportunityUpdatedData | said.ErasedData


class OpportunityDeletedEvent(_DealEvent):
    """A deal was deleted, and what earlier events had said of it with it."""

    model_config = _of_deal("opportunity.deleted", said.OpportunityDeletedData)

    type: Literal["opportunity.deleted"]
    data: said.OpportunityDeletedData


class OpportunityTransitionedEvent(_DealEvent):
    """A deal moved. `opportunity.won`, `opportunity.lost`, `opportunity.reopened` and
    `stage.entered` are names by which to ask for some of these."""

    model_config = _of_deal("opportunity.transitioned", said.OpportunityTransitionedData)

    type: Literal["opportunity.transitioned"]
    data: said.OpportunityTransitionedData | said.ErasedData


class TransitionVoidedEvent(_DealEvent):
    """A move was undone."""

    model_config = _of_deal("transition.voided", said.TransitionVoidedData)

    type: Literal["transition.voided"]
    data: said.TransitionVoidedData | said.ErasedData


class ActivityRecordedEvent(_DealEvent):
    """A follow-up was recorded."""

    model_config = _of_deal("activity.recorded", said.ActivityRecordedData)

    type: Literal["activity.recorded"]
    data: said.ActivityRecordedData | said.ErasedData


class IdleFlagOpenedEvent(_DealEvent):
    """A deal has gone idle."""

    model_config = _of_deal("idle_flag.opened", said.IdleFlagOpenedData)

    type: Literal["idle_flag.opened"]
    data: said.IdleFlagOpenedData | said.ErasedData


class IdleFlagEscalatedEvent(_DealEvent):
    """A deal has been idle for so long that its flag is critical."""

    model_config = _of_deal("idle_flag.escalated", said.IdleFlagEscalatedData)

    type: Literal["idle_flag.escalated"]
    data: said.IdleFlagEscalatedData | said.ErasedData


class IdleFlagAcknowledgedEvent(_DealEvent):
    """Somebody has seen to an idle deal."""

    model_config = _of_deal("idle_flag.acknowledged", said.IdleFlagAcknowledgedData)

    type: Literal["idle_flag.acknowledged"]
    data: said.IdleFlagAcknowledgedData | said.ErasedData


class IdleFlagSnoozedEvent(_DealEvent):
    """An idle deal was put aside until an instant."""

    model_config = _of_deal("idle_flag.snoozed", said.IdleFlagSnoozedData)

    type: Literal["idle_flag.snoozed"]
    data: said.IdleFlagSnoozedData | said.ErasedData


class IdleFlagResolvedEvent(_DealEvent):
    """A deal is not idle any more."""

    model_config = _of_deal("idle_flag.resolved", said.IdleFlagResolvedData)

    type: Literal["idle_flag.resolved"]
    data: said.IdleFlagResolvedData | said.ErasedData


class PipelineUpdatedEvent(EventBase):
    """A pipeline was created or changed."""

    model_config = _example("pipeline.updated", said.PipelineUpdatedData)

    type: Literal["pipeline.updated"]
    data: said.PipelineUpdatedData


class ImportCompletedEvent(EventBase):
    """An import has ended, as what, and what it has counted."""

    model_config = _example("import.completed", said.ImportCompletedData)

    type: Literal["import.completed"]
    data: said.ImportCompletedData


class WebhookEndpointDisabledEvent(EventBase):
    """A webhook endpoint is sent nothing any more."""

    model_config = _example(
        "webhook_endpoint.disabled", said.WebhookEndpointDisabledData, pipeline=None
    )

    type: Literal["webhook_endpoint.disabled"]
    data: said.WebhookEndpointDisabledData


class WebhookTestEvent(EventBase):
    """A test of a webhook endpoint: no other endpoint is sent it, the feed shows it."""

    model_config = _example("webhook.test", said.WebhookTestData, pipeline=None)

    type: Literal["webhook.test"]
    data: said.WebhookTestData


_Told = (
    OpportunityCreatedEvent
    | OpportunityUpdatedEvent
    | OpportunityDeletedEvent
    | OpportunityTransitionedEvent
    | TransitionVoidedEvent
    | ActivityRecordedEvent
    | IdleFlagOpenedEvent
    | IdleFlagEscalatedEvent
    | IdleFlagAcknowledgedEvent
    | IdleFlagSnoozedEvent
    | IdleFlagResolvedEvent
    | PipelineUpdatedEvent
    | ImportCompletedEvent
    | WebhookEndpointDisabledEvent
    | WebhookTestEvent
)

EVENTS: Final[tuple[type[EventBase], ...]] = get_args(_Told)
"""A schema a type, in the order in which they are described."""


class Event(RootModel[Annotated[_Told, Field(discriminator="type")]]):
    """One thing that happened: `type` tells which."""

    model_config = ConfigDict(
        json_schema_mode_override="serialization",
        json_schema_extra={"examples": [_shown(IdleFlagOpenedEvent)]},
    )


class EventFeed(Response):
    """What happened next, in order. There is always a `next`, also when nothing has happened."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"items": [_shown(IdleFlagOpenedEvent)], "next": "1-48213-9077"}]
        }
    )

    items: list[Event]
    next: str = Field(description="The `after` to ask with from here on.")


class _Filter(Query):
    types: Annotated[list[EventName], Field(max_length=32)] = Field(
        default_factory=list,
        description="Only these, the parameter repeated. `opportunity.won`, `.lost`, `.reopened` "
        "and `stage.entered` choose among the moves, which bear `opportunity.transitioned`.",
    )
    pipeline: Key | None = None


class EventQuery(_Filter):
    """Which events, from where on."""

    after: Annotated[str | None, Field(max_length=1024)] = Field(
        default=None,  # as long as a cursor may be: that of another list is one, but not of here
        description="A `position` or `next` from here; `now`: only what happens from now on; "
        "absent: from the beginning.",
    )
    limit: Limit = 50


class StreamQuery(_Filter):
    """Which events a stream is to tell of, from where on."""

    after: Annotated[str | None, Field(max_length=1024)] = Field(
        default=None,
        description="A `position` or `next` of the feed, or an `id` of a stream; absent or `now`: "
        "only what happens from now on. `Last-Event-ID` goes before it.",
    )
    historical: bool = Field(default=False, description="Whether imported history is told of too.")


def read(token: str) -> events.Position:
    """The position that was written. Raises InvalidCursor."""
    found = _POSITION.fullmatch(token)
    if found is None:
        raise InvalidCursor(
            f"{token[:100]!r} is no position of this feed: `position` and `next` of its answers"
            " are, as they were given."
        )
    epoch, xid, number = (int(part) for part in found.groups())
    return epoch, xid, number
