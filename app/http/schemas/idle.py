"""Idle flags, deals that are about to fall idle, and what a scan found."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from app.domain import opportunity as domain
from app.domain.idle_flag import IdleFlag as Flag
from app.domain.pipeline import Pipeline
from app.http.schemas.common import Duration, Id, Instant, Key, Page, Request, Response, Text
from app.http.schemas.opportunities import Label
from app.http.schemas.transitions import PageQuery
from app.storage import idle_scans

FLAGGED_EXAMPLE: Final[dict[str, Any]] = {
    "id": "019a8f0e-4c1e-7d8a-9b1c-2f3e4d5c6b7a",
    "external_id": "CRM-1042",
    "name": "Ten seats for the design team",
    "owner": "mia",
    "team": "north",
    "priority": "high",
}
_EXAMPLE: Final[dict[str, Any]] = {
    "id": "019a8f0e-7d4c-7a10-9d41-6e7f8a9b0c1d",
    "opportunity": FLAGGED_EXAMPLE,
    "pipeline": "sales",
    "stage": "quote",
    "state": "snoozed",
    "severity": "warning",
    "clock": "stage_age",
    "clock_started_at": "2026-11-09T14:30:00Z",
    "idle_since": "2026-11-16T14:30:00Z",
    "opened_at": "2026-11-16T14:30:00.412Z",
    "escalated_at": None,
    "acknowledged": None,
    "snoozed": {
        "at": "2026-11-17T08:00:00Z",
        "by": "mia",
        "until": "2026-11-24T08:00:00Z",
        "reason": "Their budget is decided next week.",
    },
    "resolved": None,
}
_EXPECTED: Final[dict[str, Any]] = {
    "opportunity": FLAGGED_EXAMPLE,
    "pipeline": "sales",
    "stage": "quote",
    "clock": "stage_age",
    "clock_started_at": "2026-11-09T14:30:00Z",
    "last_reset_by": "move",
    "goes_idle_at": "2026-11-16T14:30:00Z",
    "flag_id": None,
}

_SCAN: Final[dict[str, Any]] = {
    "id": "019a8f0e-7d4c-7c55-8a11-7b8c9d0e1f2a",
    "started_at": "2026-11-16T14:30:00.402Z",
    "seconds": 0.0127,
    "flagged": 3,
    "escalated": 1,
    "lag_seconds": 0.412,
    "requested_by": None,
}

Clock = Literal["stage_age", "inactivity"]
State = Literal["open", "acknowledged", "snoozed", "resolved"]
FlagSeverity = Literal["warning", "critical"]


class FlaggedOpportunity(Response):
    """The deal in short, as it stands now."""

    model_config = ConfigDict(json_schema_extra={"examples": [FLAGGED_EXAMPLE]})

    id: Id
    external_id: str | None
    name: str
    owner: str | None
    team: str | None
    priority: str | None

    @classmethod
    def of(cls, deal: domain.Opportunity) -> "FlaggedOpportunity":
        return cls.model_construct(
            id=deal.opportunity_id,
            external_id=deal.external_id,
            name=deal.name,
            owner=deal.facts.owner,
            team=deal.facts.team,
            priority=deal.facts.priority,
        )


class Acknowledgement(Response):
    """Who has seen to the flag, and when."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"at": "2026-11-17T08:00:00Z", "by": "mia"}]}
    )

    at: Instant
    by: str


class Snooze(Response):
    """Until when the flag is put aside, by whom and why."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE["snoozed"]]})

    at: Instant
    by: str
    until: Instant
    reason: str


class FlagResolution(Response):
    """When the episode ended, and what ended it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"at": "2026-11-18T10:15:00Z", "cause": "moved"}]}
    )

    at: Instant
    cause: Literal["moved", "closed", "activity", "not_due"]


