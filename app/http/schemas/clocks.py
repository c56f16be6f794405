"""The clocks of one deal as callers see them: why it is or will be idle, since when, until when."""

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from app.domain.idle_flag import Severity
from app.domain.idleness import NextStep, held_by
from app.domain.journey import Status
from app.domain.opportunity import Opportunity
from app.domain.pipeline import IdleRule, Stage
from app.http.schemas.common import Duration, Id, Instant, Response

IDLE_EXAMPLE: Final[dict[str, Any]] = {
    "clock": "stage_age",
    "clock_started_at": "2026-11-09T14:30:00Z",
    "last_reset_by": "move",
    "threshold": "P7D",
    "goes_idle_at": "2026-11-16T14:30:00Z",
    "critical_at": "2026-11-23T14:30:00Z",
    "held_by": None,
    "snoozed_until": None,
    "next_step": {
        "at": "2026-11-13T16:00:00Z",
        "planned_at": "2026-11-12T10:15:00Z",
        "what": "Send the quote",
    },
    "follow_up_due_at": "2026-11-15T10:15:00Z",
    "flag_id": None,
    "flagged_at": None,
    "severity": None,
}


class PlannedStep(Response):
    """What is to be done next about the deal, and when that was agreed."""

    model_config = ConfigDict(json_schema_extra={"examples": [IDLE_EXAMPLE["next_step"]]})

    at: Instant
    planned_at: Instant
    what: str | None

    @classmethod
    def of(cls, step: NextStep | None) -> "PlannedStep | None":
        if step is None:
            return None
        return cls.model_construct(at=step.at, planned_at=step.planned_at, what=step.what)


class OpportunityIdle(Response):
    """The deal's idle clock: which one, what reset it, since when, until when; and its cadence."""

    model_config = ConfigDict(json_schema_extra={"examples": [IDLE_EXAMPLE]})

    clock: Literal["stage_age", "inactivity"]
    clock_started_at: Instant
    last_reset_by: Literal["move", "activity"]
    threshold: Duration | None = Field(
        description="How long it may be quiet in this stage, at its priority; null: for ever."
    )
    goes_idle_at: Instant | None = Field(
        description="The threshold's end, or that of what holds a flag back; null: never, as things"
        " stand."
    )
    critical_at: Instant | None = Field(description="When its flag will be, or became, critical.")
    held_by: Literal["rule", "snooze", "next_step"] | None = Field(
        description="What decides `goes_idle_at` where the threshold alone does not: the rule came"
        " into force later, a snooze ends, or a next step is planned."
    )
    snoozed_until: Instant | None
    next_step: PlannedStep | None
    follow_up_due_at: Instant | None = Field(
        description="When its next follow-up is due; null: its stage has no cadence."
    )
    flag_id: Id | None = Field(description="The unresolved idle flag, open or snoozed.")
    flagged_at: Instant | None = Field(description="Since when that flag has stood open.")
    severity: Literal["warning", "critical"] | None = Field(description="That flag's.")

    @classmethod
    def of(cls, deal: Opportunity, stage: Stage) -> "OpportunityIdle":
        idle, priority = deal.idle, deal.facts.priority
        # What a rule asks of a deal that is open no more may change without a word about the deal.
        is_open = deal.position.status is Status.OPEN
        rule = stage.idle if is_open else IdleRule()
        hold = held_by(stage, priority, idle.clock_started_at, deal.holds) if is_open else None
        severity = Severity.WARNING if deal.escalated_at is None else Severity.CRITICAL
        return cls.model_construct(
            clock=rule.clock.value,
            clock_started_at=idle.clock_started_at,
            last_reset_by=idle.reset_by.value,
            threshold=rule.threshold(priority),
            goes_idle_at=idle.goes_idle_at,
            critical_at=idle.critical_at,
            held_by=None if hold is None or idle.goes_idle_at is None else hold.value,
            snoozed_until=deal.holds.snoozed_until,
            next_step=PlannedStep.of(deal.holds.next_step),
            follow_up_due_at=idle.follow_up_due_at,
            flag_id=deal.flag_id,
            flagged_at=deal.flagged_at,
            severity=None if deal.flag_id is None else severity.value,
        )
