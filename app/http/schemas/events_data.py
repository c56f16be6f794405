"""What events say, type by type: the promise that `actions.announcements` keeps.

Written once and stored: nothing here is filled or checked while the service runs, tests hold what
is written to these schemas. What may be added to them is told in docs/events.md.
"""

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from app.http.schemas.common import Id, Instant, Key, Money, Rate, Response
from app.http.schemas.idle import Clock, FlagSeverity
from app.http.schemas.opportunities import Status
from app.http.schemas.transitions import Kind

_DEAL: Final[dict[str, Any]] = {
    "id": "019a8f0e-4c1e-7d8a-9b1c-2f3e4d5c6b7a",
    "external_id": "CRM-1042",
    "version": 7,
    "name": "Ten seats for the design team",
    "status": "open",
    "amount": {"amount": "1250.00", "currency": "EUR"},
    "owner": "mia",
    "team": "north",
}
_PLACE: Final = {"pipeline": "sales", "stage": "quote"}
_FLAG: Final[dict[str, Any]] = {
    "flag_id": "019a8f0e-7d4c-7a10-9d41-6e7f8a9b0c1d",
    **_PLACE,
    "severity": "warning",
    "idle_since": "2026-11-16T14:30:00Z",
}
_CHANGES: Final[dict[str, Any]] = {
    "fields": ["flow"],
    "added": ["legal"],
    "changed": [],
    "archived": [],
    "restored": [],
    "reordered": False,
}
_TRANSITION_ID: Final = "019a8f0e-5b2d-7c91-8a02-3c4d5e6f7a8b"

PROBABILITY: Final = "Declared by the stage; null: it declares none."


def _example(**data: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [data]})


class EventOpportunity(Response):
    """The deal in short, as the change left it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DEAL]})

    id: Id
    external_id: str | None
    version: int = Field(description="Of two events about a deal, the later bears the higher one.")
    name: str
    status: Status
    amount: Money | None
    owner: str | None
    team: str | None


class PlacedData(Response):
    """Where the deal stands; of one that is deleted, or whose flag is resolved, where it stood."""

    pipeline: Key
    stage: Key


class ErasedData(Response):
    """Nothing: the deal was deleted, and what events had said of it with it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]})


class OpportunityCreatedData(PlacedData):
    """The stage in which the deal opened; the one it stands in, if it was imported."""

    model_config = _example(pipeline="sales", stage="prospect", opportunity=_DEAL)

    opportunity: EventOpportunity


class FieldChange(Response):
    """A field's value before and after, as the API writes it."""

    model_config = _example(old="mia", new="tom")

    old: Any
    new: Any


class OpportunityUpdatedData(PlacedData):
    """Which of the deal's fields changed, by name."""

    model_config = _example(
        **_PLACE, changes={"owner": {"old": "mia", "new": "tom"}}, opportunity=_DEAL
    )

    changes: dict[str, FieldChange]
    opportunity: EventOpportunity


class OpportunityDeletedData(PlacedData):
    """Nothing is left of the deal but its id, and where it stood."""

    model_config = _example(opportunity_id=_DEAL["id"], **_PLACE, actor="crm-sync")

    opportunity_id: Id
    actor: str


class OpportunityTransitionedData(Response):
    """A move: its kind, and what the deal was before and after it."""

    model_config = _example(
        transition_id=_TRANSITION_ID,
        seq=3,
        kind="advanced",
        from_stage="contact",
        to_stage="quote",
        from_status="open",
        to_status="open",
        from_probability=0.2,
        to_probability=0.5,
        pipeline="sales",
        entered_at="2026-11-09T14:30:00Z",
        occurred_at="2026-11-16T09:05:12.345Z",
        loss_reason=None,
        actor="crm-sync",
        linked_id=None,
        opportunity=_DEAL,
    )

    transition_id: Id
    seq: int = Field(description="Its number in the deal's own log.")
    kind: Kind
    from_stage: Key | None = Field(description="Null for an opening that an import has rewritten.")
    to_stage: Key
    from_status: Status | None = Field(description="Null with `from_stage`.")
    to_status: Status
    from_probability: Rate | None = Field(description=PROBABILITY)
    to_probability: Rate | None = Field(description=PROBABILITY)
    pipeline: Key
    entered_at: Instant | None = Field(
        description="When the deal had come into `from_stage`; null where it stayed there: an "
        "opening, or a hand-off of a closed deal."
    )
    occurred_at: Instant
    loss_reason: str | None = Field(description="Why the deal was lost; null for every other move.")
    actor: str
    linked_id: Id | None = Field(
        description="The deal that it was handed off to, or came from; null without a hand-off."
    )
    opportunity: EventOpportunity


class TransitionVoidedData(PlacedData):
    """An undo: the move that does not stand any more, and where the deal stands again."""

    model_config = _example(
        transition_id=_TRANSITION_ID,
        seq=3,
        kind="advanced",
        reason="Wrong deal.",
        actor="mia",
        previous_stage="quote",
        pipeline="sales",
        stage="contact",
        opportunity=_DEAL,
    )

    transition_id: Id
    seq: int
    kind: Kind
    reason: str
    actor: str
    previous_stage: Key = Field(description="Where the voided move had led.")
    opportunity: EventOpportunity


