"""What events say: the JSON that other systems are told of deals, flags, logs and definitions.

One row a change, with what was before it where that matters. Stages are named by key, instants are
RFC 3339 in UTC, amounts decimal strings. Who reads them is promised what `http.schemas.events`
says; docs/events.md says what may change.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.domain import money
from app.domain.difference import difference
from app.domain.idle_flag import IdleFlag, Severity
from app.domain.idleness import Resolution
from app.domain.journey import Status, TransitionKind, is_link, status_in
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import events
from app.storage.activities import Activity
from app.storage.imports import ImportJob
from app.storage.pipelines import Revision
from app.storage.statement import Part
from app.storage.transitions import LogEntry


def plain(value: Any) -> Any:
    """A domain value as JSON has it."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date() | UUID():
            return str(value)
        case Decimal():  # as it was written: the database fills its four places with zeros
            return format(value.normalize(), "f")
        case tuple():
            return list(value)
        case _:
            return value


def transitioned(workspace: UUID, deal: Opportunity, entry: LogEntry, pipeline: Pipeline) -> Part:
    """`opportunity.transitioned`: one row a move, with its kind and what it changed of the deal.

    An imported one is historical, and bears the deal as its import left it.
    """
    moved = entry.transition
    origin = None if moved.from_slot is None else pipeline.by_slot[moved.from_slot]
    target = pipeline.by_slot[moved.to_slot]
    gone = moved.kind is TransitionKind.HANDED_OFF and not is_link(moved)
    return _about(
        workspace,
        deal,
        "opportunity.transitioned",
        {
            "transition_id": str(entry.transition_id),
            "seq": moved.seq,
            "kind": moved.kind.value,
            "from_stage": origin and origin.key,
            "to_stage": target.key,
            "from_status": origin and status_in(origin).value,
            "to_status": Status.HANDED_OFF.value if gone else status_in(target).value,
            "from_probability": origin and _share(origin.probability),
            "to_probability": _share(target.probability),
            "pipeline": pipeline.key,
            "entered_at": moved.entered_at,
            "occurred_at": moved.occurred_at,
            "loss_reason": moved.loss_reason,
            "actor": entry.actor,
            "linked_id": entry.linked_id,
        },
        moved.occurred_at,
        historical=entry.import_id is not None,
    )


def created(
    workspace: UUID, deal: Opportunity, pipeline: Pipeline, *, historical: bool = False
) -> Part:
    """`opportunity.created`: a deal was opened, with its first stage; the last, if imported."""
    return _about(
        workspace,
        deal,
        "opportunity.created",
        _place(pipeline, deal.position.slot),
        deal.position.opened_at,
        historical=historical,
    )


def updated(
    workspace: UUID,
    deal: Opportunity,
    pipeline: Pipeline,
    changes: Mapping[str, tuple[Any, Any]],
    at: datetime,
    *,
    historical: bool = False,
) -> Part:
    """`opportunity.updated`: an edit, with the old and new value of each field."""
    return _about(
        workspace,
        deal,
        "opportunity.updated",
        {
            **_place(pipeline, deal.position.slot),
            "changes": {
                name: {"old": plain(old), "new": plain(new)} for name, (old, new) in changes.items()
            },
        },
        at,
        historical=historical,
    )


def deleted(
    workspace: UUID, deal: Opportunity, pipeline: Pipeline, at: datetime, actor: str
) -> Part:
    """`opportunity.deleted`: nothing of the deal but its id and where it stood."""
    return events.append(
        workspace,
        "opportunity.deleted",
        {
            "opportunity_id": str(deal.opportunity_id),
            **_place(pipeline, deal.position.slot),
            "actor": actor,
        },
        occurred_at=at,
        pipeline_id=deal.pipeline_id,
        opportunity_id=deal.opportunity_id,
    )


def voided(
    workspace: UUID,
    deal: Opportunity,
    entry: LogEntry,
    pipeline: Pipeline,
    *,
    historical: bool = False,
) -> Part:
    """`transition.voided`: an undo, with the stage in which the deal stands again.

    One by an import is historical, and bears the deal as its import left it.
    """
    return _about(
        workspace,
        deal,
        "transition.voided",
        {
            "transition_id": str(entry.transition_id),
            "seq": entry.transition.seq,
            "kind": entry.transition.kind.value,
            "reason": entry.void_reason,
            "actor": entry.voided_by,
            "previous_stage": pipeline.by_slot[entry.transition.to_slot].key,
            **_place(pipeline, deal.position.slot),
        },
        deal.updated_at,
        historical=historical,
    )


def flag_opened(
    workspace: UUID,
    deal: Opportunity,
    flag: IdleFlag,
    pipeline: Pipeline,
    at: datetime,
    *,
    reopened: bool,
) -> Part:
    """`idle_flag.opened`: since when the deal is idle, and whether its flag is open again."""
    return _about(
        workspace,
        deal,
        "idle_flag.opened",
        {
            "flag_id": str(flag.flag_id),
            **_place(pipeline, deal.position.slot),
            "severity": flag.severity.value,
            "idle_since": flag.idle_since,
            "critical_at": deal.idle.critical_at,
            "clock": flag.clock.value,
            "clock_started_at": flag.clock_started_at,
            "last_reset_by": deal.idle.reset_by.value,
            "reopened": reopened,
        },
        at,
    )


