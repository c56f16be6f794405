"""Moving one deal: the most frequent write, four round trips, which moves that wait share.

One read brings the deal, the definition's revision, the database's clock and a twin's answer;
`domain.transition.decide` decides; one statement compares and sets the deal's version, appends the
transition (which is also the visit that ends), resolves the flag, tells the event and keeps the
answer; then the commit.
"""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from app.actions import announcements, audit_entries
from app.actions.deciding import Change, Decision, VersionCheck, change
from app.domain import guards, opportunity, transition
from app.domain.access import Principal, Scope
from app.domain.errors import Forbidden
from app.domain.idleness import Resolution
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.domain.transition import Move
from app.storage import activities, idle_flags, opportunities, pipelines, transitions
from app.storage.engine import Connection, Database
from app.storage.idempotency import Answer, Repeatable
from app.storage.ids import new_id
from app.storage.opportunities import Asked, Reading
from app.storage.statement import Part
from app.storage.transitions import LogEntry

Moved = Callable[[Opportunity, LogEntry, Pipeline], Answer]
"""Renders what the caller is answered; it is kept with the effect, in the same transaction."""


async def move_opportunity(
    database: Database,
    principal: Principal,
    opportunity_id: UUID,
    move: Move,
    *,
    note: str | None,
    check: VersionCheck,
    request: Repeatable | None,
    answer: Moved,
) -> Answer:
    """Move a deal to a stage. Raises NotFound, Stale, Forbidden and all that `decide` raises."""
    if move.override_reason is not None and not principal.may(Scope.TRANSITIONS_OVERRIDE):
        raise Forbidden(f"Overriding a stage's requirements needs {Scope.TRANSITIONS_OVERRIDE}.")
    workspace = principal.workspace_id

    async def decide(connection: Connection, found: Reading) -> Decision:
        deal, now = found.deal, found.now
        check(deal.version)
        transition.check_here(deal.continued_as)
        pipeline = await pipelines.load(connection, workspace, deal.pipeline_id, found.revision)
        seen = guards.view(deal)
        decided = transition.decide(pipeline, deal.position, seen, deal.facts, move, now)
        if decided.occurred_at < now:  # something may have been done about it there already
            kinds = pipeline.by_slot[decided.to_slot].idle.qualifying
            last = await activities.last_of(connection, workspace, opportunity_id, kinds)
            deal = replace(deal, last_activity_at=last)
        after, resolution = opportunity.moved(deal, pipeline, decided, now)
        entry = LogEntry(
            transition=decided,
            transition_id=new_id(),
            opportunity_id=deal.opportunity_id,
            pipeline_id=deal.pipeline_id,
            revision=pipeline.revision,
            from_name=pipeline.by_slot[deal.position.slot].name,
            to_name=pipeline.by_slot[decided.to_slot].name,
            recorded_at=now,
            actor=principal.subject,
            note=note,
            override_reason=transition.override_of(pipeline, seen, move),
        )
        return Decision(
            answer(after, entry, pipeline),
            [
                opportunities.save_position(workspace, after),
                transitions.append(workspace, entry),
                announcements.transitioned(workspace, after, entry, pipeline),
                *resolving(workspace, deal, resolution, after, pipeline),
                *audit_entries.overridden(principal, entry, pipeline, seen),
            ],
        )

    asked = Asked(opportunity_id, principal.sight, request)
    return await change(database, workspace, Change(asked, decide))


def resolving(
    workspace: UUID,
    before: Opportunity,
    resolution: Resolution | None,
    after: Opportunity,
    pipeline: Pipeline,
) -> list[Part]:
    """The parts that end the idle episode, where something has ended it."""
    if resolution is None or before.flag_id is None:
        return []
    at = after.updated_at
    return [
        idle_flags.resolve(workspace, before.flag_id, at, resolution),
        announcements.flag_resolved(workspace, before, after, pipeline, at, resolution),
    ]
