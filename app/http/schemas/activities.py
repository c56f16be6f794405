"""Activities, as callers send and see them."""

from typing import Any, Final

from pydantic import ConfigDict, Field

from app.http.schemas.common import Id, Instant, Key, Name, Page, Request, Response, Text
from app.storage import activities

_DONE: Final[dict[str, Any]] = {
    "kind": "call",
    "content": "Budget is there; wants a quote by Friday.",
    "outcome": "interested",
    "occurred_at": "2026-11-12T10:15:00Z",
    "next_step": "Send the quote",
    "next_step_at": "2026-11-13T16:00:00Z",
}
_EXAMPLE: Final[dict[str, Any]] = {
    "id": "019a8f0e-6a3b-7e20-9c11-4b5c6d7e8f90",
    "opportunity_id": "019a8f0e-4c1e-7d8a-9b1c-2f3e4d5c6b7a",
    **_DONE,
    "recorded_at": "2026-11-12T10:20:00Z",
    "actor": "crm-sync",
    "historical": False,
}


class ActivityCreate(Request):
    """A follow-up on a deal: what was done, what came of it, and what is to be done next.

    Kinds that the deal's stage names as qualifying reset its idle clock, and its cadence begins
    anew.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_DONE]})

    kind: Key = Field(description="A word of yours: `call`, `email`, `meeting`, `demo`, `note` …")
    content: Text | None = None
    outcome: Name | None = Field(default=None, description="What came of it: a word of yours.")
    occurred_at: Instant | None = Field(
        default=None,
        description="When it was done; null: now. Up to 60 seconds ahead is taken as now.",
    )
    next_step: Name | None = Field(default=None, description="What is to be done next.")
    next_step_at: Instant | None = Field(
        default=None,
        description="When; after `occurred_at`. Until then the deal is not idle, where its stage"
        " allows for that (`max_pause`).",
    )


class Activity(Response):
    """What was done about a deal. It never changes."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: Id
    opportunity_id: Id
    kind: str
    content: str | None
    outcome: str | None
    occurred_at: Instant
    next_step: str | None
    next_step_at: Instant | None
    recorded_at: Instant
    actor: str
    historical: bool = Field(description="Whether it came by an import.")

    @classmethod
    def of(cls, done: activities.Activity) -> "Activity":
        return cls.model_construct(
            id=done.activity_id,
            opportunity_id=done.opportunity_id,
            kind=done.kind,
            content=done.content,
            outcome=done.outcome,
            occurred_at=done.occurred_at,
            next_step=done.next_step,
            next_step_at=done.next_step_at,
            recorded_at=done.recorded_at,
            actor=done.actor,
            historical=done.import_id is not None,
        )


class ActivityPage(Page[Activity]):
    """A page of a deal's activities, the latest first."""
