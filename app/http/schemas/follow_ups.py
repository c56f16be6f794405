"""Deals that are to be followed up, as callers ask for them and see them."""

from typing import Any, Final

from pydantic import ConfigDict, Field

from app.domain import opportunity as domain
from app.domain.pipeline import Pipeline
from app.http.schemas.clocks import IDLE_EXAMPLE, PlannedStep
from app.http.schemas.common import Instant, Key, Page, Response
from app.http.schemas.idle import FLAGGED_EXAMPLE, FlaggedOpportunity
from app.http.schemas.opportunities import Label
from app.http.schemas.transitions import PageQuery

_EXAMPLE: Final[dict[str, Any]] = {
    "opportunity": FLAGGED_EXAMPLE,
    "pipeline": "sales",
    "stage": "quote",
    "due_at": "2026-11-15T10:15:00Z",
    "last_follow_up_at": "2026-11-12T10:15:00Z",
    "next_step": IDLE_EXAMPLE["next_step"],
    "goes_idle_at": "2026-11-16T14:30:00Z",
}


class FollowUp(Response):
    """A deal that is to be followed up by the cadence of its stage."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    opportunity: FlaggedOpportunity
    pipeline: str
    stage: str
    due_at: Instant
    last_follow_up_at: Instant | None = Field(
        description="The last activity that counts; null: none since the deal entered the stage."
    )
    next_step: PlannedStep | None
    goes_idle_at: Instant | None

    @classmethod
    def of(cls, deal: domain.Opportunity, pipeline: Pipeline) -> "FollowUp":
        last = deal.last_activity_at
        assert deal.idle.follow_up_due_at is not None, "what is due has its instant"
        return cls.model_construct(
            opportunity=FlaggedOpportunity.of(deal),
            pipeline=pipeline.key,
            stage=pipeline.by_slot[deal.position.slot].key,
            due_at=deal.idle.follow_up_due_at,
            last_follow_up_at=last if last is not None and last > deal.position.moved_at else None,
            next_step=PlannedStep.of(deal.holds.next_step),
            goes_idle_at=deal.idle.goes_idle_at,
        )


class FollowUpPage(Page[FollowUp]):
    """A page of follow-ups, the longest due first."""


class FollowUpQuery(PageQuery):
    """Which follow-ups. Filters add up; `owner` and `team` are the deal's present ones."""

    due: Instant | None = Field(
        default=None, description="Due by then; left out: by now. Later ones are still to come."
    )
    pipeline: Key | None = None
    stage: Key | None = Field(default=None, description="A stage of `pipeline`, which it needs.")
    owner: Label | None = None
    team: Label | None = None

    def asked(self) -> dict[str, Any]:
        """What decides which list it is, for its cursors."""
        return self.model_dump(exclude={"limit", "cursor"})