class ActivityRecordedData(PlacedData):
    """A follow-up, without its content: that is read from the deal's activities."""

    model_config = _example(
        activity_id="019a8f0e-6a3b-7e20-9c11-4b5c6d7e8f90",
        **_PLACE,
        kind="call",
        outcome="interested",
        next_step="Send the quote",
        next_step_at="2026-11-13T16:00:00Z",
        occurred_at="2026-11-12T10:15:00Z",
        actor="crm-sync",
        resets_clock=True,
        opportunity=_DEAL,
    )

    activity_id: Id
    kind: Key
    outcome: str | None
    next_step: str | None
    next_step_at: Instant | None
    occurred_at: Instant
    actor: str
    resets_clock: bool = Field(description="Whether the deal's idle clock began anew by it.")
    opportunity: EventOpportunity


class IdleFlagOpenedData(PlacedData):
    """A deal has gone idle: since when, and by which clock."""

    model_config = _example(
        **_FLAG,
        critical_at="2026-11-23T14:30:00Z",
        clock="stage_age",
        clock_started_at="2026-11-09T14:30:00Z",
        last_reset_by="move",
        reopened=False,
        opportunity=_DEAL,
    )

    flag_id: Id
    severity: FlagSeverity
    idle_since: Instant
    critical_at: Instant | None = Field(
        description="When the flag becomes critical; null where the deal's rule says no more."
    )
    clock: Clock
    clock_started_at: Instant
    last_reset_by: Literal["move", "activity"]
    reopened: bool = Field(description="Whether the same flag stood open before.")
    opportunity: EventOpportunity


class IdleFlagEscalatedData(PlacedData):
    """A flag has stood for so long that it is critical."""

    model_config = _example(
        **{**_FLAG, "severity": "critical"},
        previous_severity="warning",
        critical_at="2026-11-23T14:30:00Z",
        opportunity=_DEAL,
    )

    flag_id: Id
    previous_severity: FlagSeverity
    severity: FlagSeverity
    idle_since: Instant
    critical_at: Instant | None = Field(description="The instant for which it was escalated.")
    opportunity: EventOpportunity


class IdleFlagAcknowledgedData(PlacedData):
    """Somebody has seen to the flag."""

    model_config = _example(**_FLAG, actor="mia", opportunity=_DEAL)

    flag_id: Id
    severity: FlagSeverity
    idle_since: Instant
    actor: str
    opportunity: EventOpportunity


class IdleFlagSnoozedData(PlacedData):
    """The flag was put aside until an instant."""

    model_config = _example(
        **_FLAG,
        previous_until=None,
        until="2026-11-24T08:00:00Z",
        reason="Their budget is decided next week.",
        actor="mia",
        opportunity=_DEAL,
    )

    flag_id: Id
    severity: FlagSeverity
    idle_since: Instant
    previous_until: Instant | None = Field(
        description="Until when it was put aside before; null: it was not."
    )
    until: Instant
    reason: str
    actor: str
    opportunity: EventOpportunity


class IdleFlagResolvedData(PlacedData):
    """The deal is not idle any more."""

    model_config = _example(
        flag_id=_FLAG["flag_id"],
        **_PLACE,
        resolved_by="moved",
        opened_at="2026-11-16T14:30:00.412Z",
        open_seconds=66872.5,
        opportunity=_DEAL,
    )

    flag_id: Id
    resolved_by: Literal["moved", "closed", "activity", "not_due"]
    opened_at: Instant | None = Field(
        description="When the flag was last opened; null: it was put aside at the time."
    )
    open_seconds: float | None = Field(description="Since then; null with `opened_at`.")
    opportunity: EventOpportunity


class PipelineChanges(Response):
    """Names of the definition's fields that changed, and keys of stages."""

    model_config = _example(**_CHANGES)

    fields: list[str]
    added: list[Key]
    changed: list[Key]
    archived: list[Key]
    restored: list[Key]
    reordered: bool


class PipelineUpdatedData(Response):
    """A revision came into force."""

    model_config = _example(
        pipeline="sales",
        revision=4,
        previous_revision=3,
        archived=False,
        changes=_CHANGES,
        actor="mia",
    )

    pipeline: Key
    revision: int
    previous_revision: int | None = Field(description="Null: the pipeline is new.")
    archived: bool
    changes: PipelineChanges | None = Field(description="Null: the pipeline is new.")
    actor: str


class WebhookEndpointDisabledData(Response):
    """An endpoint is sent nothing any more, until somebody enables it again."""

    model_config = _example(
        endpoint_id="019a8f0e-9f6e-7c31-9a24-8b9c0d1e2f30",
        description="The team's channel",
        reason="failing",
        failing_since="2026-11-11T14:30:00Z",
        position="1-48213-9077",
    )

    endpoint_id: Id
    description: str
    reason: Literal["requested", "gone", "failing"] = Field(
        description="`gone`: it answered 410. `failing`: for days there was nothing but failures."
    )
    failing_since: Instant | None = Field(description="Null: its last delivery had succeeded.")
    position: str = Field(
        description="Where in the feed it stopped: before the first event that it has not had."
    )


class WebhookTestData(Response):
    """A test that somebody asked for."""

    model_config = _example(endpoint_id="019a8f0e-9f6e-7c31-9a24-8b9c0d1e2f30", actor="mia")

    endpoint_id: Id
    actor: str


class ImportCompletedData(Response):
    """An import has ended."""

    model_config = _example(
        import_id="019a8f0e-8e5d-7b20-8f13-7a8b9c0d1e2f",
        pipeline="sales",
        state="completed",
        counts={"rows": 1200, "transitions": 1180},
        actor="crm-sync",
    )

    import_id: Id
    pipeline: Key
    state: Literal["completed", "aborted", "failed"]
    counts: dict[str, int]
    actor: str
