"""What events say: the JSON that other systems are told of deals, flags, logs and definitions.

One row a change. Stages are named by key, instants are RFC 3339 in UTC, amounts decimal strings.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.domain import money
from app.domain.difference import difference
from app.domain.idle_flag import IdleFlag
from app.domain.idleness import Resolution
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
    """`opportunity.transitioned`: one row a move, with its kind, previous and new stage.

    An imported one is historical, and bears the deal as its import left it.
    """
    moved = entry.transition
    origin = None if moved.from_slot is None else pipeline.by_slot[moved.from_slot].key
    return events.append(
        workspace,
        "opportunity.transitioned",
        {
            "transition_id": str(entry.transition_id),
            "seq": moved.seq,
            "kind": moved.kind.value,
            "from_stage": origin,
            "to_stage": pipeline.by_slot[moved.to_slot].key,
            "pipeline": pipeline.key,
            "entered_at": moved.entered_at,
            "occurred_at": moved.occurred_at,
            "loss_reason": moved.loss_reason,
            "actor": entry.actor,
            "linked_id": entry.linked_id,
            "opportunity": summary(deal),
        },
        occurred_at=moved.occurred_at,
        pipeline_id=deal.pipeline_id,
        opportunity_id=deal.opportunity_id,
        historical=entry.import_id is not None,
    )


def created(
    workspace: UUID, deal: Opportunity, pipeline: Pipeline, *, historical: bool = False
) -> Part:
    """`opportunity.created`: a deal was opened, with its first stage; the last, if imported."""
    return events.append(
        workspace,
        "opportunity.created",
        {
            "pipeline": pipeline.key,
            "stage": pipeline.by_slot[deal.position.slot].key,
            "opportunity": summary(deal),
        },
        occurred_at=deal.position.opened_at,
        pipeline_id=deal.pipeline_id,
        opportunity_id=deal.opportunity_id,
        historical=historical,
    )


def updated(
    workspace: UUID,
    deal: Opportunity,
    changes: Mapping[str, tuple[Any, Any]],
    at: datetime,
    *,
    historical: bool = False,
) -> Part:
    """`opportunity.updated`: an edit, with the old and new value of each field."""
    return events.append(
        workspace,
        "opportunity.updated",
        {
            "changes": {
                name: {"old": plain(old), "new": plain(new)} for name, (old, new) in changes.items()
            },
            "opportunity": summary(deal),
        },
        occurred_at=at,
        pipeline_id=deal.pipeline_id,
        opportunity_id=deal.opportunity_id,
        historical=historical,
    )


def deleted(workspace: UUID, deal: Opportunity, at: datetime, actor: str) -> Part:
    """`opportunity.deleted`: nothing of the deal but its id."""
    return events.append(
        workspace,
        "opportunity.deleted",
        {"opportunity_id": str(deal.opportunity_id), "actor": actor},
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
    """`transition.voided`: an undo, with the stage in which the deal stands again."""
    return events.append(
        workspace,
        "transition.voided",
        {
            "transition_id": str(entry.transition_id),
            "seq": entry.transition.seq,
            "kind": entry.transition.kind.value,
            "reason": entry.void_reason,
            "actor": entry.voided_by,
            "stage": pipeline.by_slot[deal.position.slot].key,
            "opportunity": summary(deal),
        },
        occurred_at=deal.updated_at,
        pipeline_id=deal.pipeline_id,
        opportunity_id=deal.opportunity_id,
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
    return _about_flag(
        workspace,
        "idle_flag.opened",
        deal,
        {
            "flag_id": str(flag.flag_id),
            "pipeline": pipeline.key,
            "stage": pipeline.by_slot[deal.position.slot].key,
            "idle_since": plain(flag.idle_since),
            "clock": flag.clock.value,
            "clock_started_at": plain(flag.clock_started_at),
            "last_reset_by": deal.idle.reset_by.value,
            "reopened": reopened,
            "opportunity": summary(deal),
        },
        at,
    )


def flag_acknowledged(workspace: UUID, deal: Opportunity, flag: IdleFlag, at: datetime) -> Part:
    """`idle_flag.acknowledged`, with who saw to it."""
    return _about_flag(
        workspace,
        "idle_flag.acknowledged",
        deal,
        {
            "flag_id": str(flag.flag_id),
            "actor": flag.acknowledged_by,
            "opportunity": summary(deal),
        },
        at,
    )


def flag_snoozed(workspace: UUID, deal: Opportunity, flag: IdleFlag, at: datetime) -> Part:
    """`idle_flag.snoozed`, with its end, its reason and who asked for it."""
    return _about_flag(
        workspace,
        "idle_flag.snoozed",
        deal,
        {
            "flag_id": str(flag.flag_id),
            "until": plain(flag.snoozed_until),
            "reason": flag.snooze_reason,
            "actor": flag.snoozed_by,
            "opportunity": summary(deal),
        },
        at,
    )


def flag_resolved(
    workspace: UUID, deal: Opportunity, flag_id: UUID, at: datetime, cause: Resolution
) -> Part:
    """`idle_flag.resolved`, with its cause."""
    return _about_flag(
        workspace,
        "idle_flag.resolved",
        deal,
        {
            "flag_id": str(flag_id),
            "opportunity_id": str(deal.opportunity_id),
            "resolved_by": cause.value,
        },
        at,
    )


def activity_recorded(
    workspace: UUID, deal: Opportunity, activity: Activity, *, resets_clock: bool
) -> Part:
    """`activity.recorded`: a follow-up, and whether it reset the deal's idle clock."""
    return events.append(
        workspace,
        "activity.recorded",
        {
            "activity_id": str(activity.activity_id),
            "kind": activity.kind,
            "occurred_at": plain(activity.occurred_at),
            "actor": activity.actor,
            "resets_clock": resets_clock,
            "opportunity": summary(deal),
        },
        occurred_at=activity.occurred_at,
        pipeline_id=deal.pipeline_id,
        opportunity_id=deal.opportunity_id,
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


def _about_flag(
    workspace: UUID, type_: str, deal: Opportunity, data: Mapping[str, Any], at: datetime
) -> Part:
    return events.append(
        workspace,
        type_,
        data,
        occurred_at=at,
        pipeline_id=deal.pipeline_id,
        opportunity_id=deal.opportunity_id,
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