def flag_escalated(
    workspace: UUID, deal: Opportunity, flag: IdleFlag, pipeline: Pipeline, at: datetime
) -> Part:
    """`idle_flag.escalated`: the flag has stood for so long that it is critical now."""
    return _about(
        workspace,
        deal,
        "idle_flag.escalated",
        {
            "flag_id": str(flag.flag_id),
            **_place(pipeline, deal.position.slot),
            "previous_severity": Severity.WARNING.value,
            "severity": flag.severity.value,
            "idle_since": flag.idle_since,
            "critical_at": deal.idle.critical_at,
        },
        at,
    )


def flag_acknowledged(
    workspace: UUID, deal: Opportunity, flag: IdleFlag, pipeline: Pipeline, at: datetime
) -> Part:
    """`idle_flag.acknowledged`, with who saw to it."""
    return _about(
        workspace,
        deal,
        "idle_flag.acknowledged",
        {
            "flag_id": str(flag.flag_id),
            **_place(pipeline, deal.position.slot),
            "severity": flag.severity.value,
            "idle_since": flag.idle_since,
            "actor": flag.acknowledged_by,
        },
        at,
    )


def flag_snoozed(
    workspace: UUID,
    deal: Opportunity,
    flag: IdleFlag,
    pipeline: Pipeline,
    at: datetime,
    *,
    before: IdleFlag,
) -> Part:
    """`idle_flag.snoozed`, with its end, its reason, who asked for it, and what end it had."""
    return _about(
        workspace,
        deal,
        "idle_flag.snoozed",
        {
            "flag_id": str(flag.flag_id),
            **_place(pipeline, deal.position.slot),
            "severity": flag.severity.value,
            "idle_since": flag.idle_since,
            "previous_until": before.snoozed_until,
            "until": flag.snoozed_until,
            "reason": flag.snooze_reason,
            "actor": flag.snoozed_by,
        },
        at,
    )


def flag_resolved(
    workspace: UUID,
    before: Opportunity,
    after: Opportunity,
    pipeline: Pipeline,
    at: datetime,
    cause: Resolution,
) -> Part:
    """`idle_flag.resolved`: the flag that the deal bore before, where it stood, with its cause.

    How long it stood open is counted from when it was last opened; a flag that was put aside stood
    open no more.
    """
    opened_at = before.flagged_at
    return _about(
        workspace,
        after,
        "idle_flag.resolved",
        {
            "flag_id": str(before.flag_id),
            **_place(pipeline, before.position.slot),
            "resolved_by": cause.value,
            "opened_at": opened_at,
            "open_seconds": opened_at and max((at - opened_at).total_seconds(), 0.0),
        },
        at,
    )


def activity_recorded(
    workspace: UUID,
    deal: Opportunity,
    activity: Activity,
    pipeline: Pipeline,
    *,
    resets_clock: bool,
) -> Part:
    """`activity.recorded`: a follow-up, and whether it reset the deal's idle clock."""
    return _about(
        workspace,
        deal,
        "activity.recorded",
        {
            "activity_id": str(activity.activity_id),
            **_place(pipeline, deal.position.slot),
            "kind": activity.kind,
            "outcome": activity.outcome,
            "next_step": activity.next_step,
            "next_step_at": activity.next_step_at,
            "occurred_at": activity.occurred_at,
            "actor": activity.actor,
            "resets_clock": resets_clock,
        },
        activity.occurred_at,
    )


def pipeline_updated(workspace: UUID, after: Revision, old: Pipeline | None) -> Part:
    """`pipeline.updated`: a revision came into force, and what it changed."""
    new = after.pipeline
    return events.append(
        workspace,
        "pipeline.updated",
        {
            "pipeline": new.key,
            "revision": new.revision,
            "previous_revision": None if old is None else old.revision,
            "archived": new.archived_at is not None,
            "changes": None if old is None else asdict(difference(old, new)),
            "actor": after.actor,
        },
        occurred_at=after.in_force_at,
        pipeline_id=new.pipeline_id,
    )


def import_completed(workspace: UUID, job: ImportJob, pipeline: Pipeline, at: datetime) -> Part:
    """`import.completed`: an import has ended, as what, and what it has counted."""
    return events.append(
        workspace,
        "import.completed",
        {
            "import_id": str(job.import_id),
            "pipeline": pipeline.key,
            "state": job.state.value,
            "counts": dict(job.counts),
            "actor": job.actor,
        },
        occurred_at=at,
        pipeline_id=pipeline.pipeline_id,
    )


def _place(pipeline: Pipeline, slot: int) -> dict[str, str]:
    """Where the deal stands or stood: by this an endpoint that asks for stages knows its events."""
    return {"pipeline": pipeline.key, "stage": pipeline.by_slot[slot].key}


def _share(probability: Decimal | None) -> float | None:
    return None if probability is None else float(probability)


def _about(
    workspace: UUID,
    deal: Opportunity,
    type_: str,
    data: Mapping[str, Any],
    at: datetime,
    *,
    historical: bool = False,
) -> Part:
    """An event about a deal that is there, which each of them bears in short."""
    return events.append(
        workspace,
        type_,
        {**data, "opportunity": summary(deal)},
        occurred_at=at,
        pipeline_id=deal.pipeline_id,
        opportunity_id=deal.opportunity_id,
        historical=historical,
    )


def summary(deal: Opportunity) -> dict[str, Any]:
    """The deal in short, as every event about it bears it."""
    facts = deal.facts
    return {
        "id": str(deal.opportunity_id),
        "external_id": deal.external_id,
        "version": deal.version,
        "name": deal.name,
        "status": deal.position.status.value,
        "amount": None
        if facts.amount is None or facts.currency is None
        else {"amount": money.written(facts.amount, facts.currency), "currency": facts.currency},
        "owner": facts.owner,
        "team": facts.team,
    }
