"""Attending to an idle flag: a person takes note of it, or puts it aside until an instant."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from app.actions import announcements
from app.actions.deciding import decide
from app.domain import idle_flag, opportunity
from app.domain.access import Principal
from app.domain.errors import FlagResolved, NotFound
from app.domain.idle_flag import IdleFlag
from app.domain.opportunity import Opportunity
from app.domain.pipeline import Pipeline
from app.storage import idempotency, idle_flags, opportunities, pipelines
from app.storage.engine import Connection, Database
from app.storage.idempotency import Answer, Repeatable
from app.storage.statement import Part, execute

Attended = Callable[[IdleFlag, Opportunity, Pipeline], Answer]
"""Renders what the caller is answered; it is kept with the effect, in the same transaction."""

Attention = Callable[
    [IdleFlag, Opportunity, Pipeline, datetime], tuple[IdleFlag, Opportunity, list[Part]]
]


async def acknowledge_flag(
    database: Database,
    principal: Principal,
    flag_id: UUID,
    *,
    request: Repeatable | None,
    answer: Attended,
) -> Answer:
    """Note that the caller has seen to the flag; a second acknowledgement changes nothing.

    Raises NotFound, FlagResolved.
    """
    workspace = principal.workspace_id

    def attend(
        flag: IdleFlag, deal: Opportunity, pipeline: Pipeline, now: datetime
    ) -> tuple[IdleFlag, Opportunity, list[Part]]:
        noted = idle_flag.acknowledged(flag, principal.subject, now)
        if noted is flag:
            return flag, deal, []
        return (
            noted,
            deal,
            [
                idle_flags.acknowledge(workspace, noted),
                announcements.flag_acknowledged(workspace, deal, noted, pipeline, now),
            ],
        )

    return await _attend(database, principal, flag_id, attend, request, answer)


async def snooze_flag(
    database: Database,
    principal: Principal,
    flag_id: UUID,
    until: datetime,
    reason: str,
    *,
    request: Repeatable | None,
    answer: Attended,
) -> Answer:
    """Put the flag aside; it comes back as itself unless the deal moves or is followed up before.

    Raises NotFound, FlagResolved, TimeOutOfRange.
    """
    workspace = principal.workspace_id

    def attend(
        flag: IdleFlag, deal: Opportunity, pipeline: Pipeline, now: datetime
    ) -> tuple[IdleFlag, Opportunity, list[Part]]:
        aside = idle_flag.snoozed(flag, principal.subject, until, reason, now)
        after = opportunity.snoozed(deal, pipeline, until, now)
        return (
            aside,
            after,
            [
                opportunities.save_clock(workspace, after),
                idle_flags.snooze(workspace, aside),
                announcements.flag_snoozed(workspace, after, aside, pipeline, now, before=flag),
            ],
        )

    return await _attend(database, principal, flag_id, attend, request, answer)


async def _attend(
    database: Database,
    principal: Principal,
    flag_id: UUID,
    attend: Attention,
    request: Repeatable | None,
    answer: Attended,
) -> Answer:
    workspace = principal.workspace_id

    async def work(connection: Connection, locked: bool) -> Answer:
        if kept := await idempotency.find(connection, workspace, request):
            return kept
        flag = await idle_flags.find(connection, workspace, flag_id)
        try:
            found = await opportunities.read(
                connection, workspace, flag.opportunity_id, sight=principal.sight, locked=locked
            )
        except NotFound:
            raise idle_flags.no_flag(flag_id) from None
        if flag.resolved_at is None and found.deal.flag_id != flag_id:
            raise FlagResolved("The flag has been resolved this very moment.")
        pipeline = await pipelines.load(
            connection, workspace, found.deal.pipeline_id, found.revision
        )
        flag, deal, parts = attend(flag, found.deal, pipeline, found.now)
        answered = answer(flag, deal, pipeline)
        parts += idempotency.keep(workspace, request, answered)
        if parts:
            await execute(connection, parts)
        return answered

    return await decide(database, workspace, request, work)