class IdleFlag(Response):
    """One episode in which a deal sat past its stage's threshold."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: Id
    opportunity: FlaggedOpportunity
    pipeline: str
    stage: str = Field(
        description="The stage in which the deal fell idle, or into which a changed definition put "
        "it since."
    )
    state: State
    severity: FlagSeverity
    clock: Clock
    clock_started_at: Instant
    idle_since: Instant = Field(
        description="When the deal had sat for as long as its stage allows, whenever it was seen."
    )
    opened_at: Instant
    escalated_at: Instant | None = Field(description="Since when it is critical.")
    acknowledged: Acknowledgement | None
    snoozed: Snooze | None
    resolved: FlagResolution | None

    @classmethod
    def of(cls, flag: Flag, deal: domain.Opportunity, pipeline: Pipeline) -> "IdleFlag":
        return cls.model_construct(
            id=flag.flag_id,
            opportunity=FlaggedOpportunity.of(deal),
            pipeline=pipeline.key,
            stage=pipeline.by_slot[flag.slot].key,
            state=flag.state.value,
            severity=flag.severity.value,
            clock=flag.clock.value,
            clock_started_at=flag.clock_started_at,
            idle_since=flag.idle_since,
            opened_at=flag.opened_at,
            escalated_at=flag.escalated_at,
            acknowledged=None
            if flag.acknowledged_at is None
            else Acknowledgement.model_construct(
                at=flag.acknowledged_at, by=flag.acknowledged_by or ""
            ),
            snoozed=None
            if flag.snoozed_until is None or flag.snoozed_at is None
            else Snooze.model_construct(
                at=flag.snoozed_at,
                by=flag.snoozed_by or "",
                until=flag.snoozed_until,
                reason=flag.snooze_reason or "",
            ),
            resolved=None
            if flag.resolved_at is None or flag.resolved_by is None
            else FlagResolution.model_construct(at=flag.resolved_at, cause=flag.resolved_by.value),
        )


class IdleFlagPage(Page[IdleFlag]):
    """A page of flags, in the order in which they were first opened."""


class IdleFlagQuery(PageQuery):
    """Which flags. Filters add up; `owner` and `team` are the deal's present ones."""

    pipeline: Key | None = None
    stage: Key | None = Field(default=None, description="A stage of `pipeline`, which it needs.")
    owner: Label | None = None
    team: Label | None = None
    state: State | None = Field(default=None, description="Absent: all but the resolved ones.")
    severity: FlagSeverity | None = None

    def asked(self) -> dict[str, Any]:
        """What decides which list it is, for its cursors."""
        return self.model_dump(exclude={"limit", "cursor"})


class SnoozeCreate(Request):
    """Until when the flag is put aside, and why."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"until": "2026-11-24T08:00:00Z", "reason": "Their budget is decided next week."}
            ]
        }
    )

    until: Instant = Field(description="In the future, at most 366 days ahead.")
    reason: Annotated[Text, Field(min_length=1)]


class UpcomingIdle(Response):
    """A deal that will fall idle unless something is done."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXPECTED]})

    opportunity: FlaggedOpportunity
    pipeline: str
    stage: str
    clock: Clock
    clock_started_at: Instant
    last_reset_by: Literal["move", "activity"]
    goes_idle_at: Instant
    flag_id: Id | None = Field(description="The snoozed flag that will come back.")

    @classmethod
    def of(cls, deal: domain.Opportunity, pipeline: Pipeline) -> "UpcomingIdle":
        stage = pipeline.by_slot[deal.position.slot]
        assert deal.idle.goes_idle_at is not None, "what is upcoming has its instant"
        return cls.model_construct(
            opportunity=FlaggedOpportunity.of(deal),
            pipeline=pipeline.key,
            stage=stage.key,
            clock=stage.idle.clock.value,
            clock_started_at=deal.idle.clock_started_at,
            last_reset_by=deal.idle.reset_by.value,
            goes_idle_at=deal.idle.goes_idle_at,
            flag_id=deal.flag_id,
        )


class UpcomingIdlePage(Page[UpcomingIdle]):
    """A page of deals that will fall idle, the soonest first."""


class UpcomingIdleQuery(PageQuery):
    """How far to look ahead."""

    within: Duration = Field(
        default="P3D",
        validate_default=True,
        description="From now on, as definitions write it: `P3D`, `PT12H`.",
    )


class IdleScan(Response):
    """What one scan of the workspace found, how long it took, and how late it was."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SCAN]})

    id: Id
    started_at: Instant
    seconds: float
    flagged: int = Field(description="Flags opened; what another scan has flagged is not counted.")
    escalated: int = Field(description="Flags that became critical.")
    lag_seconds: float | None = Field(
        description="For how long the one that waited longest could have been flagged: since it"
        " was due, or was written as overdue; null: none was flagged."
    )
    requested_by: str | None = Field(description="Null: the service's own.")

    @classmethod
    def of(cls, scan: idle_scans.IdleScan) -> "IdleScan":
        return cls.model_construct(
            id=scan.scan_id,
            started_at=scan.started_at,
            seconds=scan.seconds,
            flagged=scan.flagged,
            escalated=scan.escalated,
            lag_seconds=scan.lag_seconds,
            requested_by=scan.requested_by,
        )


class IdleScanPage(Page[IdleScan]):
    """A page of the scans that found something or were asked for, the latest first.

    Scans that find nothing leave no record; that they run, the present lag tells.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"items": [_SCAN], "page": {"next_cursor": None}, "lag_seconds": 0.0}]
        }
    )

    lag_seconds: float = Field(
        description="For how long a deal waits at present that could have been flagged; 0: none."
    )
