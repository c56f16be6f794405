"""Opening a deal: its row, the first transition of its log, its event and the kept answer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

from app.actions import announcements
from app.domain import guards, opportunity, transition
from app.domain.access import Principal, Sight
from app.domain.errors import Forbidden
from app.domain.journey import Facts
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import idempotency, opportunities, pipelines, transitions
from app.storage.engine import Connection, Database
from app.storage.idempotency import Answer, Repeatable
from app.storage.ids import new_id
from app.storage.statement import Part, execute
from app.storage.transitions import LogEntry

Opened = Callable[[Opportunity, Pipeline], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDeal:
    """What a caller says of a deal that it opens."""

    pipeline: str
    name: str
    facts: Facts
    stage: str | None = None
    opened_at: datetime | None = None
    external_id: str | None = None
    tags: tuple[str, ...] = ()
    attributes: dict[str, Any]
    expected_close_on: date | None = None


async def open_opportunity(
    database: Database,
    principal: Principal,
    new: NewDeal,
    *,
    request: Repeatable | None,
    answer: Opened,
) -> Answer:
    """Open a deal.

    Raises NotFound for the pipeline, AlreadyExists for the external_id, and all that
    `decide_opening` raises; Forbidden for a deal that its maker would not see.
    """
    workspace = principal.workspace_id
    new = replace(new, facts=in_sight(principal.sight, new.facts))

    async def work(connection: Connection) -> Answer:
        if kept := await idempotency.find(connection, workspace, request):
            return kept
        pipeline = await pipelines.current(connection, workspace, new.pipeline)
        now = await connection.fetchval("SELECT clock_timestamp()")
        deal, parts = opening(workspace, pipeline, new, now, actor=principal.subject)
        answered = answer(deal, pipeline)
        await execute(connection, [*parts, *idempotency.keep(workspace, request, answered)])
        return answered

    return await database.write(workspace, work, keys=idempotency.keys(request))


def in_sight(sight: Sight, facts: Facts) -> Facts:
    """The facts of a new deal, with an owner or team by which its maker sees it.

    Raises Forbidden where they name others.
    """
    if sight.holds(facts.owner, facts.team):
        return facts
    if sight.of_team is not None and facts.team is None:
        return replace(facts, team=sight.of_team)
    if facts.owner is None:
        return replace(facts, owner=sight.subject)
    raise Forbidden(
        "You would not see the opportunity: with your row scope it has to be yours or your team's."
    )


def opening(
    workspace: UUID,
    pipeline: Pipeline,
    new: NewDeal,
    now: datetime,
    *,
    actor: str,
    continues: UUID | None = None,
) -> tuple[Opportunity, list[Part]]:
    """A new deal and the parts that write it; `continues` where another was handed off to it."""
    decided = transition.decide_opening(
        pipeline, new.stage, new.opened_at, guards.view(new), new.facts, now
    )
    deal = opportunity.opened(
        pipeline,
        decided,
        now,
        opportunity_id=new_id(),
        name=new.name,
        facts=new.facts,
        external_id=new.external_id,
        tags=new.tags,
        attributes=new.attributes,
        expected_close_on=new.expected_close_on,
        continues=continues,
    )
    entry = LogEntry(
        transition=decided,
        transition_id=new_id(),
        opportunity_id=deal.opportunity_id,
        pipeline_id=pipeline.pipeline_id,
        revision=pipeline.revision,
        from_name=None,
        to_name=pipeline.by_slot[decided.to_slot].name,
        recorded_at=now,
        actor=actor,
        linked_id=continues,
    )
    return deal, [
        opportunities.insert(workspace, deal),
        transitions.append(workspace, entry),
        announcements.created(workspace, deal, pipeline),
    ]
