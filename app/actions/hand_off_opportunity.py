"""Handing a deal over to another pipeline: it ends here and goes on there, in one transaction.

The new deal has its own id and its own log from seq 1; the two are linked (`continues`,
`continued_as`) and the external id goes over. From a closed stage the hand-off is only the link:
won stays won.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from app.actions import announcements
from app.actions.deciding import VersionCheck, decide
from app.actions.move_opportunity import resolving
from app.actions.open_opportunity import NewDeal, opening
from app.domain import opportunity, transition
from app.domain.access import Principal
from app.domain.errors import HandedOff, Invalid
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import idempotency, opportunities, pipelines, transitions
from app.storage.engine import Connection, Database
from app.storage.idempotency import Answer, Repeatable
from app.storage.ids import new_id
from app.storage.opportunities import Asked
from app.storage.statement import execute
from app.storage.transitions import LogEntry

Continued = Callable[[Opportunity, Pipeline], Answer]


async def hand_off_opportunity(
    database: Database,
    principal: Principal,
    opportunity_id: UUID,
    *,
    to_pipeline: str,
    to_stage: str | None,
    occurred_at: datetime | None,
    note: str | None,
    check: VersionCheck,
    request: Repeatable | None,
    answer: Continued,
) -> Answer:
    """End a deal as handed off and open the one that continues it.

    Raises NotFound, Stale, HandedOff, Invalid for its own pipeline, and what opening raises.
    """
    workspace = principal.workspace_id
    asked = Asked(opportunity_id, principal.sight, request)

    async def work(connection: Connection, locked: bool) -> Answer:
        found = await opportunities.read_asked(connection, workspace, asked, locked=locked)
        if isinstance(found, Answer):
            return found
        deal, now = found.deal, found.now
        check(deal.version)
        if deal.continued_as is not None:
            raise HandedOff(f"It went on as opportunity {deal.continued_as} already.")
        pipeline = await pipelines.load(connection, workspace, deal.pipeline_id, found.revision)
        target = await pipelines.current(connection, workspace, to_pipeline)
        if target.pipeline_id == pipeline.pipeline_id:
            raise Invalid("A deal is handed off to another pipeline; within one it is moved.")
        decided = transition.decide_hand_off(pipeline, deal.position, deal.facts, occurred_at, now)
        new, opening_parts = opening(
            workspace,
            target,
            NewDeal(
                pipeline=to_pipeline,
                stage=to_stage,
                opened_at=decided.occurred_at,
                external_id=deal.external_id,
                name=deal.name,
                facts=deal.facts,
                tags=deal.tags,
                attributes=dict(deal.attributes),
                expected_close_on=deal.expected_close_on,
            ),
            now,
            actor=principal.subject,
            continues=deal.opportunity_id,
        )
        after, resolution = opportunity.moved(deal, pipeline, decided, now)
        after = replace(after, continued_as=new.opportunity_id, external_id=None)
        here = pipeline.by_slot[deal.position.slot]
        entry = LogEntry(
            transition=decided,
            transition_id=new_id(),
            opportunity_id=deal.opportunity_id,
            pipeline_id=deal.pipeline_id,
            revision=pipeline.revision,
            from_name=here.name,
            to_name=here.name,
            recorded_at=now,
            actor=principal.subject,
            note=note,
            linked_id=new.opportunity_id,
        )
        answered = answer(new, target)
        # Two statements: the external id must be free before the new deal can bear it.
        await execute(
            connection,
            [
                opportunities.save(workspace, after),
                transitions.append(workspace, entry),
                announcements.transitioned(workspace, after, entry, pipeline),
                *resolving(workspace, deal, resolution, after, pipeline),
            ],
        )
        await execute(connection, [*opening_parts, *idempotency.keep(workspace, request, answered)])
        return answered

    return await decide(database, workspace, request, work)
